"""The README's chart (docs/images/payments.svg): the newest full result as two bars.

`python -m easypay_bench.performance_chart` prints it; `make bench ARGS=--save` updates it.
"""

import sys
from pathlib import Path
from statistics import median
from typing import Final

from easypay_bench.performance_page import RESULTS, newest

CHART: Final = Path("docs/images/payments.svg")
_BAR: Final = 450
"""Length of the longest bar, out of 760."""
_FRAME: Final = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 124" role="img" aria-label="{label}">
<style>
text {{ font: 14px system-ui, sans-serif; fill: #1f2328 }} .small {{ font-size: 12px; opacity: .7 }}
@media (prefers-color-scheme: dark) {{ text {{ fill: #e6edf3 }} }}
</style>
{bars}<text class="small" x="0" y="116">{caption}</text>
</svg>
"""
_ROW: Final = """\
<text x="150" y="{text_y}" text-anchor="end" font-weight="{weight}">{name}</text>
<rect x="162" y="{y}" width="{width}" height="26" rx="3" fill="{colour}"/>
<text x="{end}" y="{text_y}">{rate:,.0f} payments/s</text>
"""


def chart(results: Path) -> str:
    """Return the chart as SVG. Raises FileNotFoundError if no result is complete."""
    _, found = newest(results)
    pairs, cores = found["wide"]["pairs"], found["machine"]["cores"]
    gateway = median(pair["gateway_per_s"] for pair in pairs)
    alone = median(pair["pgbench_per_s"] for pair in pairs)
    rows = (("EasyPay", 600, "#2563eb", gateway), ("the database alone", 400, "#94a3b8", alone))
    bars = ""
    for number, (name, weight, colour, rate) in enumerate(rows):
        y, width = 8 + 44 * number, round(_BAR * rate / max(gateway, alone))
        bars += _ROW.format(
            name=name, weight=weight, colour=colour, rate=rate,
            y=y, text_y=y + 18, width=width, end=162 + width + 10,
        )  # fmt: skip
    return _FRAME.format(
        label=f"EasyPay {gateway:,.0f} payments per second, the database alone {alone:,.0f}",
        bars=bars,
        caption="Alone: pgbench runs the same SQL, one payment per commit. "
        f"Everything runs on one machine with {cores} cores, fsync on.",
    )


if __name__ == "__main__":
    sys.stdout.write(chart(RESULTS))
