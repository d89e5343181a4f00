"""The HTML of hosted pages: plain forms, no script, nothing from elsewhere.

Whatever a request or a buyer said is escaped where it enters a page.
"""

from base64 import b64encode
from collections.abc import Iterable, Mapping
from hashlib import sha256
from html import escape
from typing import Final

Form = Mapping[str, str]
"""What a browser sent."""
Answer = tuple[int, list[tuple[bytes, bytes]], bytes]
"""HTTP status, headers, body."""

_STYLE: Final = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:30rem;margin:2rem auto;padding:0 1rem}"
    "label{display:block;margin:.5rem 0}input,select{display:block;width:100%;padding:.4rem;"
    "box-sizing:border-box;font:inherit}button{font:inherit;padding:.5rem 1.5rem;margin-top:1rem}"
    "dt{font-weight:600}dd{margin:0 0 .5rem}.error{border-left:4px solid #b00;padding-left:.5rem}"
)
_STYLE_HASH: Final = b64encode(sha256(_STYLE.encode()).digest()).decode()


def policy(form_to: str | None) -> bytes:
    """The content security policy. A form may lead to one other origin after it is answered."""
    targets = "'self'" if form_to is None else f"'self' {form_to}"
    return (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action {targets};"
        " base-uri 'none'"
    ).encode()


def page(title: str, *parts: str) -> bytes:
    """A whole page; the parts are HTML already."""
    shown = escape(title)
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{shown}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{shown}</h1>{''.join(parts)}</body></html>"
    ).encode()


def paragraph(text: str, *, error: bool = False) -> str:
    kind = ' class="error" role="alert"' if error else ""
    return f"<p{kind}>{escape(text)}</p>"


def facts(told: Iterable[tuple[str, str]]) -> str:
    """A list of names and values; what has no value is left out."""
    lines = (f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in told if value)
    return f"<dl>{''.join(lines)}</dl>"


def link(url: str, text: str) -> str:
    """`url` was checked to be a web address."""
    return f'<p><a href="{escape(url)}" rel="noreferrer">{escape(text)}</a></p>'


def form(action: str, hidden: Mapping[str, str], fields: Iterable[str], button: str) -> str:
    kept = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in hidden.items()
    )
    return (
        f'<form method="post" action="{escape(action)}" autocomplete="off">{kept}'
        f'{"".join(fields)}<button type="submit">{escape(button)}</button></form>'
    )


def field(
    name: str,
    label: str,
    *,
    value: str = "",
    longest: int = 50,
    digits: bool = False,
    required: bool = False,
) -> str:
    marks = (' inputmode="numeric"' if digits else "") + (" required" if required else "")
    return (
        f'<label>{escape(label)}<input name="{name}" value="{escape(value)}"'
        f' maxlength="{longest}"{marks}></label>'
    )


def card_fields(*, needs_code: bool) -> list[str]:
    return [
        field("cardNumber", "Card number", longest=23, digits=True, required=True),
        field("expirationDate", "Expires (MM/YY)", longest=7, required=True),
        field("cardCode", "Card code", longest=4, digits=True, required=needs_code),
    ]


ADDRESS: Final = {
    "firstName": ("First name", 50),
    "lastName": ("Last name", 50),
    "address": ("Address", 60),
    "city": ("City", 40),
    "state": ("State", 40),
    "zip": ("ZIP", 20),
    "country": ("Country", 60),
}
"""The parts of an address that a form asks for: label, and the most characters."""


def address_fields(known: Mapping[str, str], *, required: bool) -> list[str]:
    return [
        field(name, label, value=known.get(name, ""), longest=longest, required=required)
        for name, (label, longest) in ADDRESS.items()
    ]


def card_of(form: Form) -> dict[str, str]:
    """The `creditCard` that the card fields were filled with."""
    number = form.get("cardNumber", "").replace(" ", "").replace("-", "")
    card = {"cardNumber": number, "expirationDate": form.get("expirationDate", "")}
    return card | ({"cardCode": form["cardCode"]} if form.get("cardCode") else {})


def answer(body: bytes, status: int = 200, form_to: str | None = None) -> Answer:
    """A page with the headers that every page has; `form_to` as `policy` takes it."""
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-security-policy", policy(form_to)),
        (b"cache-control", b"no-store"),
        (b"referrer-policy", b"no-referrer"),
        (b"x-content-type-options", b"nosniff"),
        (b"content-length", b"%d" % len(body)),
    ]
    return status, headers, body
