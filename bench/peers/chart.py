"""Charts as SVG: scales, axes, lines with their names at their ends. Colours are classes of the page (report.css)."""

import html
import math
from collections.abc import Callable, Iterable


def escape(text: object) -> str:
    return html.escape(str(text), quote=True)


def tag(name: str, content: str = "", **attributes: object) -> str:
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items() if value is not None
    )
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

    def __init__(
        self, x: tuple[float, float], y: tuple[float, float], *, height: int = 420, right: float = 12, log_y: bool = True
    ) -> None:
        self.height = height
        self.right_edge = self.WIDTH - right
        self.x = Scale(*x, self.LEFT, self.right_edge)
        self.y = Scale(*y, height - self.BOTTOM, self.TOP, log_y)
        self.body: list[str] = []

    def text(self, said: str, x: float, y: float, class_: str, anchor: str = "start") -> None:
        self.body.append(tag("text", escape(said), x=number(x), y=number(y), class_=class_, text_anchor=anchor))

    def axes(
        self, x_ticks: Iterable[float], y_ticks: Iterable[float], x_title: str, y_title: str, y_text: Callable[[float], str]
    ) -> None:
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
            self.body.append(
                tag("path", d=f"M{number(x + 4)} {number(line_y)}L{number(x + 13)} {number(y)}", class_=f"lead {class_}")
            )
            self.text(text, x + 17, y + 4.5, f"name {class_}")

    def keys(self, wanted: list[tuple[str, str]]) -> None:
        """Squares with names, in a row above the plot."""
        x = float(self.LEFT)
        for text, class_ in wanted:
            self.body.append(tag("rect", x=number(x), y=3, width=12, height=12, rx=3, class_=f"bar {class_}"))
            self.text(text, x + 18, 14, f"name {class_}")
            x += 40 + text_width(text) * (1.12 if class_ == "ours" else 1.0)

    def svg(self, title: str) -> str:
        return tag(
            "svg", tag("title", escape(title)) + "".join(self.body), viewBox=f"0 0 {self.WIDTH} {self.height}", role="img"
        )


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
