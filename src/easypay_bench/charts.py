"""Line charts as SVG text, for pages that must work without anything from elsewhere."""

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Final, NamedTuple

WIDTH: Final = 640
HEIGHT: Final = 260
_LEFT: Final = 58
_RIGHT: Final = 12
_TOP: Final = 14
_BOTTOM: Final = 34
COLOURS: Final = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#64748b")


class Line(NamedTuple):
    """A series; None where there is no value."""

    name: str
    points: Sequence[tuple[float, float | None]]


def chart(
    title: str,
    lines: Sequence[Line],
    *,
    x_unit: str,
    y_unit: str,
    x_ticks: Sequence[tuple[float, str]] | None = None,
    log_y: bool = False,
) -> str:
    """One chart with its legend, as an HTML figure. x and y are plain numbers in these units."""
    drawn = [
        Line(line.name, [(x, y) for x, y in line.points if y is not None and math.isfinite(y)])
        for line in lines
    ]
    drawn = [line for line in drawn if line.points]
    if not drawn:
        return ""
    xs = [x for line in drawn for x, _ in line.points]
    ys = [y for line in drawn for _, y in line.points if y is not None]
    x_low, x_high = min(xs), max(max(xs), min(xs) + 1e-9)
    if log_y:
        low = 10 ** math.floor(math.log10(max(1e-6, min(y for y in ys if y > 0) if any(ys) else 1)))
        high = 10 ** math.ceil(math.log10(max(max(ys), low * 10)))
    else:
        low, high = 0.0, _nice(max(ys) or 1)
    y_at = _scale(low, high, HEIGHT - _BOTTOM, _TOP, log=log_y)
    x_at = _scale(x_low, x_high, _LEFT, WIDTH - _RIGHT)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for value in _y_ticks(low, high, log=log_y):
        y = y_at(value)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{WIDTH - _RIGHT}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(value)}</text>'
        )
    ticks = x_ticks or [(x_low + (x_high - x_low) * n / 5, "") for n in range(6)]
    for value, label in ticks:
        if x_low <= value <= x_high:
            parts.append(
                f'<text x="{x_at(value):.1f}" y="{HEIGHT - 16}" text-anchor="middle">'
                f"{escape(label or _short(value))}</text>"
            )
    parts.append(
        f'<text x="{WIDTH - _RIGHT}" y="{HEIGHT - 3}" text-anchor="end">{escape(x_unit)}</text>'
    )
    for number, line in enumerate(drawn):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x_at(x):.1f},{y_at(y or low):.1f}" for x, y in line.points)
        parts.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="1.8" points="{path}"/>'
        )
        if len(line.points) <= 40:
            parts += [
                f'<circle cx="{x_at(x):.1f}" cy="{y_at(y or low):.1f}" r="2.4" fill="{colour}">'
                f"<title>{escape(line.name)}: {_short(y or 0)} {escape(y_unit)}</title></circle>"
                for x, y in line.points
            ]
    parts.append("</svg>")
    legend = "".join(
        f'<span><i style="background:{COLOURS[number % len(COLOURS)]}"></i>{escape(line.name)}'
        "</span>"
        for number, line in enumerate(drawn)
    )
    return (
        f"<figure><figcaption>{escape(title)} <small>{escape(y_unit)}</small></figcaption>"
        f"{''.join(parts)}<div class=legend>{legend}</div></figure>"
    )


def _scale(
    low: float, high: float, start: float, end: float, *, log: bool = False
) -> Callable[[float], float]:
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
    """The next 1, 2, 2.5 or 5 times a power of ten."""
    power: float = 10 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value)


def _short(value: float) -> str:
    if value >= 10_000:
        return f"{value / 1000:,.0f}k"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
