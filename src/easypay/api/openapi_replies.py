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
    headers = ["Request-Id"]
    money = "Idempotency-Key" in route.headers and not route.uploads
    if route.uploads and status == 201:
        headers.append("Location")
    if money:
        headers += ["Location", "Idempotency-Replayed", "Server-Timing"]
    if status == 202:
        headers.append("Retry-After")
    if "Prefer" in route.headers and (not money or status == 202):
        headers.append("Preference-Applied")
    if "If-None-Match" in route.headers:
        headers.append("ETag")
    if "Cache-Control" in route.headers and not route.streams:
        headers.append("Age")
    if "Cache-Control" in route.headers and route.operation_id not in _ON_THE_PRIMARY:
        headers.append("Read-As-Of")
    if "cursor" in route.query and kind is not None:
        headers.append("Link")
    if route.numbered and kind is not None:
        headers += ["X-Total-Count", "X-Page", "X-Size", "X-Total-Is-Estimate"]
    reply: dict[str, Any] = {"description": _MEANINGS.get(status, ""), "headers": _headers(headers)}
    if status == 202:
        reply["headers"]["Retry-After"] = _header("Retry-After", 5)
    if kind is not None:
        name = f"{schemas.name_of(route.page_of)}Page" if route.page_of else schemas.name_of(kind)
        examples = reply_examples(route.operation_id, status)
        reply["content"] = content_of(JSON.decode(), name, examples)
    if route.numbered and kind is not None:
        refs = [{"$ref": REF + name}, {"$ref": REF + f"Numbered{name}"}]
        reply["content"][JSON.decode()]["schema"] = {"oneOf": refs}
    if route.api == "batches" and route.streams:
        reply["description"] = "The lines, and a last one with their number."
        reply["content"] = {
            exports.MEDIA_TYPES[format]: {
                "schema": {"type": "string"},
                "examples": {"one": {"summary": "One line", "value": text}},
            }
            for format, text in stream_examples(route.operation_id).items()
        }
    elif route.streams:
        reply["description"] = "The payments, and a last line with their number."
        reply["content"] = {
            exports.MEDIA_TYPES[format]: {
                "schema": {"type": "string"},
                "examples": {"one": {"summary": "One payment", "value": text}},
            }
            for format, text in export_examples().items()
        }
    if (route.handler, status) in _SYSTEM:
        said, media, text = _SYSTEM[route.handler, status]
        schema = {"type": "object" if media == JSON.decode() else "string"}
        reply["description"] = said
        reply["content"] = {media: {"schema": schema}}
        if text:
            reply["content"][media]["examples"] = {route.handler: {"value": text}}
    return reply


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
