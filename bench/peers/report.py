#!/usr/bin/env python3
"""The report of a comparison: one HTML page with its pictures in it, and a Markdown table. Needs Python alone.

    report.py comparison.json [--stages bench.json] [--html page.html] [--markdown table.md]

comparison.json is what compare.py wrote, bench.json what `blockmoe bench --stages --json` wrote on the same machine.
"""

import argparse
import html
import json
import math
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

OURS = "blockmoe"
PARTS = {"whole": "the whole layer", "experts": "without routing", "products": "the two products alone"}
ORDER = ("deepgemm_products", "deepgemm_mega", "sglang_deepgemm", "sglang_triton", "vllm_triton", "flashinfer_cutlass", "blockmoe_portable")
STAGE_NAMES = {"route": "route", "pack": "pack", "gemm1": "first product, SwiGLU", "gemm2": "second product", "combine": "combine"}


# --- figures -------------------------------------------------------------------------------------------------------------


class Figures:
    """The rows by T, and the peers in the order of the pictures."""

    def __init__(self, comparison: dict[str, Any]) -> None:
        self.about = comparison
        self.rows = sorted(comparison["rows"], key=lambda row: row["T"])
        self.ran = {name: peer for name, peer in comparison["peers"].items() if "why_not" not in peer}
        seen = {name for row in self.rows for name in row["peer_us"]}
        known = [name for name in ORDER if name in seen]
        self.peers = known + sorted(seen - set(known))

    def title(self, name: str) -> str:
        return str(self.ran.get(name, {}).get("title", name))

    def part(self, name: str) -> str:
        return str(self.ran.get(name, {}).get("part", "whole"))

    def us(self, name: str) -> list[tuple[float, float]]:
        return [(row["T"], row["peer_us"][name]) for row in self.rows if name in row["peer_us"]]

    def to_ours(self, row: dict[str, Any], name: str) -> float:
        """A peer's time as a multiple of ours in the same process."""
        own = row.get("peers", {}).get(name)
        return row["peer_us"][name] / (own["ours_us"] if own else row["us"])

    def best_whole(self, row: dict[str, Any]) -> tuple[str, float] | None:
        """The fastest other package that computes the whole layer, and its multiple of ours."""
        others = [n for n in row["peer_us"] if self.part(n) == "whole" and not n.startswith("blockmoe")]
        if not others:
            return None
        best = min(others, key=lambda name: self.to_ours(row, name))
        return best, self.to_ours(row, best)


def microseconds(us: float) -> str:
    return f"{us:.1f}" if us < 100 else f"{us:.0f}"


# --- Markdown ------------------------------------------------------------------------------------------------------------


def to_markdown(figures: Figures) -> str:
    about = figures.about
    machine = about["machine"]
    lines = [f"{machine['gpu']}, driver {machine['driver']}, CUDA {machine['cuda']}; {about['date'][:10]}, commit {about['commit'] or 'not given'}", ""]
    lines += ["Microseconds; in brackets the multiple of ours in the same process.", ""]
    heads = ["T (experts, rows)", "floor", OURS, *(f"{figures.title(name)}, {PARTS[figures.part(name)]}" for name in figures.peers)]
    lines += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in figures.rows:
        cells = [f"{row['T']} ({row['active_experts']}, {row['rows']})", microseconds(row["floor_us"]), f"**{microseconds(row['us'])}**"]
        for name in figures.peers:
            us = row["peer_us"].get(name)
            cells.append("" if us is None else f"{microseconds(us)} ({figures.to_ours(row, name):.2f})")
        lines.append("| " + " | ".join(cells) + " |")
    lines += [""] + [f"- {note}" for note in about["notes"]]
    return "\n".join(lines).rstrip() + "\n"


# --- SVG -----------------------------------------------------------------------------------------------------------------


def escape(text: object) -> str:
    return html.escape(str(text), quote=True)


