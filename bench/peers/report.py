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
import re
from collections.abc import Callable, Iterable
from typing import Any

from compare import ROW_FLOPS

OURS = "blockmoe"
PARTS = {"whole": "the whole layer", "experts": "without routing", "products": "the two products alone"}
ORDER = ("deepgemm_products", "deepgemm_mega", "sglang_deepgemm", "sglang_triton", "vllm_triton", "flashinfer_cutlass", "blockmoe_portable")
INCLUDES = {
    "deepgemm_products": "Two grouped products on rows that lie ready, masked or contiguous: the faster. No routing, gathering, SwiGLU or combine.",
    "deepgemm_mega": "SGLang's router, copies into its buffer, then one kernel for the rest. On one rank, so that nothing is sent.",
    "sglang_deepgemm": "SGLang's router, scatter, DeepGEMM's products with SwiGLU and quantisation between them, sum. Masked or compact: the faster. "
    "Nothing is known on the host.",
    "sglang_triton": "SGLang's router, align, Triton products with SwiGLU and quantisation between them, sum. The best of its tuned tiles.",
    "vllm_triton": "Its own router, quantisation, align, Triton products, sum.",
    "flashinfer_cutlass": "Picks and weights are given; it quantises the activations, then all that follows. Its block-scale path has no tactics to tune.",
    "blockmoe_portable": "The whole layer on mma.sync: what other NVIDIA GPUs get.",
}
WHY_NOT = {"vllm_triton": "Its wheel has more than a gigabyte and pins a PyTorch of its own, so it needs an environment to itself."}
STAGES = {"route": "route", "pack": "pack", "gemm1": "first product, SwiGLU", "gemm2": "second product", "combine": "combine"}


# --- figures -------------------------------------------------------------------------------------------------------------


class Figures:
    """The rows by T, and the peers in the order of the pictures. What was not measured is missing, or 0 where it is ours."""

    def __init__(self, comparison: dict[str, Any]) -> None:
        self.about = comparison
        self.rows = sorted(comparison["rows"], key=lambda row: row["T"])
        self.ran = {name: peer for name, peer in comparison["peers"].items() if "why_not" not in peer}
        self.why_not = {name: peer["why_not"] for name, peer in comparison["peers"].items() if "why_not" in peer}
        seen = {name for row in self.rows for name in row["peer_us"]}
        known = [name for name in ORDER if name in seen]
        self.peers = known + sorted(seen - set(known))

    def title(self, name: str) -> str:
        return str(self.ran.get(name, {}).get("title", name))

    def part(self, name: str) -> str:
        return str(self.ran.get(name, {}).get("part", "whole"))

    def us(self, name: str) -> list[tuple[float, float]]:
        return [(row["T"], row["peer_us"][name]) for row in self.rows if name in row["peer_us"]]

    def ours(self) -> list[tuple[float, float]]:
        return [(row["T"], row["us"]) for row in self.rows if row["us"]]

    def to_ours(self, row: dict[str, Any], name: str) -> float | None:
        """A peer's time as a multiple of ours in the same process, else of ours beside the others."""
        own = row.get("peers", {}).get(name, {}).get("ours_us") or row["us"]
        return row["peer_us"][name] / own if own and name in row["peer_us"] else None

    def ratios(self, name: str) -> list[tuple[float, float]]:
        return [(row["T"], ratio) for row in self.rows if (ratio := self.to_ours(row, name)) is not None]

    def best_whole(self, row: dict[str, Any]) -> tuple[str, float] | None:
        """The fastest other package that computes the whole layer, and its multiple of ours."""
        others = [n for n in row["peer_us"] if self.part(n) == "whole" and not n.startswith("blockmoe")]
        known = [(name, ratio) for name in others if (ratio := self.to_ours(row, name)) is not None]
        return min(known, key=lambda pair: pair[1], default=None)

    def notes(self) -> list[str]:
        """Failures that differ only in T and figures are one note; what did not run at all is told elsewhere."""
        groups: dict[tuple[str, ...], list[tuple[int, str]]] = {}
        said: list[str] = []
        for note in self.about["notes"]:
            match = re.fullmatch(r"(.*) at T = (\d+)( without '.*', which failed)?: (.*)", note, re.DOTALL)
            if match:
                what, tokens, without, why = match.groups(default="")
                groups.setdefault((what, without, re.sub(r"[\d.]+", "#", why)), []).append((int(tokens), why))
            elif not any(note.startswith(f"{name} did not run") for name in self.why_not):
                said.append(note)
        for (what, without, _), cases in groups.items():
            tokens = ", ".join(str(t) for t, _ in sorted(cases))
            why = cases[0][1] + (" (the first of them)" if len({text for _, text in cases}) > 1 else "")
            name = what.partition(" failed")[0]
            said.append(f"{what.replace(name, self.title(name), 1)} at T = {tokens}{without}: {why}")
        return said


