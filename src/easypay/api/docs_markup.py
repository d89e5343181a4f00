"""How the documentation looks: HTML from text, JSON and schemas. Everything is escaped here."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any, Final

from easypay.api.schemas import REF, Schema

_TOKEN: Final = re.compile(
    r'(?P<key>"(?:\\.|[^"\\])*")(?=\s*:)|(?P<text>"(?:\\.|[^"\\])*")'
    r"|(?P<number>-?\d[\d.eE+-]*)|(?P<word>true|false|null)"
)
_CODE: Final = re.compile(r"`([^`]+)`")
_STRONG: Final = re.compile(r"\*\*([^*]+)\*\*")

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2330; --dim: #5b6678; --line: #dfe4ec; --back: #fff;
  --soft: #f5f7fa; --code: #f0f3f8; --link: #1757c2; --key: #1757c2; --text: #14713d;
  --number: #9a4a00; --good: #14713d; --wait: #8a5a00; --bad: #b3261e; --post: #14713d;
  --get: #1757c2; --put: #8a5a00 }
@media (prefers-color-scheme: dark) { :root { --ink: #dde3ee; --dim: #97a3b8; --line: #2b3444;
  --back: #10151e; --soft: #161d29; --code: #1a2230; --link: #7fb0ff; --key: #8db8ff;
  --text: #7ed2a1; --number: #f0b27a; --good: #7ed2a1; --wait: #f0c674; --bad: #ff9a8f;
  --post: #7ed2a1; --get: #8db8ff; --put: #f0c674 } }
* { box-sizing: border-box }
html { scroll-padding-top: 1rem }
body { margin: 0; color: var(--ink); background: var(--back);
  font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif }
a { color: var(--link); text-decoration: none } a:hover { text-decoration: underline }
nav { position: fixed; inset: 0 auto 0 0; width: 17.5rem; overflow-y: auto; padding: 1.5rem 1.25rem;
  background: var(--soft); border-right: 1px solid var(--line); font-size: .875rem }
nav .brand { display: block; font-size: 1.25rem; font-weight: 700; color: var(--ink) }
nav p { margin: .1rem 0 1rem; color: var(--dim) }
nav h2 { margin: 1.25rem 0 .3rem; border: 0; padding: 0; font-size: .75rem; color: var(--dim);
  letter-spacing: .06em; text-transform: uppercase }
nav ul { list-style: none; margin: 0; padding: 0 } nav li a { display: flex; gap: .5rem;
  padding: .12rem 0; color: var(--ink) }
nav .method { min-width: 3.2rem; font-size: .68rem; line-height: 1.45rem }
main { margin-left: 17.5rem; padding: 2rem 3rem 6rem; max-width: 68rem }
h1 { margin: 0 0 .5rem; font-size: 2rem; line-height: 1.2 }
h2 { margin: 4rem 0 .75rem; padding-top: 1.25rem; border-top: 1px solid var(--line);
  font-size: 1.5rem; line-height: 1.3 }
h3 { margin: 3rem 0 .25rem; font-size: 1.2rem } h4 { margin: 1.5rem 0 .4rem; font-size: .95rem }
p { margin: .5rem 0; max-width: 46rem } .dim { color: var(--dim) }
code, pre { font: .86em/1.55 ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace }
code { background: var(--code); border-radius: 4px; padding: .1em .3em; overflow-wrap: anywhere }
pre { margin: .5rem 0 1rem; padding: .8rem 1rem; overflow-x: auto; background: var(--code);
  border: 1px solid var(--line); border-radius: 8px; font-size: .8rem }
pre code { background: none; padding: 0; font-size: 1em; overflow-wrap: normal }
.json { white-space: pre-wrap; overflow-wrap: anywhere }
.k { color: var(--key) } .s { color: var(--text) } .n { color: var(--number) }
.call { display: flex; gap: .7rem; align-items: baseline; flex-wrap: wrap; margin: 0 0 .5rem;
  max-width: none } .call code { background: none; padding: 0; font-size: .95rem }
.method { font: 700 .8rem/1.6 ui-monospace, Menlo, "DejaVu Sans Mono", monospace }
.POST { color: var(--post) } .GET { color: var(--get) } .PUT, .PATCH { color: var(--put) }
.tag { font-size: .78rem; color: var(--dim); border: 1px solid var(--line); border-radius: 99px;
  padding: .05rem .6rem; white-space: nowrap }
table { width: 100%; border-collapse: collapse; margin: .25rem 0 1rem; font-size: .875rem }
th { text-align: left; font-weight: 600; color: var(--dim); font-size: .78rem }
th, td { padding: .4rem .9rem .4rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
td:first-child { width: 30%; min-width: 11rem } td p { margin: 0 } .must { color: var(--bad) }
.wide { overflow-x: auto } .small { font-size: .78rem; color: var(--dim); white-space: nowrap }
.limits { display: block; font-size: .8rem; color: var(--dim) }
.reply { margin: .75rem 0 .25rem; max-width: none }
.status { font: 700 .85rem/1 ui-monospace, Menlo, "DejaVu Sans Mono", monospace;
  margin-right: .5rem } .s2 { color: var(--good) } .s3 { color: var(--wait) }
.s4, .s5 { color: var(--bad) }
details { margin: .3rem 0; border: 1px solid var(--line); border-radius: 8px;
  background: var(--soft) } details > :not(summary) { margin: .5rem 1rem 1rem }
summary { cursor: pointer; padding: .4rem .9rem; font-size: .875rem }
summary::marker { color: var(--dim) } details pre { background: var(--back) }
.plain { border: 0; background: none } .plain > summary { padding-left: 0; color: var(--link) }
.plain > :not(summary) { margin-left: 0; margin-right: 0 }
ul.points { max-width: 46rem; padding-left: 1.2rem }
.alone { margin: 0 auto; max-width: 46rem; padding: 3rem 1.5rem }
@media (max-width: 60rem) { nav { position: static; width: auto; border-right: 0;
  border-bottom: 1px solid var(--line) } nav ul { columns: 2; }
  main { margin-left: 0; padding: 1.5rem 1.25rem 4rem } td:first-child { min-width: 8rem } }
@media (max-width: 36rem) { nav ul { columns: 1 } }
@media print { nav { display: none } main { margin: 0 } }
"""