def tag(name: str, content: str = "", **attributes: object) -> str:
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items() if value is not None)
    return f"<{name}{given}>{content}</{name}>" if content else f"<{name}{given}/>"


def number(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


class Scale:
    """A logarithmic or linear axis from figures to pixels."""

    def __init__(self, low: float, high: float, begin: float, end: float, log: bool = True) -> None:
        self.low, self.high, self.begin, self.end, self.log = low, high, begin, end, log

    def __call__(self, value: float) -> float:
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.begin + share * (self.end - self.begin)


class Chart:
    """A plot area with axes; what is drawn is clipped to nothing: scales are made to fit."""

    WIDTH, LEFT, TOP, BOTTOM = 960, 64, 16, 44

    def __init__(self, x: tuple[float, float], y: tuple[float, float], *, height: int = 420, right: int = 210, log_y: bool = True) -> None:
        self.height = height
        self.right_edge = self.WIDTH - right
        self.x = Scale(*x, self.LEFT, self.right_edge)
        self.y = Scale(*y, height - self.BOTTOM, self.TOP, log_y)
        self.body: list[str] = []

    def axes(self, x_ticks: Iterable[float], y_ticks: Iterable[float], x_title: str, y_title: str, y_text: Callable[[float], str]) -> None:
        bottom = self.height - self.BOTTOM
        for tick in x_ticks:
            at = number(self.x(tick))
            self.body.append(tag("line", x1=at, x2=at, y1=self.TOP, y2=bottom, class_="grid"))
            self.body.append(tag("text", thousands(tick), x=at, y=bottom + 17, class_="tick", text_anchor="middle"))
        for tick in y_ticks:
            at = self.y(tick)
            self.body.append(tag("line", x1=self.LEFT, x2=self.right_edge, y1=number(at), y2=number(at), class_="grid"))
            self.body.append(tag("text", y_text(tick), x=self.LEFT - 8, y=number(at + 4), class_="tick", text_anchor="end"))
        middle = (self.LEFT + self.right_edge) / 2
        self.body.append(tag("text", escape(x_title), x=number(middle), y=self.height - 6, class_="axis", text_anchor="middle"))
        turned = f"translate(14 {number((self.TOP + bottom) / 2)}) rotate(-90)"
        self.body.append(tag("text", escape(y_title), transform=turned, class_="axis", text_anchor="middle"))

    def line(self, points: list[tuple[float, float]], class_: str, dots: bool = True, hint: str = "") -> None:
        at = [(self.x(px), self.y(py)) for px, py in points]
        path = "M" + "L".join(f"{number(px)} {number(py)}" for px, py in at)
        self.body.append(tag("path", d=path, class_=f"line {class_}"))
        if dots:
            for (px, py), (value_x, value_y) in zip(at, points, strict=True):
                said = tag("title", escape(f"{hint}, T = {thousands(value_x)}: {value_y:.4g}"))
                self.body.append(tag("circle", said, cx=number(px), cy=number(py), r=3, class_=f"dot {class_}"))

    def labels(self, wanted: list[tuple[float, str, str]]) -> None:
        """Names at the right end of lines (y in pixels, text, class), pushed apart where they would touch."""
        gap, placed = 17.0, sorted(wanted)
        at = [y for y, _, _ in placed]
        for i in range(1, len(at)):
            at[i] = max(at[i], at[i - 1] + gap)
        over = at[-1] - (self.height - self.BOTTOM) if at else 0
        if over > 0:
            at[-1] -= over
            for i in range(len(at) - 2, -1, -1):
                at[i] = min(at[i], at[i + 1] - gap)
        for y, (line_y, text, class_) in zip(at, placed, strict=True):
            x = self.right_edge
            self.body.append(tag("path", d=f"M{x + 3} {number(line_y)}L{x + 12} {number(y)}", class_=f"lead {class_}"))
            self.body.append(tag("text", escape(text), x=x + 16, y=number(y + 4), class_=f"name {class_}"))

    def svg(self, title: str) -> str:
        return tag("svg", tag("title", escape(title)) + "".join(self.body), viewBox=f"0 0 {self.WIDTH} {self.height}", role="img")


def thousands(value: float) -> str:
    return f"{value:,.0f}".replace(",", "\u2009") if value >= 10000 else f"{value:.0f}"


def powers(low: float, high: float) -> list[float]:
    return [2.0**k for k in range(math.floor(math.log2(low)), math.ceil(math.log2(high)) + 1) if low <= 2.0**k <= high]


def one_two_five(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [m * 10.0**d for d in decades for m in (1, 2, 5) if low <= m * 10.0**d <= high]


def class_of(figures: Figures, name: str) -> str:
    return f"p{figures.peers.index(name) % 8}"


def token_range(figures: Figures) -> tuple[float, float]:
    return figures.rows[0]["T"], max(figures.rows[-1]["T"], 2 * figures.rows[0]["T"])


def x_ticks(figures: Figures) -> list[float]:
    return powers(*token_range(figures))[::2]


# --- the pictures --------------------------------------------------------------------------------------------------------


def latency(figures: Figures) -> str:
    every = [us for row in figures.rows for us in (row["us"], row["floor_us"], *row["peer_us"].values()) if us > 0]
    low, high = min(every) / 1.15, max(every) * 1.15
    chart = Chart(token_range(figures), (low, high), height=520)
    chart.axes(x_ticks(figures), one_two_five(low, high), "tokens in the call", "microseconds", thousands)
    floor = [(row["T"], row["floor_us"]) for row in figures.rows if row["floor_us"] > 0]
    if floor:
        down = f"L{number(chart.x(floor[-1][0]))} {number(chart.y(low))}L{number(chart.x(floor[0][0]))} {number(chart.y(low))}Z"
        area = "M" + "L".join(f"{number(chart.x(t))} {number(chart.y(us))}" for t, us in floor) + down
        chart.body.append(tag("path", d=area, class_="floor-area"))
        chart.line(floor, "floor", dots=False)
    names = [(chart.y(floor[-1][1]), "floor", "floor")] if floor else []
    for name in figures.peers:
        points = figures.us(name)
        chart.line(points, class_of(figures, name), hint=figures.title(name))
        names.append((chart.y(points[-1][1]), figures.title(name), class_of(figures, name)))
    ours = [(row["T"], row["us"]) for row in figures.rows]
    chart.line(ours, "ours", hint=OURS)
    names.append((chart.y(ours[-1][1]), OURS, "ours"))
    chart.labels(names)
    return chart.svg("Latency of one call against its tokens")


def ratios(figures: Figures) -> str:
    lines = {name: [(row["T"], figures.to_ours(row, name)) for row in figures.rows if name in row["peer_us"]] for name in figures.peers}
    every = [ratio for points in lines.values() for _, ratio in points]
    low, high = min(0.9, *every) / 1.04, max(1.3, *every) * 1.06
    chart = Chart(token_range(figures), (low, high))
    ticks = [t for t in (0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.4, 1.6, 2, 2.5, 3, 4, 5, 7, 10) if low <= t <= high]
    chart.axes(x_ticks(figures), ticks, "tokens in the call", "multiple of our time", lambda tick: f"{tick:g}")
    chart.line([(token_range(figures)[0], 1.0), (token_range(figures)[1], 1.0)], "ours", dots=False)
    names = [(chart.y(1.0), OURS, "ours")]
    for name, points in lines.items():
        chart.line(points, class_of(figures, name), hint=figures.title(name))
        names.append((chart.y(points[-1][1]), figures.title(name), class_of(figures, name)))
    chart.labels(names)
    return chart.svg("Each package's time as a multiple of ours")


def best_peer(figures: Figures) -> str:
    """A bar a T: how many times our time the fastest other whole layer takes."""
    bars = [(row["T"], *best) for row in figures.rows if (best := figures.best_whole(row)) is not None]
    if not bars:
        return ""
    high = max(1.25, *(ratio for _, _, ratio in bars)) * 1.08
    low = min(0.9, *(ratio for _, _, ratio in bars))
    chart = Chart((1, 2), (low, high), height=320, log_y=False)
    room = (chart.right_edge - chart.LEFT) / len(bars)
    ticks = [t / 10 for t in range(math.ceil(low * 10), math.floor(high * 10) + 1)]
    step = max(1, math.ceil(len(ticks) / 7))
    chart.axes([], [t for i, t in enumerate(ticks) if i % step == 0 or t == 1.0], "tokens in the call", "best other / ours", lambda tick: f"{tick:.1f}")
    base = chart.y(1.0)
    for i, (tokens, name, ratio) in enumerate(bars):
        x, y = chart.LEFT + i * room, chart.y(ratio)
        said = tag("title", escape(f"T = {tokens}: {figures.title(name)} takes {ratio:.3f} of our time"))
        chart.body.append(tag("rect", said, x=number(x + room * 0.14), width=number(room * 0.72), y=number(min(y, base)), height=number(max(1.0, abs(base - y))), class_=f"bar {class_of(figures, name)}"))
        turned = f"translate({number(x + room / 2 + 4)} {chart.height - chart.BOTTOM + 6}) rotate(-90)"
        chart.body.append(tag("text", thousands(tokens), transform=turned, class_="tick small", text_anchor="end"))
    chart.body.append(tag("line", x1=chart.LEFT, x2=chart.right_edge, y1=number(base), y2=number(base), class_="line ours"))
    used = [name for name in figures.peers if any(name == best for _, best, _ in bars)]
    chart.labels([(chart.TOP + 24 + 20 * i, figures.title(name), class_of(figures, name)) for i, name in enumerate(used)] + [(base, f"{OURS} = 1", "ours")])
    return chart.svg("The fastest other whole layer as a multiple of ours")


def stage_shares(bench: dict[str, Any]) -> str:
    rows = [row for row in sorted(bench["rows"], key=lambda row: row["T"]) if row.get("stages_us")]
    if not rows:
        return ""
    stages = list(dict.fromkeys(name for row in rows for name in row["stages_us"]))
    height, left, width = 40 + 30 * len(rows), 64, 700
    body = []
    for i, stage in enumerate(stages):
        x = left + i * 170
        body.append(tag("rect", x=x, y=4, width=12, height=12, rx=2, class_=f"bar s{i}"))
        body.append(tag("text", escape(STAGE_NAMES.get(stage, stage)), x=x + 18, y=14, class_="name plain"))
    for i, row in enumerate(rows):
        y, x, total = 34 + 30 * i, float(left), sum(row["stages_us"].values())
        body.append(tag("text", thousands(row["T"]), x=left - 8, y=y + 15, class_="tick", text_anchor="end"))
        for k, stage in enumerate(stages):
            us = row["stages_us"].get(stage, 0.0)
            wide = width * us / total
            said = tag("title", escape(f"T = {row['T']}, {STAGE_NAMES.get(stage, stage)}: {us:.1f} us alone"))
            body.append(tag("rect", said, x=number(x), y=y, width=number(max(0.0, wide - 1.5)), height=22, class_=f"bar s{k}"))
            if wide > 46:
                body.append(tag("text", f"{100 * us / total:.0f}%", x=number(x + wide / 2), y=y + 15, class_="in-bar", text_anchor="middle"))
            x += wide
        body.append(tag("text", f"{microseconds(total)} us, one call {microseconds(row['us'])}", x=left + width + 10, y=y + 15, class_="tick"))
    return tag("svg", tag("title", "Shares of the stages") + "".join(body), viewBox=f"0 0 {Chart.WIDTH} {height + 6}", role="img")


def roofline(figures: Figures) -> str:
    ceilings = figures.about["ceilings"]
    bandwidth, peak = ceilings["read_gbps"], ceilings["fp8_tflops"]
    if not bandwidth or not peak:
        return ""

    def intensity(row: dict[str, Any]) -> float:
        return 2.0 * row["rows"] / row["active_experts"]  # flops a byte of weights: two for each row that shares it

    rows = [row for row in figures.rows if row["active_experts"] and row["rows"]]
    low, high = intensity(rows[0]) / 1.3, max(intensity(row) for row in rows) * 1.3
    ridge = peak * 1e3 / bandwidth
    bottom = min(row["tflops"] for row in rows) / 1.6
    chart = Chart((low, high), (bottom, peak * 1.35))
    chart.axes(one_two_five(low, high), one_two_five(bottom, peak * 1.35), "flops a byte of weights", "TFLOPS", thousands)
    roof = [(low, low * bandwidth * 1e-3)] + ([(ridge, peak)] if low < ridge < high else []) + [(high, min(peak, high * bandwidth * 1e-3))]
    roof = [(px, max(py, bottom)) for px, py in roof]
    chart.line(roof, "floor", dots=False)
    names = [(chart.y(roof[-1][1]), f"{peak:.0f} TFLOPS, {bandwidth:.0f} GB/s", "floor")]
    shown = [name for name in figures.peers if figures.part(name) == "whole" and not name.startswith("blockmoe")]
    for name in shown:
        points = [(intensity(row), row["tflops"] / figures.to_ours(row, name)) for row in rows if name in row["peer_us"]]
        points = sorted((px, max(py, bottom)) for px, py in points)
        if points:
            chart.line(points, class_of(figures, name), hint=figures.title(name))
            names.append((chart.y(points[-1][1]), figures.title(name), class_of(figures, name)))
    ours = sorted((intensity(row), row["tflops"]) for row in rows)
    chart.line(ours, "ours", hint=OURS)
    names.append((chart.y(ours[-1][1]), OURS, "ours"))
    chart.labels(names)
    return chart.svg("Roofline")


# --- the page ------------------------------------------------------------------------------------------------------------

STYLE = """
:root { color-scheme: light dark; --paper: #fcfcfb; --ink: #1c1e21; --soft: #5d636b; --rule: #e3e4e2; --card: #ffffff; --ours: #d1340f; --floor: #8b9199;
  --c0: #1f6fb4; --c1: #2a8a4a; --c2: #8250c4; --c3: #b0670a; --c4: #0c8f95; --c5: #7a7f87; --c6: #b83280; --c7: #6d7a12;
  --s0: #9db7cf; --s1: #c9b58f; --s2: #1f6fb4; --s3: #0c8f95; --s4: #b99ad6; }
@media (prefers-color-scheme: dark) { :root { --paper: #15171a; --ink: #e8e9eb; --soft: #a0a6ae; --rule: #2f3339; --card: #1b1e22; --ours: #ff7a52; --floor: #7d848d;
  --c0: #6bb1ee; --c1: #6ccf8c; --c2: #bb98f2; --c3: #e5a652; --c4: #57cdd3; --c5: #9aa0a8; --c6: #ee86c0; --c7: #bfcc5a;
  --s0: #54708a; --s1: #8a7648; --s2: #3f8fd4; --s3: #28a3a9; --s4: #8a6bb0; } }
@media print { :root { --paper: #fff; --card: #fff; --ink: #000; --soft: #444; } body { font-size: 10pt; max-width: none; padding: 0; }
  figure, tr { break-inside: avoid; } h2 { break-after: avoid; } .scroll { overflow: visible; } table { font-size: 7.5pt; } th, td { padding: 2px 4px; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 40px 24px 64px; max-width: 1080px; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 1.25rem; margin: 48px 0 4px; }
p { margin: 4px 0 14px; max-width: 76ch; } .soft { color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(220px, 1fr)); gap: 14px; margin: 26px 0 8px; }
.tile { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 14px 18px; }
.tile b { display: block; font-size: 1.75rem; line-height: 1.2; font-variant-numeric: tabular-nums; } .tile span { color: var(--soft); font-size: 0.9rem; }
figure { margin: 12px 0 0; background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 14px 14px 8px; }
svg { display: block; width: 100%; height: auto; overflow: visible; font-family: inherit; }
.grid { stroke: var(--rule); } .tick { fill: var(--soft); font-size: 12px; } .small { font-size: 11px; } .axis { fill: var(--soft); font-size: 12.5px; }
.line { fill: none; stroke: var(--c); stroke-width: 1.8; stroke-linejoin: round; } .dot { fill: var(--c); } .name { fill: var(--c); font-size: 13px; } .plain { fill: var(--ink); }
.lead { fill: none; stroke: var(--c); opacity: 0.6; } .bar { fill: var(--c); } .in-bar { fill: #fff; font-size: 11.5px; font-weight: 600; }
.floor { --c: var(--floor); } .line.floor { stroke-dasharray: 5 4; } .floor-area { fill: var(--floor); opacity: 0.1; }
.ours { --c: var(--ours); } .line.ours { stroke-width: 3; } .name.ours { font-weight: 700; }
.p0 { --c: var(--c0); } .p1 { --c: var(--c1); } .p2 { --c: var(--c2); } .p3 { --c: var(--c3); } .p4 { --c: var(--c4); } .p5 { --c: var(--c5); } .p6 { --c: var(--c6); } .p7 { --c: var(--c7); }
.s0 { --c: var(--s0); } .s1 { --c: var(--s1); } .s2 { --c: var(--s2); } .s3 { --c: var(--s3); } .s4 { --c: var(--s4); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: 0.875rem; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 10px; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; } th { vertical-align: bottom; white-space: normal; font-weight: 600; }
td:first-child, th:first-child { text-align: left; } td.o { color: var(--ours); font-weight: 700; } td i { color: var(--soft); font-style: normal; }
table.words td { text-align: left; white-space: normal; vertical-align: top; } table.words th { text-align: left; }
ul { padding-left: 20px; max-width: 90ch; }
"""


def table(figures: Figures) -> str:
    heads = ["T", "experts", "rows", "floor", OURS, *map(figures.title, figures.peers)]
    head = tag("tr", "".join(tag("th", escape(text), scope="col") for text in heads))
    body = ""
    for row in figures.rows:
        cells = [tag("td", thousands(row["T"])), tag("td", str(row["active_experts"])), tag("td", thousands(row["rows"]))]
        cells += [tag("td", microseconds(row["floor_us"])), tag("td", microseconds(row["us"]), class_="o")]
        for name in figures.peers:
            us = row["peer_us"].get(name)
            said = "&ndash;" if us is None else f"{microseconds(us)} <i>{figures.to_ours(row, name):.2f}</i>"
            cells.append(tag("td", said))
        body += tag("tr", "".join(cells))
    return tag("div", tag("table", tag("thead", head) + tag("tbody", body)), class_="scroll")


def who(figures: Figures) -> str:
    rows = tag("tr", "".join(tag("th", text) for text in ("package", "what is timed", "takes", "relative error", "version")))
    for name in figures.peers:
        peer = figures.ran.get(name, {})
        errors = [row["peers"][name]["relative_error"] for row in figures.rows if name in row.get("peers", {})]
        error = f"{min(errors):.4f} to {max(errors):.4f}" if errors else ""
        cells = (figures.title(name), PARTS[figures.part(name)], peer.get("takes", ""), error, peer.get("versions", ""))
        rows += tag("tr", "".join(tag("td", escape(cell)) for cell in cells))
    return tag("div", tag("table", rows, class_="words"), class_="scroll")


def tiles(figures: Figures) -> str:
    best = [found for row in figures.rows if (found := figures.best_whole(row)) is not None]
    shown = []
    if best:
        ahead = sum(ratio > 1 for _, ratio in best)
        middle = sorted(ratio for _, ratio in best)[len(best) // 2]
        shown.append((f"{ahead} of {len(best)}", "call sizes at which no other whole layer is faster"))
        shown.append((f"{middle:.2f}×", "what the fastest other whole layer takes, in the median"))
    close = min(figures.rows, key=lambda row: row["ratio"] or math.inf)
    shown.append((f"{close['ratio']:.2f}×", f"of the floor at T = {thousands(close['T'])}, the closest"))
    fast = max(figures.rows, key=lambda row: row["tflops"])
    shown.append((f"{fast['tflops']:.0f} TFLOPS", f"at T = {thousands(fast['T'])}, the whole call"))
    return tag("div", "".join(tag("div", tag("b", escape(value)) + tag("span", escape(text)), class_="tile") for value, text in shown), class_="tiles")


def to_html(figures: Figures, bench: dict[str, Any] | None) -> str:
    about, machine = figures.about, figures.about["machine"]
    parts = [
        tag("h1", "blockmoe beside other packages"),
        tag("p", escape(f"One call of DeepSeek-V3's FP8 MoE layer on one of eight ranks: 32 of 256 experts, hidden 7168, intermediate 2048, top 8. {machine['gpu']}, driver {machine['driver']}, CUDA {machine['cuda']}; {about['date'][:10]}, commit {about['commit'] or 'not given'}."), class_="soft"),
    ]  # fmt: skip
    if about.get("void"):
        parts.append(tag("p", "This run is void: the card did not reach the rates that it should. See the notes."))
    parts.append(tiles(figures))

    def picture(title: str, words: str, svg: str) -> None:
        if svg:
            parts.extend((tag("h2", escape(title)), tag("p", escape(words), class_="soft"), tag("figure", svg)))

    picture("Time of one call", "Both axes logarithmic. The floor is the longer of reading the active experts' weights with the best plain reader and of the flops at the rate of a dense FP8 product. Packages differ in what they include: see below.", latency(figures))
    picture("Against ours", "Each time as a multiple of ours in the same process; above 1 is slower than blockmoe.", ratios(figures))
    picture("Against the best", "The fastest other package that computes the whole layer, as a multiple of ours. Bars above the line: blockmoe is faster.", best_peer(figures))
    if bench is not None:
        picture("Where our time goes", "Each stage timed alone, as a share of their sum; stages overlap in the call, so they add up to more than it takes. From a run of its own, on the same machine.", stage_shares(bench))
    picture("Roofline", "Rate of the whole call against the work for each byte of weights that it must read.", roofline(figures))
    parts += [tag("h2", "All figures"), tag("p", "Microseconds; in grey the multiple of ours in the same process.", class_="soft"), table(figures)]
    parts += [tag("h2", "What each one does"), who(figures)]
    if about["notes"]:
        parts += [tag("h2", "Notes"), tag("ul", "".join(tag("li", escape(note)) for note in about["notes"]))]
    parts += [tag("h2", "How it was measured"), tag("p", escape(about["method"])), tag("p", escape(f"Routing: {about['routing']}. Command: {about['command']}"), class_="soft")]
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">' + tag("title", "blockmoe beside other packages") + tag("style", STYLE)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(parts) + "\n</body></html>\n"


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("comparison", type=pathlib.Path)
    options.add_argument("--stages", type=pathlib.Path)
    options.add_argument("--html", type=pathlib.Path)
    options.add_argument("--markdown", type=pathlib.Path)
    given = options.parse_args(arguments)
    figures = Figures(json.loads(given.comparison.read_text()))
    if not figures.rows:
        options.error(f"{given.comparison}: no row was measured")
    bench = json.loads(given.stages.read_text()) if given.stages else None
    if given.html:
        given.html.write_text(to_html(figures, bench))
    if given.markdown:
        given.markdown.write_text(to_markdown(figures))
    if not given.html and not given.markdown:
        print(to_markdown(figures), end="")


if __name__ == "__main__":
    main()
