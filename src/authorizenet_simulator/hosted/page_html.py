"""The HTML of hosted pages: plain forms without scripts or external resources.

All text from requests and buyers is escaped where it is inserted.
"""

from base64 import b64encode
from collections.abc import Iterable, Mapping
from hashlib import sha256
from html import escape
from typing import Final

Form = Mapping[str, str]
"""The fields of a submitted form."""
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
    """Return the content security policy; `form_to` is another origin a form may redirect to."""
    targets = "'self'" if form_to is None else f"'self' {form_to}"
    return (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action {targets};"
        " base-uri 'none'"
    ).encode()


def page(title: str, *parts: str) -> bytes:
    """Build a page; the parts must be HTML."""
    shown = escape(title)
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{shown}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{shown}</h1>{''.join(parts)}</body></html>"
    ).encode()


def paragraph(text: str, *, error: bool = False) -> str:
    kind = ' class="error" role="alert"' if error else ""
    return f"<p{kind}>{escape(text)}</p>"


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Build a list of names and values, omitting empty values."""
    lines = (f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows if value)
    return f"<dl>{''.join(lines)}</dl>"


def link(url: str, text: str) -> str:
    """Build a link; the caller has checked that `url` is an http(s) address."""
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
    max_length: int = 50,
    digits: bool = False,
    required: bool = False,
) -> str:
    marks = (' inputmode="numeric"' if digits else "") + (" required" if required else "")
    return (
        f'<label>{escape(label)}<input name="{name}" value="{escape(value)}"'
        f' maxlength="{max_length}"{marks}></label>'
    )


def card_fields(*, needs_code: bool) -> list[str]:
    return [
        field("cardNumber", "Card number", max_length=23, digits=True, required=True),
        field("expirationDate", "Expires (MM/YY)", max_length=7, required=True),
        field("cardCode", "Card code", max_length=4, digits=True, required=needs_code),
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
"""The address fields of a form: label and maximum length."""


def address_fields(known: Mapping[str, str], *, required: bool) -> list[str]:
    return [
        field(name, label, value=known.get(name, ""), max_length=max_length, required=required)
        for name, (label, max_length) in ADDRESS.items()
    ]


def card_of(form: Form) -> dict[str, str]:
    """Return the `creditCard` entered in the card fields."""
    number = form.get("cardNumber", "").replace(" ", "").replace("-", "")
    card = {"cardNumber": number, "expirationDate": form.get("expirationDate", "")}
    return card | ({"cardCode": form["cardCode"]} if form.get("cardCode") else {})


def answer(body: bytes, status: int = 200, form_to: str | None = None) -> Answer:
    """Return a page with its headers; `form_to` is passed to `policy`."""
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-security-policy", policy(form_to)),
        (b"cache-control", b"no-store"),
        (b"referrer-policy", b"no-referrer"),
        (b"x-content-type-options", b"nosniff"),
        (b"content-length", b"%d" % len(body)),
    ]
    return status, headers, body
