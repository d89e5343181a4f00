"""Line charts as SVG text, for pages that load nothing from elsewhere."""

import itertools
import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Final, NamedTuple, TypeAlias

WIDTH: Final = 640
HEIGHT: Final = 260
_LEFT: Final = 58
_RIGHT: Final = 12
_TOP: Final = 14
_BOTTOM: Final = 34
COLOURS: Final = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#64748b")
_PALE: Final = "#cbd5e1"
_Scale: TypeAlias = Callable[[float], float]


class Line(NamedTuple):
    """A series; None if a value is missing."""

    name: str
    points: Sequence[tuple[float, float | None]]
    behind: bool = False
    """Drawn as a pale area behind the others: what was asked for, behind what was done."""


class _Curve(NamedTuple):
    """A line that has points, with its colour."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]
    behind: bool = False


def chart(
    title: str,
    lines: Sequence[Line],
    *,
    x_unit: str,
    y_unit: str,
    x_ticks: Sequence[tuple[float, str]] | None = None,
    log_y: bool = False,
    marks: Sequence[tuple[float, str]] = (),
) -> str:
    """Return a chart with its legend, as an HTML figure. x and y are numbers in these units.

    `marks`: places on the x axis with a word for each, drawn as upright lines.
    """
    curves = _curves(lines)
    if not curves:
        return ""
    xs = [x for curve in curves for x, _ in curve.points]
    left, right = min(xs), max(max(xs), min(xs) + 1e-9)
    low, high = _y_range([y for curve in curves for _, y in curve.points], log=log_y)
    x_at = _scale(left, right, _LEFT, WIDTH - _RIGHT)
    y_at = _scale(low, high, HEIGHT - _BOTTOM, _TOP, log=log_y)
    ticks = x_ticks or [(left + (right - left) * n / 5, "") for n in range(6)]
    parts = [
        *(_rule(y_at(value), _short(value)) for value in _y_ticks(low, high, log=log_y)),
        *(
            _text(x_at(value), HEIGHT - 16, "middle", label or _short(value))
            for value, label in ticks
            if left <= value <= right
        ),
        *(_mark(x_at(value), word) for value, word in marks),
        _text(WIDTH - _RIGHT, HEIGHT - 3, "end", x_unit),
        *(_area(curve, x_at, y_at, low) for curve in curves if curve.behind),
        *(_drawn(curve, x_at, y_at, y_unit) for curve in curves if not curve.behind),
    ]
    legend = "".join(
        f'<span><i style="background:{curve.colour}"></i>{escape(curve.name)}</span>'
        for curve in curves
    )
    return (
        f"<figure><figcaption>{escape(title)} <small>{escape(y_unit)}</small></figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg><div class=legend>{legend}</div></figure>"
    )


def _curves(lines: Sequence[Line]) -> list[_Curve]:
    colours = itertools.cycle(COLOURS)
    found = (
        (line, [(x, y) for x, y in line.points if y is not None and math.isfinite(y)])
        for line in lines
    )
    return [
        _Curve(line.name, _PALE if line.behind else next(colours), points, line.behind)
        for line, points in found
        if points
    ]


def _y_range(ys: Sequence[float], *, log: bool) -> tuple[float, float]:
    if not log:
        return 0.0, _nice(max(ys) or 1)
    low = 10 ** math.floor(math.log10(max(1e-6, min((y for y in ys if y > 0), default=1))))
    return low, 10 ** math.ceil(math.log10(max(max(ys), low * 10)))


def _text(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _rule(y: float, label: str) -> str:
    """Draw a line of the grid with its label."""
    return (
        f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{WIDTH - _RIGHT}" y2="{y:.1f}"/>'
        f"{_text(_LEFT - 6, y + 4, 'end', label)}"
    )


def _mark(x: float, word: str) -> str:
    """Draw an upright line with its word."""
    return (
        f'<line class="mark" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{HEIGHT - _BOTTOM}">'
        f"<title>{escape(word)}</title></line>{_text(x + 4, _TOP + 8, 'start', word)}"
    )


def _area(curve: _Curve, x_at: _Scale, y_at: _Scale, low: float) -> str:
    """Draw what lies under the curve."""
    top = " ".join(f"{x_at(x):.1f},{y_at(y):.1f}" for x, y in curve.points)
    first, last = (
        f"{x_at(x):.1f},{y_at(low):.1f}" for x in (curve.points[0][0], curve.points[-1][0])
    )
    return f'<polygon fill="{curve.colour}" opacity="0.5" points="{first} {top} {last}"/>'


def _drawn(curve: _Curve, x_at: _Scale, y_at: _Scale, y_unit: str) -> str:
    """Draw the line. If it has few points, each is marked and shows its value."""
    at = [(f"{x_at(x):.1f}", f"{y_at(y):.1f}") for x, y in curve.points]
    path = " ".join(",".join(place) for place in at)
    line = f'<polyline fill="none" stroke="{curve.colour}" stroke-width="1.8" points="{path}"/>'
    if len(at) > 40:
        return line
    return line + "".join(
        f'<circle cx="{x}" cy="{y}" r="2.4" fill="{curve.colour}">'
        f"<title>{escape(curve.name)}: {_short(value)} {escape(y_unit)}</title></circle>"
        for (x, y), (_, value) in zip(at, curve.points, strict=True)
    )


def _scale(low: float, high: float, start: float, end: float, *, log: bool = False) -> _Scale:
    if not log:
        return lambda value: start + (end - start) * (value - low) / ((high - low) or 1)
    span = math.log10(high / low) or 1
    return lambda value: start + (end - start) * math.log10(max(value, low) / low) / span


def _y_ticks(low: float, high: float, *, log: bool) -> list[float]:
    if not log:
        return [high * n / 4 for n in range(5)]
    decades = round(math.log10(high / low))
    return [low * 10**n for n in range(decades + 1)]


def _nice(value: float) -> float:
    """Return the next 1, 2, 2.5 or 5 times a power of ten."""
    power: float = 10 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value)


def _short(value: float) -> str:
    if value >= 10_000:
        return f"{value / 1000:,.0f}k"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