def page(title: str, body: str) -> bytes:
    """A whole page. Nothing in it is loaded from elsewhere, and it runs no script."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy"'
        " content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
        f'<title>{escape(title)}</title><link rel="icon" href="data:,">'
        f"<style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    ).encode()


def prose(text: str) -> str:
    """Text with `code` and **strong** words in it."""
    return _STRONG.sub(r"<strong>\1</strong>", _CODE.sub(r"<code>\1</code>", escape(text)))


def shell(text: str) -> str:
    """Lines for a terminal."""
    return f"<pre><code>{escape(text)}</code></pre>"


def json_block(value: Any) -> str:
    """JSON, indented and coloured. Text is shown as it is."""
    if isinstance(value, str):
        return shell(value)
    text = json.dumps(value, indent=2, ensure_ascii=False)
    parts, at = [], 0
    for found in _TOKEN.finditer(text):
        kind = {"key": "k", "text": "s"}.get(found.lastgroup or "", "n")
        parts.append(escape(text[at : found.start()]))
        parts.append(f'<span class="{kind}">{escape(found.group())}</span>')
        at = found.end()
    return f'<pre class="json"><code>{"".join(parts)}{escape(text[at:])}</code></pre>'


def folded(summary: str, content: str, *, plain: bool = False) -> str:
    """Something to unfold. `summary` and `content` are HTML."""
    return f"<details{' class=plain' * plain}><summary>{summary}</summary>{content}</details>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are HTML."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = "\n".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{top}</tr>\n{lines}</table></div>'


def fields(schema: Schema, schemas: dict[str, Schema], *, nested: bool = True) -> str:
    """A table of an object's fields: name, type, limits, and what it is."""
    return table(("Field", "Type", "What it is"), _rows(schema, schemas, "", nested))


