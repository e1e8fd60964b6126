#!/usr/bin/env python3
"""The report of a comparison: one HTML page with its pictures in it, and a Markdown table. Needs Python alone.

    report.py comparison.json [--stages bench.json] [--html page.html] [--markdown table.md]

comparison.json is what compare.py wrote, bench.json what `blockmoe bench --stages --json` wrote on the same machine.
"""

import argparse
import json
import math
import pathlib
import re
from collections.abc import Callable
from typing import Any

from chart import Chart, escape, number, one_two_five, powers, room_for, tag, thousands
from compare import ROW_FLOPS

HERE = pathlib.Path(__file__).resolve().parent

OURS = "blockmoe"
PARTS = {"whole": "the whole layer", "experts": "without routing", "products": "the two products alone"}
ORDER = (
    "deepgemm_products",
    "deepgemm_mega",
    "sglang_deepgemm",
    "sglang_triton",
    "vllm_triton",
    "flashinfer_cutlass",
    "blockmoe_portable",
)
INCLUDES = {
    "deepgemm_products": "Two grouped products on rows that lie ready, masked or contiguous: the faster. No routing, gathering, SwiGLU or combine.",
    "deepgemm_mega": "SGLang's router, copies into its buffer, then one kernel for the rest. On one rank, so that nothing is sent.",
    "sglang_deepgemm": "SGLang's router, scatter, DeepGEMM's products with SwiGLU and quantisation between them, sum. Masked or compact: the faster. "
    "The host knows no counts.",
    "sglang_triton": "SGLang's router, align, Triton products with SwiGLU and quantisation between them, sum. The best of its tuned tiles.",
    "vllm_triton": "Its own router, quantisation, align, Triton products, sum.",
    "flashinfer_cutlass": "Picks and weights are given; it quantises the activations, then all that follows. Its block-scale path has no tactics to tune.",
    "blockmoe_portable": "The whole layer on mma.sync: what other NVIDIA GPUs get.",
}
TITLES = {"vllm_triton": "vLLM, Triton experts"}  # of those that did not run, and could not say it
WHY_NOT = {
    "vllm_triton": "Its wheel has more than a gigabyte and pins a PyTorch of its own, so it needs an environment to itself."
}
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
        return str(self.ran.get(name, {}).get("title") or TITLES.get(name, name))

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
    lines = [
        f"{machine['gpu']}, driver {machine['driver']}, CUDA {machine['cuda']}; {about['date'][:10]}, commit {about['commit'] or 'not given'}",
        "",
    ]
    lines += ["Microseconds; in brackets the multiple of ours in the same process.", ""]
    heads = [
        "T (experts, rows)",
        "floor",
        OURS,
        *(f"{figures.title(name)}, {PARTS[figures.part(name)]}" for name in figures.peers),
    ]
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


# --- what the pictures share ----------------------------------------------------------------------------------------------


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
        chart.line(
            points,
            class_,
            None if class_ == "floor" else lambda t, us, title=title: f"{title}, T = {thousands(t)}: {microseconds(us)} us",
        )
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
        chart.line(
            points,
            class_of(figures, name),
            lambda t, ratio, title=title: f"{title}, T = {thousands(t)}: {ratio:.2f} of our time",
        )
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
    chart.axes(
        [],
        [t for i, t in enumerate(ticks) if i % step == 0 or t == 1.0],
        "tokens in the call",
        "fastest other / ours",
        lambda tick: f"{tick:.1f}",
    )
    base = chart.y(1.0)
    wide = min(room * 0.76, 60)
    for i, (tokens, name, ratio) in enumerate(bars):
        middle, y = chart.LEFT + (i + 0.5) * room, chart.y(ratio)
        said = tag("title", escape(f"T = {tokens}: {figures.title(name)} takes {ratio:.3f} of our time"))
        chart.body.append(
            tag(
                "rect",
                said,
                x=number(middle - wide / 2),
                width=number(wide),
                y=number(min(y, base)),
                height=number(max(1.0, abs(base - y))),
                class_=f"bar {class_of(figures, name)}",
            )
        )
        chart.text(f"{ratio:.2f}", middle, y - 4 if ratio >= 1 else y + 11, "figure", "middle")
        turned = f"translate({number(middle + 4)} {chart.height - chart.BOTTOM + 5}) rotate(-90)"
        chart.body.append(tag("text", str(tokens), transform=turned, class_="tick small", text_anchor="end"))
    chart.body.append(
        tag("line", x1=chart.LEFT, x2=number(chart.right_edge), y1=number(base), y2=number(base), class_="line ours")
    )
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
            chart.body.append(
                tag(
                    "rect",
                    said,
                    x=number(x),
                    y=y,
                    width=number(max(0.0, wide - 1.5)),
                    height=23,
                    class_=f"bar s{list(STAGES).index(stage)}",
                )
            )
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
    lines = [
        (figures.title(name), class_of(figures, name), points(lambda row, name=name: row["peer_us"].get(name)))
        for name in shown
    ]
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
    roof = [
        (begin, begin * bandwidth * 1e-3),
        *([(ridge, peak)] if begin < ridge < high else []),
        (high, min(peak, high * bandwidth * 1e-3)),
    ]
    chart.line(roof, "floor")
    for title, class_, line in lines:
        chart.line(line, class_, lambda x, rate, title=title: f"{title}: {rate:.0f} TFLOPS at {x:.0f} flops a byte")
    ends = [(chart.y(line[-1][1]), title, class_) for title, class_, line in lines]
    chart.labels([(chart.y(roof[-1][1]), name, "floor"), *ends])
    return chart.svg("Roofline")


