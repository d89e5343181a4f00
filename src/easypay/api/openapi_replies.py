"""The answers of the calls, as OpenAPI has them: replies, refusals, their headers and examples."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from easypay import errors
from easypay.api import conditional, exports, schemas
from easypay.api.example_batches import stream_examples
from easypay.api.example_problems import problem_examples
from easypay.api.example_replies import export_examples, reply_examples
from easypay.api.examples import Example, Examples
from easypay.api.http import JSON, encode
from easypay.api.route_types import Route
from easypay.api.routes import ROUTES
from easypay.api.schema_words import REF
from easypay.errors import EasyPayError
from easypay.problem_table import PROBLEMS
from easypay.problems import MEDIA_TYPE

HEADERS: Final[Mapping[str, Any]] = {
    "Request-Id": ("The id of this request. Quote it when you ask for help.", {"type": "string"}),
    "Location": (
        "The address of what was made: the payment, refund or customer; or of the operation if "
        "that is queued.",
        {"type": "string", "format": "uri-reference"},
    ),
    "Retry-After": ("Seconds to wait before asking again.", {"type": "integer", "minimum": 1}),
    "ETag": (
        "Changes with the body, and with its coding. Of a payment: its `version` after a `v`, and "
        'the form in which it is shown: `"v2.3f9a1c"`.',
        {"type": "string", "pattern": f"^{conditional.ANY_TAG}$"},
    ),
    "Link": (
        'The next page, with `rel="next"` (RFC 8288). Absent on the last.',
        {"type": "string"},
    ),
    "X-Total-Count": ("Of a numbered page: how many rows there are.", {"type": "integer"}),
    "X-Page": ("Of a numbered page: its number.", {"type": "integer"}),
    "X-Size": ("Of a numbered page: how many rows a page has.", {"type": "integer"}),
    "X-Total-Is-Estimate": (
        "Of a numbered page: `true` if there may be more rows than X-Total-Count says. Absent if "
        "the count is exact.",
        {"type": "string", "enum": ["true"]},
    ),
    "Read-As-Of": (
        "If the operator runs a read replica and the reply comes from it: everything that was "
        "committed by this time is in it. Absent if the reply is exact.",
        {"type": "string", "format": "date-time"},
    ),
    "Age": (
        "How many seconds ago the answer was read. Absent if it was read for this request.",
        {"type": "integer", "minimum": 0},
    ),
    "Idempotency-Replayed": (
        "`true` if this is the stored reply to an earlier request with the same key.",
        {"type": "string", "enum": ["true"]},
    ),
    "Server-Timing": (
        "The time spent, in milliseconds: `begin` and `record` in the gateway, `processor` at the "
        "processor.",
        {"type": "string"},
    ),
    "Preference-Applied": (
        "`wait=N`: the request was ready to wait so many seconds for an event. `respond-async`: "
        "the request was accepted, and will be sent later.",
        {"type": "string"},
    ),
    "WWW-Authenticate": ("The expected kind of key.", {"type": "string", "enum": ["Bearer"]}),
}

_ON_THE_PRIMARY: Final = ("payments_get",)
"""Reads that never come from a read replica, although they take Cache-Control."""

_OF_NUMBERED_PAGES: Final = ("X-Total-Count", "X-Page", "X-Size", "X-Total-Is-Estimate")

_MEANINGS: Final = {
    200: "OK.",
    201: "Created: the outcome is in `status`.",
    202: "Accepted: the outcome is not known yet. Read the Location.",
    204: "Saved.",
    304: "Not modified: it still has that ETag.",
}

_SYSTEM: Final[Mapping[tuple[str, int], tuple[str, str, str]]] = {
    # (handler, status): (meaning, media type, example)
    ("livez", 200): ("The process is alive.", "text/plain", "alive\n"),
    ("readyz", 200): ("Ready for traffic.", "text/plain", "ready\n"),
    ("readyz", 503): ("Not ready, and why.", "text/plain", "not ready: draining\n"),
    ("openapi", 200): ("This document.", JSON.decode(), ""),
    ("docs", 200): ("The start page.", "text/html", ""),
    ("topic", 200): ("The page.", "text/html", ""),
    ("asset", 200): ("The file.", "text/css", ""),
    ("problem", 200): ("The problem's page.", "text/html", ""),
}


def errors_of(route: Route) -> list[type[EasyPayError]]:
    """What the call may refuse with, by status: what the table says, and what any call may."""
    everywhere = (errors.MalformedRequest, errors.Internal) if route.scope else ()
    found = dict.fromkeys((*route.errors, *everywhere))
    return sorted(found, key=lambda error: (error.http_status, error.code))


def reply_of(route: Route, status: int, kind: type | None) -> dict[str, Any]:
    """The answer of a call with one status: its headers, its body and examples."""
    said, content = _body_of(route, status, kind)
    headers = _headers(_header_names(route, status, kind))
    if status == 202:
        headers["Retry-After"] = _header("Retry-After", 5)
    reply: dict[str, Any] = {"description": said, "headers": headers}
    return reply | {"content": content} if content else reply


def _header_names(route: Route, status: int, kind: type | None) -> list[str]:
    """Return the headers of an answer, in the order in which the page shows them."""
    names = ["Request-Id"]
    money = "Idempotency-Key" in route.headers and not route.uploads
    cached = "Cache-Control" in route.headers
    for applies, added in (
        (route.uploads and status == 201, ("Location",)),
        (money, ("Location", "Idempotency-Replayed", "Server-Timing")),
        (status == 202, ("Retry-After",)),
        ("Prefer" in route.headers and (not money or status == 202), ("Preference-Applied",)),
        ("If-None-Match" in route.headers, ("ETag",)),
        (cached and not route.streams, ("Age",)),
        (cached and route.operation_id not in _ON_THE_PRIMARY, ("Read-As-Of",)),
        (kind is not None and "cursor" in route.query, ("Link",)),
        (kind is not None and route.numbered, _OF_NUMBERED_PAGES),
    ):
        if applies:
            names += added
    return names


def _body_of(route: Route, status: int, kind: type | None) -> tuple[str, dict[str, Any]]:
    """Return what an answer means, and its body by media type; empty if it has none."""
    if (route.handler, status) in _SYSTEM:
        return _system_body(route.handler, status)
    if route.streams:
        batch = route.api == "batches"
        texts = stream_examples(route.operation_id) if batch else export_examples()
        line, lines = ("line", "lines") if batch else ("payment", "payments")
        return f"The {lines}, and a last line with their number.", {
            exports.MEDIA_TYPES[format]: {
                "schema": {"type": "string"},
                "examples": {"one": {"summary": f"One {line}", "value": text}},
            }
            for format, text in texts.items()
        }
    content: dict[str, Any] = {}
    if kind is not None:
        name = f"{schemas.name_of(route.page_of)}Page" if route.page_of else schemas.name_of(kind)
        content = content_of(JSON.decode(), name, reply_examples(route.operation_id, status))
        if route.numbered:
            refs = [{"$ref": REF + name}, {"$ref": REF + f"Numbered{name}"}]
            content[JSON.decode()]["schema"] = {"oneOf": refs}
    return _MEANINGS.get(status, ""), content


def _system_body(handler: str, status: int) -> tuple[str, dict[str, Any]]:
    said, media, text = _SYSTEM[handler, status]
    body: dict[str, Any] = {"schema": {"type": "object" if media == JSON.decode() else "string"}}
    if text:
        body["examples"] = {handler: {"value": text}}
    return said, {media: body}


def refusals_of(route: Route, shared: Mapping[str, Example]) -> dict[str, Any]:
    """One answer for each status, with an example for each code."""
    refusals: dict[str, Any] = {}
    for error in errors_of(route):
        examples = problem_examples(route.operation_id, route.scope, route.body, error)
        if not examples:
            continue
        status = str(error.http_status)
        reply = refusals.setdefault(
            status,
            {
                "description": "",
                "headers": _headers(["Request-Id"]),
                "content": {MEDIA_TYPE: {"schema": {"$ref": REF + "Problem"}, "examples": {}}},
            },
        )
        reply["description"] += f"{' ' * bool(reply['description'])}`{error.code}`: {error.__doc__}"
        if (retry_after_s := PROBLEMS[error.code].retry_after_s) is not None:
            reply["headers"].setdefault("Retry-After", _header("Retry-After", retry_after_s))
        if status == "401":
            reply["headers"] |= _headers(["WWW-Authenticate"])
        if "Idempotency-Key" in route.headers and PROBLEMS[error.code].kept:
            reply["headers"] |= _headers(["Idempotency-Replayed", "Server-Timing"])
        reply["content"][MEDIA_TYPE]["examples"] |= {
            name: {"$ref": f"#/components/examples/{name}"}
            if shared.get(name) == example
            else example_of(example)
            for name, example in examples.items()
        }
    return refusals


def shared_problems() -> Examples:
    """The examples that read the same in several calls: they stand once, under components."""
    seen: dict[tuple[str, bytes], Example] = {}
    often: Examples = {}
    for route in ROUTES:
        for error in errors_of(route):
            found = problem_examples(route.operation_id, route.scope, route.body, error)
            for name, example in found.items():
                key = name, encode(example)
                if key in seen:
                    often.setdefault(name, example)
                seen[key] = example
    return dict(sorted(often.items()))


def content_of(media: str, name: str, examples: Examples) -> dict[str, Any]:
    """A body of a schema, with its examples."""
    return {
        media: {
            "schema": {"$ref": REF + name},
            "examples": {name: example_of(example) for name, example in examples.items()},
        }
    }


def example_of(example: Example) -> dict[str, Any]:
    """An example as OpenAPI has it."""
    return {"summary": example.summary, "value": example.value}


def _headers(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _header(name: str, example: Any) -> dict[str, Any]:
    said, schema = HEADERS[name]
    return {"description": said, "schema": schema, "example": example}
