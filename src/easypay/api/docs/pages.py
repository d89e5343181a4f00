"""The pages as HTML: a guide from `docs/api`, what follows it, and the navigation."""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

from easypay.api.docs.markup import code_block, json_block, page
from easypay.api.docs.reference import advice, call, objects, problem_list
from easypay.api.example_problems import example_of
from easypay.api.openapi import document
from easypay.api.retry_advice import problems, row_of
from easypay.api.routes import TOPICS

GUIDES: Final = Path(__file__).parent / "guide"
"""A link to docs/api."""
_START: Final = "README"
_HAS_NO_GUIDE: Final = {
    "objects": "# Objects\n\nThe objects in the replies.",
    "system": "# System\n\nHealth, metrics and this documentation.",
}


class Section(NamedTuple):
    """A line of the navigation: a heading of the page, with its method if it is a call."""

    anchor: str
    title: str
    method: str = ""


class Part(NamedTuple):
    """A piece of a page and the sections in it."""

    html: str
    sections: list[Section]


def topic_page(topic: str) -> bytes | None:
    """The page of a topic, the start page if it is empty. None if there is no such page."""
    return _topic_page(topic) if topic in ("", *TOPICS) else None


@cache
def _topic_page(topic: str) -> bytes:
    guide = _guide(_text(topic))
    generated = list(_generated(topic))
    title, *sections = guide.sections
    sections += [section for part in generated for section in part.sections]
    body = "\n".join(part.html for part in (guide, *generated))
    return page(title.title, f"{_navigation(topic, sections)}\n<main>\n{body}\n</main>")


def problem_page(code: str) -> bytes | None:
    """What a problem means and whether to try again. None for an unknown code."""
    error = next((error for error in problems() if error.code == code), None)
    if error is None:
        return None
    body = (
        f"<h1>{escape(error.title)}</h1>"
        f'<p><span class="status s{error.http_status // 100}">{error.http_status}</span>'
        f"<code>{escape(code)}</code></p>{advice(row_of(error))}"
        f"<h2>Example</h2>{json_block(example_of(error))}"
    )
    return page(error.title, f"{_navigation('errors', [])}\n<main>\n{body}\n</main>")


def _text(topic: str) -> str:
    found = _HAS_NO_GUIDE.get(topic)
    return found or (GUIDES / f"{topic or _START}.md").read_text(encoding="utf-8")


def _generated(topic: str) -> Iterator[Part]:
    """What follows the guide, from the OpenAPI document."""
    calls = [
        (method.upper(), path, operation)
        for path, methods in document()["paths"].items()
        for method, operation in methods.items()
        if operation["tags"] == [topic.capitalize()]
    ]
    if calls:
        html = "\n".join(call(*each) for each in calls)
        sections = [Section(each["operationId"], each["summary"], how) for how, _, each in calls]
        yield Part(f'<h2 id="calls">Calls</h2>\n{html}', [Section("calls", "Calls"), *sections])
    if topic == "errors":
        heading = Section("problems", "All problems")
        yield Part(f'<h2 id="problems">All problems</h2>{problem_list()}', [heading])
    if topic == "objects":
        named = objects()
        html = "\n".join(html for _, html in named)
        yield Part(html, [Section(f"schema-{name}", name) for name, _ in named])


def _navigation(topic: str, sections: Sequence[Section]) -> str:
    lines = []
    for each in ("", *TOPICS):
        title = each.capitalize() or "Start"
        current = ' aria-current="page"' if each == topic else ""
        lines.append(f'<li><a href="/docs{each and f"/{each}"}"{current}>{title}</a></li>')
    pages = "".join(lines)
    here = "".join(
        f'<li><a href="#{anchor}">{method and f"<span class={method}>{method}</span>"}'
        f"{escape(title)}</a></li>"
        for anchor, title, method in sections
    )
    here = here and f"<details open><summary>On this page</summary><ul>{here}</ul></details>"
    return (
        f'<nav aria-label="Documentation"><a class="brand" href="/docs">EasyPay</a>'
        f'<ul class="pages">{pages}</ul>{here}'
        '<p><a href="/openapi.json">OpenAPI 3.1</a></p></nav>'
    )


# Markdown ------------------------------------------------------------------------------------


def _guide(text: str) -> Part:
    """Markdown as HTML, with its headings: the title, and those of the second level."""
    tokens = _MARKDOWN.parse(text)
    sections = []
    for token, inner in pairwise(tokens):
        if token.type == "heading_open":
            anchor = re.sub(r"[^a-z0-9]+", "-", inner.content.lower()).strip("-")
            token.attrSet("id", anchor)
            if token.tag in ("h1", "h2"):
                sections.append(Section(anchor, inner.content))
        for child in token.children or ():
            if child.type == "link_open":
                child.attrSet("href", _address(str(child.attrs["href"])))
    return Part(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {}), sections)


def _address(link: str) -> str:
    """A link between the files as one between the pages."""
    file, found, anchor = link.partition(".md")
    return f"/docs/{file}{anchor}".replace("/docs/README", "/docs") if found else link


def _fence(renderer: Any, tokens: Sequence[Token], index: int, *_: Any) -> str:
    token = tokens[index]
    return code_block(token.content.rstrip("\n"), json=token.info == "json")


def _table_open(*_: Any) -> str:
    return '<div class="wide"><table>'


def _table_close(*_: Any) -> str:
    return "</table></div>"


_MARKDOWN: Final = MarkdownIt("commonmark", {"html": False}).enable("table")
_MARKDOWN.add_render_rule("fence", _fence)
_MARKDOWN.add_render_rule("table_open", _table_open)
_MARKDOWN.add_render_rule("table_close", _table_close)