def microseconds(us: float) -> str:
    return f"{us:.1f}" if us < 100 else f"{us:.0f}"


def our_time(row: dict[str, Any]) -> str:
    return microseconds(row["us"]) if row["us"] else "–"


# --- Markdown ------------------------------------------------------------------------------------------------------------


def to_markdown(figures: Figures) -> str:
    about = figures.about
    machine = about["machine"]
    lines = [f"{machine['gpu']}, driver {machine['driver']}, CUDA {machine['cuda']}; {about['date'][:10]}, commit {about['commit'] or 'not given'}", ""]
    lines += ["Microseconds; in brackets the multiple of ours in the same process.", ""]
    heads = ["T (experts, rows)", "floor", OURS, *(f"{figures.title(name)}, {PARTS[figures.part(name)]}" for name in figures.peers)]
    lines += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in figures.rows:
        cells = [f"{row['T']} ({row['active_experts']}, {row['rows']})", microseconds(row["floor_us"]), f"**{our_time(row)}**"]
        for name in figures.peers:
            us, ratio = row["peer_us"].get(name), figures.to_ours(row, name)
            cells.append("" if us is None else microseconds(us) if ratio is None else f"{microseconds(us)} ({ratio:.2f})")
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *(f"- {figures.title(name)} did not run: {why}" for name, why in figures.why_not.items())]
    lines += [f"- {note}" for note in figures.notes()]
    return "\n".join(lines).rstrip() + "\n"


# --- SVG -----------------------------------------------------------------------------------------------------------------


def escape(text: object) -> str:
    return html.escape(str(text), quote=True)


def tag(name: str, content: str = "", **attributes: object) -> str:
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items() if value is not None)
    return f"<{name}{given}>{content}</{name}>" if content or name == "td" else f"<{name}{given}/>"


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
    """A plot area with axes. Scales are made to fit, so that nothing is clipped."""

    WIDTH, LEFT, TOP, BOTTOM = 960, 60, 16, 46

    def __init__(self, x: tuple[float, float], y: tuple[float, float], *, height: int = 420, right: float = 12, log_y: bool = True) -> None:
        self.height = height
        self.right_edge = self.WIDTH - right
        self.x = Scale(*x, self.LEFT, self.right_edge)
        self.y = Scale(*y, height - self.BOTTOM, self.TOP, log_y)
        self.body: list[str] = []

    def text(self, said: str, x: float, y: float, class_: str, anchor: str = "start") -> None:
        self.body.append(tag("text", escape(said), x=number(x), y=number(y), class_=class_, text_anchor=anchor))

    def axes(self, x_ticks: Iterable[float], y_ticks: Iterable[float], x_title: str, y_title: str, y_text: Callable[[float], str]) -> None:
        bottom = self.height - self.BOTTOM
        for tick in x_ticks:
            at = number(self.x(tick))
            self.body.append(tag("line", x1=at, x2=at, y1=self.TOP, y2=bottom, class_="grid"))
            self.text(thousands(tick), self.x(tick), bottom + 18, "tick", "middle")
        taken: list[float] = []  # the earlier a tick, the more it matters: one whose text would touch another's is left out
        for tick in y_ticks:
            at = self.y(tick)
            if any(abs(at - other) < 17 for other in taken):
                continue
            taken.append(at)
            self.body.append(tag("line", x1=self.LEFT, x2=number(self.right_edge), y1=number(at), y2=number(at), class_="grid"))
            self.text(y_text(tick), self.LEFT - 8, at + 4, "tick", "end")
        self.text(x_title, (self.LEFT + self.right_edge) / 2, self.height - 6, "axis", "middle")
        turned = f"translate(13 {number((self.TOP + bottom) / 2)}) rotate(-90)"
        self.body.append(tag("text", escape(y_title), transform=turned, class_="axis", text_anchor="middle"))

    def line(self, points: list[tuple[float, float]], class_: str, said: Callable[[float, float], str] | None = None) -> None:
        at = [(self.x(px), self.y(py)) for px, py in points]
        path = "M" + "L".join(f"{number(px)} {number(py)}" for px, py in at)
        self.body.append(tag("path", d=path, class_=f"line {class_}"))
        if said is not None:
            for (px, py), (value_x, value_y) in zip(at, points, strict=True):
                hint = tag("title", escape(said(value_x, value_y)))
                self.body.append(tag("circle", hint, cx=number(px), cy=number(py), r=2.6, class_=f"dot {class_}"))

    def labels(self, wanted: list[tuple[float, str, str]]) -> None:
        """Names at the right end of lines (y in pixels, text, class), pushed apart where they would touch."""
        gap, placed = 18.0, sorted(wanted)
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
            self.body.append(tag("path", d=f"M{number(x + 4)} {number(line_y)}L{number(x + 13)} {number(y)}", class_=f"lead {class_}"))
            self.text(text, x + 17, y + 4.5, f"name {class_}")

    def keys(self, wanted: list[tuple[str, str]]) -> None:
        """Squares with names, in a row above the plot."""
        x = float(self.LEFT)
        for text, class_ in wanted:
            self.body.append(tag("rect", x=number(x), y=3, width=12, height=12, rx=3, class_=f"bar {class_}"))
            self.text(text, x + 18, 14, f"name {class_}")
            x += 40 + text_width(text) * (1.12 if class_ == "ours" else 1.0)

    def svg(self, title: str) -> str:
        return tag("svg", tag("title", escape(title)) + "".join(self.body), viewBox=f"0 0 {self.WIDTH} {self.height}", role="img")


