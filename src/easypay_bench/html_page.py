"""The frame of every HTML page of results: one file that loads nothing from elsewhere."""

from html import escape
from typing import Final

_STYLE: Final = """
:root{color-scheme:light dark;--ink:#111827;--dim:#6b7280;--line:#e5e7eb;--page:#fff}
@media(prefers-color-scheme:dark){:root{--ink:#e5e7eb;--dim:#9ca3af;--line:#374151;--page:#111827}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);
max-width:1360px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}
p,small,figcaption small{color:var(--dim)}
main{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));gap:1.5rem}
figure{margin:0}figcaption{font-weight:600}svg{width:100%;height:auto}
svg text{font-size:11px;fill:var(--dim)}.grid{stroke:var(--line)}
.mark{stroke:#dc2626;stroke-dasharray:3 3}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1rem;font-size:.85rem}
.legend i{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin-right:.35em}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.5rem 0}
th,td{text-align:right;padding:.2rem .8rem .2rem 0;border-bottom:1px solid var(--line)}
th:first-child,td:first-child{text-align:left}
.met,.better{color:#059669}.missed,.wrong,.worse{color:#dc2626;font-weight:600}
.unknown,.unsure{color:var(--dim)}
"""


def html_page(title: str, body: str) -> str:
    """Return the page. `body` is HTML, `title` is not."""
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
        f"<h1>{escape(title)}</h1>{body}</html>\n"
    )
