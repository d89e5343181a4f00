"""Draws the spans of one trace, and of what it links to, as an SVG: a bar for each."""

from collections.abc import Sequence
from html import escape
from typing import Any

WIDTH, LEFT, ROW, TOP = 900, 330, 26, 34
COLOURS = {2: "#1f6feb", 1: "#8250df", 3: "#1a7f37", 5: "#9a6700"}
"""By the kind of span: server, internal, client, consumer."""


def waterfall(title: str, spans: Sequence[Any], linked: Sequence[Any] = ()) -> str:
    """Return the picture. The first span is the trace's own."""
    shown = [(span, False) for span in spans] + [(span, True) for span in linked]
    shown.sort(key=lambda each: (each[0].start_time_unix_nano, each[0].kind != 2))
    first = min(span.start_time_unix_nano for span, _ in shown)
    last = max(span.end_time_unix_nano for span, _ in shown)
    scale = (WIDTH - LEFT - 90) / (last - first)
    height = TOP + ROW * len(shown) + 12
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="system-ui, sans-serif" font-size="13" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="20" font-weight="600" fill="#1f2328">{escape(title)}</text>',
    ]
    for row, (span, elsewhere) in enumerate(shown):
        y = TOP + ROW * row
        x = LEFT + (span.start_time_unix_nano - first) * scale
        took_ms = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
        width = max(2.0, took_ms * 1e6 * scale)
        indent = 12 if not span.parent_span_id and not elsewhere else 28
        dash = ' fill-opacity="0.35" stroke="#1a7f37" stroke-dasharray="3 2"' if elsewhere else ""
        name = f"{span.name} (linked)" if elsewhere else span.name
        lines += [
            f'<text x="{indent}" y="{y + 15}" fill="#1f2328">{escape(name)}</text>',
            f'<rect x="{x:.1f}" y="{y + 4}" width="{width:.1f}" height="14" rx="2" '
            f'fill="{COLOURS[span.kind]}"{dash}/>',
            f'<text x="{x + width + 6:.1f}" y="{y + 15}" fill="#57606a">{took_ms:.1f} ms</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])