def text_width(text: str) -> float:
    """Of a name, in pixels, on the safe side for the fonts of the page."""
    return sum(5.0 if c in " .,:;-ijltfr()" else 10.2 if c.isupper() or c in "mw" else 8.4 for c in text)


def room_for(names: Iterable[str]) -> float:
    """Pixels right of a plot for the longest of the names at its lines."""
    return 24 + max(map(text_width, names), default=0)


def thousands(value: float) -> str:
    return f"{value:,.0f}".replace(",", "\u2009") if value >= 10000 else f"{value:.0f}"


def powers(low: float, high: float) -> list[float]:
    return [2.0**k for k in range(math.floor(math.log2(low)), math.ceil(math.log2(high)) + 1) if low <= 2.0**k <= high]


def one_two_five(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [m * 10.0**d for d in decades for m in (1, 2, 5) if low <= m * 10.0**d <= high]


def class_of(figures: Figures, name: str) -> str:
    """A package's colour: the same on every page."""
    return f"p{ORDER.index(name) if name in ORDER else 7}"


def token_range(figures: Figures) -> tuple[float, float]:
    return figures.rows[0]["T"], max(figures.rows[-1]["T"], 2 * figures.rows[0]["T"])


def x_ticks(figures: Figures) -> list[float]:
    return powers(*token_range(figures))[::2]


# --- the pictures --------------------------------------------------------------------------------------------------------


def latency(figures: Figures) -> str:
    floor = [(row["T"], row["floor_us"]) for row in figures.rows if row["floor_us"] > 0]
    lines = [("floor", "floor", floor)]
    lines += [(figures.title(name), class_of(figures, name), figures.us(name)) for name in figures.peers]
    lines = [line for line in [*lines, (OURS, "ours", figures.ours())] if line[2]]
    every = [us for _, _, points in lines for _, us in points]
    low, high = min(every) / 1.15, max(every) * 1.15
    chart = Chart(token_range(figures), (low, high), height=540, right=room_for(name for name, _, _ in lines))
    chart.axes(x_ticks(figures), one_two_five(low, high), "tokens in the call", "microseconds", thousands)
    if floor:
        down = f"L{number(chart.x(floor[-1][0]))} {number(chart.y(low))}L{number(chart.x(floor[0][0]))} {number(chart.y(low))}Z"
        area = "M" + "L".join(f"{number(chart.x(t))} {number(chart.y(us))}" for t, us in floor) + down
        chart.body.append(tag("path", d=area, class_="floor-area"))
    for title, class_, points in lines:
        chart.line(points, class_, None if class_ == "floor" else lambda t, us, title=title: f"{title}, T = {thousands(t)}: {microseconds(us)} us")
    chart.labels([(chart.y(points[-1][1]), title, class_) for title, class_, points in lines])
    return chart.svg("Latency of one call against its tokens")


def ratios(figures: Figures) -> str:
    lines = {name: points for name in figures.peers if (points := figures.ratios(name))}
    if not lines:
        return ""
    every = [ratio for points in lines.values() for _, ratio in points]
    low, high = min(0.9, *every) / 1.04, max(1.3, *every) * 1.06
    chart = Chart(token_range(figures), (low, high), height=460, right=room_for([OURS, *map(figures.title, lines)]))
    ticks = [t for t in (1, 2, 3, 0.5, 1.5, 5, 4, 0.75, 1.25, 2.5, 7, 10, 1.75, 0.9, 1.1) if low <= t <= high]
    chart.axes(x_ticks(figures), ticks, "tokens in the call", "multiple of our time", lambda tick: f"{tick:g}")
    chart.line([(token_range(figures)[0], 1.0), (token_range(figures)[1], 1.0)], "ours")
    for name, points in lines.items():
        title = figures.title(name)
        chart.line(points, class_of(figures, name), lambda t, ratio, title=title: f"{title}, T = {thousands(t)}: {ratio:.2f} of our time")
    ends = [(chart.y(points[-1][1]), figures.title(name), class_of(figures, name)) for name, points in lines.items()]
    chart.labels([(chart.y(1.0), OURS, "ours"), *ends])
    return chart.svg("Each package's time as a multiple of ours")


def best_bars(figures: Figures) -> list[tuple[int, str, float]]:
    return [(row["T"], *best) for row in figures.rows if (best := figures.best_whole(row)) is not None]


def best_peer(figures: Figures) -> str:
    """A bar a T: how many times our time the fastest other whole layer takes."""
    bars = best_bars(figures)
    if not bars:
        return ""
    most, least = max(1.2, *(ratio for _, _, ratio in bars)), min(1.0, *(ratio for _, _, ratio in bars))
    room_above = 0.12 * (most - least)  # for the keys and a bar's figure
    chart = Chart((1, 2), (least - (room_above if least < 1 else 0), most + 2 * room_above), height=340, log_y=False)
    room = (chart.right_edge - chart.LEFT) / len(bars)
    ticks = [t / 10 for t in range(math.ceil(least * 10), math.floor(most * 10) + 1)]
    step = max(1, math.ceil(len(ticks) / 7))
    chart.axes([], [t for i, t in enumerate(ticks) if i % step == 0 or t == 1.0], "tokens in the call", "fastest other / ours", lambda tick: f"{tick:.1f}")
    base = chart.y(1.0)
    wide = min(room * 0.76, 60)
    for i, (tokens, name, ratio) in enumerate(bars):
        middle, y = chart.LEFT + (i + 0.5) * room, chart.y(ratio)
        said = tag("title", escape(f"T = {tokens}: {figures.title(name)} takes {ratio:.3f} of our time"))
        chart.body.append(tag("rect", said, x=number(middle - wide / 2), width=number(wide), y=number(min(y, base)), height=number(max(1.0, abs(base - y))), class_=f"bar {class_of(figures, name)}"))
        chart.text(f"{ratio:.2f}", middle, y - 4 if ratio >= 1 else y + 11, "figure", "middle")
        turned = f"translate({number(middle + 4)} {chart.height - chart.BOTTOM + 5}) rotate(-90)"
        chart.body.append(tag("text", str(tokens), transform=turned, class_="tick small", text_anchor="end"))
    chart.body.append(tag("line", x1=chart.LEFT, x2=number(chart.right_edge), y1=number(base), y2=number(base), class_="line ours"))
    used = [name for name in figures.peers if any(name == best for _, best, _ in bars)]
    chart.keys([(f"{OURS} = 1", "ours"), *((figures.title(name), class_of(figures, name)) for name in used)])
    return chart.svg("The fastest other whole layer as a multiple of ours")


def stage_shares(bench: dict[str, Any]) -> str:
    """Only stages that are no sum of others; in the order of the call."""
    rows = [row for row in sorted(bench["rows"], key=lambda row: row["T"]) if row.get("stages_us")]
    stages = [name for name in STAGES if any(name in row["stages_us"] for row in rows)]
    if not stages:
        return ""
    left, width, step = Chart.LEFT, 730, 31
    chart = Chart((1, 2), (1, 2), height=58 + step * len(rows))
    chart.keys([(STAGES[stage], f"s{list(STAGES).index(stage)} plain") for stage in stages])
    chart.text("tokens", left - 8, 40, "axis", "end")
    chart.text("sum; one call", left + width + 10, 40, "axis")
    for i, row in enumerate(rows):
        y, x, total = 48 + step * i, float(left), sum(row["stages_us"].get(stage, 0.0) for stage in stages)
        chart.text(thousands(row["T"]), left - 8, y + 16, "tick", "end")
        for stage in stages:
            us = row["stages_us"].get(stage, 0.0)
            wide = width * us / total
            said = tag("title", escape(f"T = {row['T']}, {STAGES[stage]}: {us:.1f} us alone"))
            chart.body.append(tag("rect", said, x=number(x), y=y, width=number(max(0.0, wide - 1.5)), height=23, class_=f"bar s{list(STAGES).index(stage)}"))
            if wide > 32:
                chart.text(f"{100 * us / total:.0f}%", x + wide / 2, y + 16, "in-bar", "middle")
            x += wide
        chart.text(f"{microseconds(total)} us; {microseconds(row['us'])} us", left + width + 10, y + 16, "tick")
    return chart.svg("Shares of the stages")


def roofline(figures: Figures) -> str:
    ceilings = figures.about["ceilings"]
    bandwidth, peak = ceilings["read_gbps"], ceilings["fp8_tflops"]
    rows = [row for row in figures.rows if row["active_experts"] and row["rows"]]
    if not bandwidth or not peak or not rows:
        return ""

    def intensity(row: dict[str, Any]) -> float:
        return 2.0 * row["rows"] / row["active_experts"]  # flops a byte of weights: two for each row that shares it

    def points(times: Callable[[dict[str, Any]], float | None]) -> list[tuple[float, float]]:
        return sorted((intensity(row), ROW_FLOPS * row["rows"] / us * 1e-6) for row in rows if (us := times(row)))

    shown = [name for name in figures.peers if figures.part(name) == "whole" and not name.startswith("blockmoe")]
    lines = [(figures.title(name), class_of(figures, name), points(lambda row, name=name: row["peer_us"].get(name))) for name in shown]
    lines = [line for line in [*lines, (OURS, "ours", points(lambda row: row["us"]))] if line[2]]
    if not lines:
        return ""
    low, high = min(map(intensity, rows)) / 1.3, max(map(intensity, rows)) * 1.3
    bottom = min(rate for _, _, line in lines for _, rate in line) / 1.4
    ridge = peak * 1e3 / bandwidth
    name = f"{peak:.0f} TFLOPS, {bandwidth:.0f} GB/s"
    chart = Chart((low, high), (bottom, peak * 1.3), height=460, right=room_for([name, *(title for title, _, _ in lines)]))
    chart.axes(one_two_five(low, high), one_two_five(bottom, peak * 1.3), "flops a byte of weights", "TFLOPS", thousands)
    begin = max(low, bottom * 1e3 / bandwidth)
    roof = [(begin, begin * bandwidth * 1e-3), *([(ridge, peak)] if begin < ridge < high else []), (high, min(peak, high * bandwidth * 1e-3))]
    chart.line(roof, "floor")
    for title, class_, line in lines:
        chart.line(line, class_, lambda x, rate, title=title: f"{title}: {rate:.0f} TFLOPS at {x:.0f} flops a byte")
    ends = [(chart.y(line[-1][1]), title, class_) for title, class_, line in lines]
    chart.labels([(chart.y(roof[-1][1]), name, "floor"), *ends])
    return chart.svg("Roofline")


# --- the page ------------------------------------------------------------------------------------------------------------

STYLE = """
:root { color-scheme: light dark; --paper: #fafaf8; --ink: #1b1d20; --soft: #5b6168; --rule: #e4e4e0; --card: #ffffff; --ours: #d1340f; --floor: #80868d;
  --c0: #1f6fb4; --c1: #23803f; --c2: #7b47c2; --c3: #a65e00; --c4: #b02a78; --c5: #0a7f86; --c6: #6b7076; --c7: #3d4a9e;
  --s0: #b06f10; --s1: #8a8f2a; --s2: #1f6fb4; --s3: #0b7f86; --s4: #7b55b0; }
@media (prefers-color-scheme: dark) { :root { --paper: #131518; --ink: #e8e9eb; --soft: #a2a8b0; --rule: #2c3036; --card: #1a1d21; --ours: #ff7d55; --floor: #8d939b;
  --c0: #6bb1ee; --c1: #6ccf8c; --c2: #bf9df5; --c3: #e8aa58; --c4: #f08cc4; --c5: #57cdd3; --c6: #a3a8af; --c7: #99a5f5;
  --s0: #b57a24; --s1: #868b34; --s2: #2f7fc4; --s3: #178890; --s4: #8763b8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 44px 24px 64px; max-width: 1080px; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 2.1rem; line-height: 1.2; margin: 0 0 8px; letter-spacing: -0.015em; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 52px 0 4px; letter-spacing: -0.005em; }
p { margin: 4px 0 14px; max-width: 84ch; } .soft { color: var(--soft); }
.alarm { border-left: 4px solid var(--ours); padding: 8px 14px; background: var(--card); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(210px, 1fr)); gap: 14px; margin: 28px 0 8px; }
.tile { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 14px 18px; }
.tile b { display: block; font-size: 1.75rem; line-height: 1.25; font-variant-numeric: tabular-nums; } .tile span { display: block; color: var(--soft); font-size: 0.9rem; line-height: 1.4; }
figure { margin: 12px 0 0; background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 18px 16px 10px; overflow-x: auto; }
svg { display: block; width: 100%; min-width: 760px; height: auto; font-family: inherit; }
.grid { stroke: var(--rule); } .tick { fill: var(--soft); font-size: 12px; font-variant-numeric: tabular-nums; } .small { font-size: 11px; } .axis { fill: var(--soft); font-size: 12.5px; }
.figure { fill: var(--soft); font-size: 10px; font-variant-numeric: tabular-nums; }
.line { fill: none; stroke: var(--c); stroke-width: 1.7; stroke-linejoin: round; } .dot { fill: var(--c); } .name { fill: var(--c); font-size: 13px; } .name.plain { fill: var(--ink); }
.lead { fill: none; stroke: var(--c); opacity: 0.6; } .bar { fill: var(--c); } .in-bar { fill: #fff; font-size: 11.5px; font-weight: 600; }
.floor { --c: var(--floor); } .line.floor { stroke-dasharray: 5 4; } .floor-area { fill: var(--floor); opacity: 0.1; }
.ours { --c: var(--ours); } .line.ours { stroke-width: 3; } .name.ours { font-weight: 700; }
.p0 { --c: var(--c0); } .p1 { --c: var(--c1); } .p2 { --c: var(--c2); } .p3 { --c: var(--c3); } .p4 { --c: var(--c4); } .p5 { --c: var(--c5); } .p6 { --c: var(--c6); } .p7 { --c: var(--c7); }
.s0 { --c: var(--s0); } .s1 { --c: var(--s1); } .s2 { --c: var(--s2); } .s3 { --c: var(--s3); } .s4 { --c: var(--s4); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: 0.82rem; line-height: 1.4; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 8px; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; } th { vertical-align: bottom; white-space: normal; font-weight: 600; }
th small { display: block; color: var(--soft); font-weight: 400; }
td:first-child, th:first-child { text-align: left; } td.o { color: var(--ours); font-weight: 700; } td i { color: var(--soft); font-style: normal; margin-left: 5px; } td.best { font-weight: 600; }
table.words { font-size: 0.88rem; } table.words td { text-align: left; white-space: normal; vertical-align: top; } table.words th { text-align: left; } table.words td:first-child { font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 18px; font-size: 0.9rem; margin: 12px 0 0; } dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
ul { padding-left: 20px; max-width: 100ch; margin: 6px 0; font-size: 0.92rem; } code { font: 0.92em ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace; }
@media (max-width: 600px) { body { padding: 24px 14px 40px; } h1 { font-size: 1.6rem; } dl { grid-template-columns: 1fr; } dd { margin-bottom: 6px; } table.words { min-width: 640px; } }
@media print { @page { size: A4; margin: 14mm 12mm; }
  :root { color-scheme: light; --paper: #fff; --card: #fff; --ink: #000; --soft: #444; --rule: #d5d5d2; --ours: #c22f0c; --floor: #70767d;
    --c0: #1f6fb4; --c1: #23803f; --c2: #7b47c2; --c3: #a65e00; --c4: #b02a78; --c5: #0a7f86; --c6: #6b7076; --c7: #3d4a9e;
    --s0: #b06f10; --s1: #8a8f2a; --s2: #1f6fb4; --s3: #0b7f86; --s4: #7b55b0; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } body { font-size: 9.5pt; max-width: none; padding: 0; }
  h1 { font-size: 18pt; } h2 { font-size: 12.5pt; margin-top: 20px; break-after: avoid; } h2 + p { break-after: avoid; } .tiles { grid-template-columns: repeat(4, 1fr); } .tile b { font-size: 15pt; }
  figure, tr, .tile { break-inside: avoid; } figure, .scroll { overflow: visible; padding: 8px; } svg { min-width: 0; }
  table { font-size: 7pt; } th, td { padding: 2px 4px; } table.words { font-size: 8pt; } }
"""


def table(figures: Figures) -> str:
    heads = [tag("th", text, scope="col") for text in ("T", "experts", "rows", "floor")] + [tag("th", OURS, scope="col", class_="ours")]
    for name in figures.peers:
        title = escape(figures.title(name)).replace("_", "_<wbr>")
        part = figures.part(name)
        heads.append(tag("th", title + ("" if part == "whole" else tag("small", PARTS[part])), scope="col"))
    body = ""
    for row in figures.rows:
        best = figures.best_whole(row)
        cells = [tag("td", thousands(row["T"])), tag("td", str(row["active_experts"])), tag("td", thousands(row["rows"]))]
        cells += [tag("td", microseconds(row["floor_us"])), tag("td", our_time(row), class_="o")]
        for name in figures.peers:
            us, ratio = row["peer_us"].get(name), figures.to_ours(row, name)
            said = "&ndash;" if us is None else microseconds(us) + (f"<i>{ratio:.2f}</i>" if ratio is not None else "")
            cells.append(tag("td", said, class_="best" if best is not None and best[0] == name else None))
        body += tag("tr", "".join(cells))
    return tag("div", tag("table", tag("thead", tag("tr", "".join(heads))) + tag("tbody", body)), class_="scroll")


def who(figures: Figures) -> str:
    rows = tag("tr", "".join(tag("th", text, scope="col") for text in ("package", "timed", "takes", "relative error", "what a call has in it", "version")))
    for name in figures.peers:
        peer = figures.ran.get(name, {})
        errors = [row["peers"][name]["relative_error"] for row in figures.rows if name in row.get("peers", {})]
        error = f"{min(errors):.4f} to {max(errors):.4f}" if errors else ""
        cells = (figures.title(name), PARTS[figures.part(name)], peer.get("takes", ""), error, INCLUDES.get(name, ""), peer.get("versions", "") or "this one")
        rows += tag("tr", "".join(tag("td", escape(cell)) for cell in cells))
    for name, why in figures.why_not.items():
        said = f"Did not run: {why}. {WHY_NOT.get(name, '')}".strip()
        rows += tag("tr", tag("td", escape(name)) + tag("td", "not run") + tag("td") + tag("td") + tag("td", escape(said)) + tag("td"))
    return tag("div", tag("table", rows, class_="words"), class_="scroll")


def tiles(figures: Figures) -> str:
    best = [ratio for _, _, ratio in best_bars(figures)]
    shown = []
    if best:
        shown.append((f"{sum(ratio > 1 for ratio in best)} of {len(best)}", "call sizes at which blockmoe is faster than every other whole layer"))
        shown.append((f"{sorted(best)[len(best) // 2]:.2f}×", "our time: the fastest other whole layer, in the median over call sizes"))
    rows = [row for row in figures.rows if row["us"] and row["ratio"]]
    if rows:
        close, fast = min(rows, key=lambda row: row["ratio"]), max(rows, key=lambda row: row["tflops"])
        shown.append((f"{close['ratio']:.2f}×", f"the floor at T\u00a0=\u00a0{thousands(close['T'])}, the closest to it"))
        shown.append((f"{fast['tflops']:.0f} TFLOPS", f"over the whole call at T\u00a0=\u00a0{thousands(fast['T'])}"))
    return tag("div", "".join(tag("div", tag("b", escape(value)) + tag("span", escape(text)), class_="tile") for value, text in shown), class_="tiles")


def span(ratios_: list[float]) -> str:
    low, high = min(ratios_), max(ratios_)
    return f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"


def conditions(figures: Figures, bench: dict[str, Any] | None) -> str:
    about, machine, rates = figures.about, figures.about["machine"], figures.about["ceilings"]
    said = [
        ("machine", f"{machine['gpu']}, driver {machine['driver']}, CUDA {machine['cuda']}; {machine['host']}"),
        ("date", about["date"].replace("T", " ").replace("Z", " UTC")),
        ("commit", about["commit"] or "not given"),
        ("command", about["command"]),
        ("ceilings", f"read {rates['read_gbps']:.0f} GB/s, dense FP8 {rates['fp8_tflops']:.0f} TFLOPS, blockwise {rates['blockwise_tflops']:.0f} TFLOPS"),
        ("routing", about["routing"]),
        ("data", "activations N(0, 1) and weights N(0, 0.02), quantised as a checkpoint has them" if about["profile"] == "model" else about["profile"]),
        ("method", about["method"].replace("`", "")),
    ]  # fmt: skip
    if bench is not None and "command" in bench:
        said.append(("stages", f"{bench['command']}; {bench['date'].replace('T', ' ').replace('Z', ' UTC')}, commit {bench['commit'] or 'not given'}"))
    return tag("dl", "".join(tag("dt", escape(what)) + tag("dd", tag("code", escape(text)) if what == "command" else escape(text)) for what, text in said))


def to_html(figures: Figures, bench: dict[str, Any] | None) -> str:
    about, machine = figures.about, figures.about["machine"]
    parts = [
        tag("h1", "blockmoe beside other packages"),
        tag("p", escape(f"One call of DeepSeek-V3's FP8 MoE layer as one of eight ranks makes it: 32 of 256 experts, hidden 7168, intermediate 2048, top 8. {machine['gpu']}, {about['date'][:10]}."), class_="soft"),
    ]  # fmt: skip
    if about.get("void"):
        parts.append(tag("p", "This run is void: the card did not reach the rates that it should. See the notes.", class_="alarm"))
    failed = [note for note in about["notes"] if note.startswith(("blockmoe failed", "blockmoe: ")) or ": blockmoe: relative error" in note or "ValueError: blockmoe: " in note]
    if failed:
        parts.append(tag("p", f"blockmoe itself gave a wrong result or none in {len(failed)} of the measurements. See the notes.", class_="alarm"))
    parts.append(tiles(figures))

    def picture(title: str, words: str, svg: str) -> None:
        if svg:
            parts.extend((tag("h2", escape(title)), tag("p", escape(words), class_="soft"), tag("figure", svg)))

    many = f"{thousands(figures.rows[0]['T'])} to {thousands(figures.rows[-1]['T'])} tokens"
    picture(
        f"Time of one call, {many}",
        "Both axes are logarithmic. The floor is the longer of reading the active experts' weights with the best plain reader and of the flops "
        "at the rate of a dense FP8 product. Packages differ in what a call has in it: see the table below.",
        latency(figures),
    )
    picture("Each package's time as a multiple of blockmoe's", "Both timed in turns in one process. Above 1, blockmoe is faster.", ratios(figures))
    bars = [ratio for _, _, ratio in best_bars(figures)]
    if bars:
        picture(
            f"The fastest other whole layer takes {span(bars)} times blockmoe's time",
            "At each call size, of the packages that go from logits to output; the colour says which one it is. Bars begin at blockmoe's own time.",
            best_peer(figures),
        )
    if bench is not None:
        picture(
            "Where blockmoe's time goes",
            "Each stage timed alone, as a share of their sum. In a call stages overlap, so that it takes less than the sum: both stand at the right. "
            f"From a run of its own on {'such a' if bench.get('machine') == machine else 'another'} machine, with other draws.",
            stage_shares(bench),
        )
    picture(
        "How close to the roof",
        "Rate of the whole call against flops for each byte of weights that it must read. Left of the bend the roof is memory, right of it the tensor cores.",
        roofline(figures),
    )
    parts += [tag("h2", "All figures"), tag("p", "Microseconds; in grey the multiple of ours in the same process. The fastest other whole layer is bold.", class_="soft"), table(figures)]
    parts += [tag("h2", "What each one does, and what could not run"), who(figures)]
    notes = figures.notes()
    if notes:
        parts += [tag("h2", "Notes"), tag("ul", "".join(tag("li", escape(note)) for note in notes))]
    parts += [tag("h2", "How it was measured"), conditions(figures, bench)]
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
