"""HTML from text, JSON and schemas. Everything is escaped here."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any, Final

from easypay.api.doc_files import SCRIPT, STYLE
from easypay.api.schema_words import REF
from easypay.api.schemas import Schema

_TOKEN: Final = re.compile(
    r'(?P<key>"(?:\\.|[^"\\])*")(?=\s*:)|(?P<text>"(?:\\.|[^"\\])*")'
    r"|(?P<number>-?\d[\d.eE+-]*)|(?P<word>true|false|null)"
)
_CODE: Final = re.compile(r"`([^`]+)`")
_STRONG: Final = re.compile(r"\*\*([^*]+)\*\*")

POLICY: Final = (
    b"default-src 'none'; style-src 'self'; script-src 'self'; "
    b"img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of every page: nothing but its own style and script."""


def page(title: str, body: str) -> bytes:
    """A whole page. It loads its style and its script, and is complete without them."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)} · EasyPay</title><link rel="icon" href="data:,">'
        f'<link rel="stylesheet" href="{STYLE.path}" integrity="{STYLE.digest}">'
        f'<script src="{SCRIPT.path}" integrity="{SCRIPT.digest}" defer></script></head>\n'
        f"<body>\n{body}\n"
        "</body></html>\n"
    ).encode()


def prose(text: str) -> str:
    """Text with `code` and **strong** words in it."""
    return _STRONG.sub(r"<strong>\1</strong>", _CODE.sub(r"<code>\1</code>", escape(text)))


def json_block(value: Any) -> str:
    """JSON, indented and coloured. Text is shown as it is."""
    if isinstance(value, str):
        return code_block(value)
    return code_block(json.dumps(value, indent=2, ensure_ascii=False), json=True)


def code_block(text: str, *, json: bool = False) -> str:
    """Lines for a terminal, or JSON."""
    if not json:
        return f"<pre><code>{escape(text)}</code></pre>"
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


def tabs(name: str, choices: Sequence[tuple[str, str]]) -> str:
    """Alternatives, of which one is shown: (title, HTML) of each. `name` is unique on the page."""
    if len(choices) == 1:
        return choices[0][1]
    parts = []
    for number, (title, html) in enumerate(choices):
        checked = "" if number else " checked"
        parts.append(
            f'<input type="radio" name="tab-{name}" id="{name}-{number}"{checked}>'
            f'<label for="{name}-{number}">{escape(title)}</label><div>{html}</div>'
        )
    return f'<div class="tabs">{"".join(parts)}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are HTML."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = "\n".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table class="fields"><tr>{top}</tr>\n{lines}</table></div>'


def fields(schema: Schema, schemas: dict[str, Schema], *, nested: bool = True) -> str:
    """A table of an object's fields, and after it the alternatives of those that have some."""
    parts = [table(("Field", "Description"), _rows(schema, schemas, "", nested))]
    for name, shape in schema.get("properties", {}).items() if nested else ():
        mapping = shape.get("discriminator", {}).get("mapping", {})
        alternatives = [
            (word, table(("Field", "Description"),
                         _rows(schemas[target.removeprefix(REF)], schemas, "", nested)))
            for word, target in mapping.items()
        ]  # fmt: skip
        if alternatives:
            parts.append(f"<h5><code>{escape(name)}</code> is one of</h5>")
            parts.append(tabs(f"{schema['title']}-{name}", alternatives))
    return "\n".join(parts)


def _rows(
    schema: Schema, schemas: dict[str, Schema], prefix: str, nested: bool
) -> Iterator[tuple[str, str]]:
    required = schema.get("required", [])
    asks = schema.get("additionalProperties") is False
    for name, shape in schema.get("properties", {}).items():
        inner = [target for target in _targets(shape) if "properties" in schemas[target]]
        kind = _kind(shape, schemas) if nested or not inner else _links(inner)
        must = ' <span class="must small">required</span>' if asks and name in required else ""
        yield (
            f'{_name(prefix + name)} <span class="small">{kind}</span>{must}',
            prose(shape.get("description", "")) + _limits(shape, schemas),
        )
        if nested and "oneOf" not in shape:
            for target in inner:
                yield from _rows(schemas[target], schemas, f"{prefix}{name}.", nested)


def _name(name: str) -> str:
    """A field's name, which may break after its dots and underscores."""
    broken = re.sub(r"([._])", r"\1<wbr>", escape(name))
    return f"<code>{broken}</code>"


def _targets(shape: Schema) -> list[str]:
    """The schemas a field refers to."""
    choices = shape.get("oneOf") or shape.get("anyOf") or [shape]
    return [choice["$ref"].removeprefix(REF) for choice in choices if "$ref" in choice]


def _links(targets: list[str]) -> str:
    return " or ".join(f'<a href="/docs/objects#schema-{name}">{name}</a>' for name in targets)


_KINDS: Final = {"string": "text", "boolean": "true or false", "array": "list"}


def _kind(shape: Schema, schemas: dict[str, Schema]) -> str:
    targets = _targets(shape)
    if len(targets) > 1 and "oneOf" in shape:
        return "object, one of several"
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
    if targets == ["Currency"]:  # too many words to show each time
        found.append(_links(targets))
    elif targets and "enum" in schemas[targets[0]]:
        shape = {**schemas[targets[0]], **shape}
        found.append(prose(shape["description"]) if shape.get("description") else "")
    items = shape.get("items", {})
    if "$ref" in items:
        found.append(f"of {_links([items['$ref'].removeprefix(REF)])}")
    words = shape.get("enum") or items.get("enum") or ([shape["const"]] if "const" in shape else [])
    words = [word for word in words if word is not None]
    if words:
        found.append(" · ".join(f"<code>{escape(str(word))}</code>" for word in words))
    found += [escape(text) for text in _numbers(shape)]
    pattern = shape.get("pattern", "")
    if pattern and not re.search(r"\\x00|\\u200b|\(\?", pattern):
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