def _rows(
    schema: Schema, schemas: dict[str, Schema], prefix: str, nested: bool, skip: str = ""
) -> Iterator[tuple[str, str, str]]:
    required = schema.get("required", [])
    asks = schema.get("additionalProperties") is False
    for name, shape in schema.get("properties", {}).items():
        if name == skip:
            continue
        inner = [target for target in _targets(shape) if "properties" in schemas[target]]
        kind = _kind(shape, schemas) if nested or not inner else _links(inner)
        must = ' <span class="must small">required</span>' if asks and name in required else ""
        yield (
            f"<code>{escape(prefix + name)}</code>{must}",
            f'<span class="small">{kind}</span>',
            prose(shape.get("description", "")) + _limits(shape, schemas),
        )
        if nested:
            yield from _inside(inner, schemas, f"{prefix}{name}.")


def _inside(
    targets: list[str], schemas: dict[str, Schema], prefix: str
) -> Iterator[tuple[str, str, str]]:
    """The fields of a nested object; of one among several, those that its `type` brings."""
    if len(targets) > 1:
        words = [schemas[target]["properties"]["type"]["enum"][0] for target in targets]
        shown = " or ".join(f"<code>{escape(word)}</code>" for word in words)
        must = ' <span class="must small">required</span>'
        yield f"<code>{escape(prefix)}type</code>{must}", '<span class="small">text</span>', shown
    for target in targets:
        skip = "type" if len(targets) > 1 else ""
        yield from _rows(schemas[target], schemas, prefix, True, skip)


def _targets(shape: Schema) -> list[str]:
    """The schemas a field refers to."""
    choices = shape.get("anyOf", [shape])
    return [choice["$ref"].removeprefix(REF) for choice in choices if "$ref" in choice]


def _links(targets: list[str]) -> str:
    return " or ".join(f'<a href="#schema-{name}">{name}</a>' for name in targets)


_KINDS: Final = {"string": "text", "boolean": "true or false", "array": "list"}


def _kind(shape: Schema, schemas: dict[str, Schema]) -> str:
    targets = _targets(shape)
    if targets and "properties" in schemas[targets[0]]:
        return "object"
    if targets:
        return "text"
    said = shape.get("type", "any")
    words: list[str] = said if isinstance(said, list) else [said]
    names = [_KINDS.get(word, word) for word in words]
    return escape(" or ".join(names))


def _limits(shape: Schema, schemas: dict[str, Schema]) -> str:
    """A field's limits in words."""
    found: list[str] = []
    targets = _targets(shape)
    if targets and "enum" in schemas[targets[0]]:
        shape = {**schemas[targets[0]], **shape}
        found.append(prose(shape["description"]) if shape.get("description") else "")
    items = shape.get("items", {})
    if "$ref" in items:
        found.append(f"of {_links([items['$ref'].removeprefix(REF)])}")
    words = shape.get("enum") or items.get("enum")
    if words:
        found.append(" · ".join(f"<code>{escape(str(word))}</code>" for word in words))
    found += [escape(text) for text in _numbers(shape)]
    pattern = shape.get("pattern", "")
    if pattern and not pattern.startswith(r"^[^\x00"):
        found.append(f"<code>{escape(pattern)}</code>")
    if shape.get("default") is not None and shape["default"] != []:
        found.append(f"default <code>{escape(json.dumps(shape['default']))}</code>")
    return (
        f'<span class="limits">{"; ".join(part for part in found if part)}</span>' if found else ""
    )


def _numbers(shape: Schema) -> Iterator[str]:
    low, high = shape.get("minimum"), shape.get("maximum")
    if low is not None and high is not None:
        yield f"{low:,} to {high:,}" if high > 9_999 else f"{low} to {high}"
    elif low is not None:
        yield f"{low} or more"
    shortest, longest = shape.get("minLength", 0), shape.get("maxLength")
    if longest is not None:
        yield (
            f"{longest} characters"
            if shortest == longest
            else f"{shortest} to {longest:,} characters"
            if shortest
            else f"at most {longest:,} characters"
        )
    if "maxProperties" in shape:
        yield f"at most {shape['maxProperties']} entries"
    if shape.get("format") == "date-time":
        yield "RFC 3339"