# --- the page ------------------------------------------------------------------------------------------------------------


def table(figures: Figures) -> str:
    heads = [tag("th", text, scope="col") for text in ("T", "experts", "rows", "floor")] + [
        tag("th", OURS, scope="col", class_="ours")
    ]
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
    rows = tag(
        "tr",
        "".join(
            tag("th", text, scope="col")
            for text in ("package", "timed", "takes", "relative error", "what a call has in it", "version")
        ),
    )
    for name in figures.peers:
        peer = figures.ran.get(name, {})
        errors = [row["peers"][name]["relative_error"] for row in figures.rows if name in row.get("peers", {})]
        error = f"{min(errors):.4f} to {max(errors):.4f}" if errors else ""
        cells = (
            figures.title(name),
            PARTS[figures.part(name)],
            peer.get("takes", ""),
            error,
            INCLUDES.get(name, ""),
            peer.get("versions", "") or "this one",
        )
        rows += tag("tr", "".join(tag("td", escape(cell)) for cell in cells))
    for name, why in figures.why_not.items():
        said = f"Did not run: {why}. {WHY_NOT.get(name, '')}".strip()
        rows += tag(
            "tr", tag("td", escape(figures.title(name))) + tag("td", "not run") + tag("td") + tag("td") + tag("td", escape(said)) + tag("td")
        )
    return tag("div", tag("table", rows, class_="words"), class_="scroll")


def tiles(figures: Figures) -> str:
    best = [ratio for _, _, ratio in best_bars(figures)]
    shown = []
    if best:
        shown.append(
            (
                f"{sum(ratio > 1 for ratio in best)} of {len(best)}",
                "call sizes at which blockmoe is faster than every other whole layer",
            )
        )
        shown.append(
            (f"{sorted(best)[len(best) // 2]:.2f}×", "our time: the fastest other whole layer, in the median over call sizes")
        )
    rows = [row for row in figures.rows if row["us"] and row["ratio"]]
    if rows:
        close, fast = min(rows, key=lambda row: row["ratio"]), max(rows, key=lambda row: row["tflops"])
        shown.append((f"{close['ratio']:.2f}×", f"the floor at T\u00a0=\u00a0{thousands(close['T'])}, the closest to it"))
        shown.append((f"{fast['tflops']:.0f} TFLOPS", f"over the whole call at T\u00a0=\u00a0{thousands(fast['T'])}"))
    return tag(
        "div",
        "".join(tag("div", tag("b", escape(value)) + tag("span", escape(text)), class_="tile") for value, text in shown),
        class_="tiles",
    )


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
        said.append(
            (
                "stages",
                f"{bench['command']}; {bench['date'].replace('T', ' ').replace('Z', ' UTC')}, commit {bench['commit'] or 'not given'}",
            )
        )
    return tag(
        "dl",
        "".join(
            tag("dt", escape(what)) + tag("dd", tag("code", escape(text)) if what == "command" else escape(text))
            for what, text in said
        ),
    )


def to_html(figures: Figures, bench: dict[str, Any] | None) -> str:
    about, machine = figures.about, figures.about["machine"]
    parts = [
        tag("h1", "blockmoe beside other packages"),
        tag("p", escape(f"One call of DeepSeek-V3's FP8 MoE layer as one of eight ranks makes it: 32 of 256 experts, hidden 7168, intermediate 2048, top 8. {machine['gpu']}, {about['date'][:10]}."), class_="soft"),
    ]  # fmt: skip
    if about.get("void"):
        parts.append(
            tag("p", "This run is void: the card did not reach the rates that it should. See the notes.", class_="alarm")
        )
    failed = [
        note
        for note in about["notes"]
        if note.startswith(("blockmoe failed", "blockmoe: "))
        or ": blockmoe: relative error" in note
        or "ValueError: blockmoe: " in note
    ]
    if failed:
        parts.append(
            tag(
                "p",
                f"blockmoe itself gave a wrong result or none in {len(failed)} of the measurements. See the notes.",
                class_="alarm",
            )
        )
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
    picture(
        "Each package's time as a multiple of blockmoe's",
        "Both timed in turns in one process. Above 1, blockmoe is faster.",
        ratios(figures),
    )
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
    parts += [
        tag("h2", "All figures"),
        tag(
            "p",
            "Microseconds; in grey the multiple of ours in the same process. The fastest other whole layer is bold.",
            class_="soft",
        ),
        table(figures),
    ]
    parts += [tag("h2", "What each one does, and what could not run"), who(figures)]
    notes = figures.notes()
    if notes:
        parts += [tag("h2", "Notes"), tag("ul", "".join(tag("li", escape(note)) for note in notes))]
    parts += [tag("h2", "How it was measured"), conditions(figures, bench)]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        + tag("title", "blockmoe beside other packages")
        + tag("style", (HERE / "report.css").read_text())
    )
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
