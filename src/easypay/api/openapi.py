"""This API as OpenAPI 3.1, generated from the table of routes, the types and the examples.

`python -m easypay.api.openapi > docs/openapi.json` renews the checked-in copy.
"""

import sys
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final

import msgspec

from easypay import errors
from easypay.api import (
    batches,
    conditional,
    events,
    exports,
    payment_filters,
    reconciliation,
    schemas,
    settlements,
)
from easypay.api.doc_files import STYLE
from easypay.api.example_batches import BATCH_ID, stream_examples, upload_examples
from easypay.api.example_problems import problem_examples
from easypay.api.example_replies import export_examples, reply_examples
from easypay.api.examples import (
    ACCOUNT_ID,
    ATTEMPT_ID,
    BREAK_ID,
    CURSOR,
    CUSTOMER_ID,
    ENDPOINT_ID,
    KEY,
    KEY_ID,
    MERCHANT_ID,
    METHOD_ID,
    OPERATION_ID,
    PAYMENT_ID,
    REFUND_ID,
    Example,
    Examples,
    request_examples,
)
from easypay.api.http import JSON, encode
from easypay.api.idempotency import KEY_RULE, MAX_KEY
from easypay.api.numbered_pages import NumberedPage
from easypay.api.paging import DEFAULT_LIMIT, EXPAND_PATTERN, MAX_LIMIT, ORDERS, Page
from easypay.api.route_types import Route
from easypay.api.routes import ROUTES, TOPICS
from easypay.api.schemas import REF, Schema
from easypay.api.statistics import BY, INTERVALS
from easypay.api.waiting import LONGEST_S, WAIT_PATTERN
from easypay.batches.model import MOST_AT_ONCE, USUAL_AT_ONCE
from easypay.errors import EasyPayError
from easypay.mode import Mode
from easypay.payments.lists import MOST_COUNTED
from easypay.payments.model import STATUS
from easypay.payments.statistics import MOST_BUCKETS, MOST_TOTALS
from easypay.problem_table import PROBLEMS
from easypay.problems import MEDIA_TYPE
from easypay.processors.registry import DEFAULT

TAGS: Final[Mapping[str, str]] = {
    "Payments": "Take, hold, capture, void and refund payments, and read what happened.",
    "Settlements": "What was paid out with which batch, and what banks took back.",
    "Customers": "Customers, and payment methods that the processor keeps for them.",
    "Reconciliation": "What differs between the processor's books and EasyPay's.",
    "Batches": "Upload files of payments, captures, refunds and voids, and follow them.",
    "Events": "All that happens, in an order that never changes.",
    "Idempotency": "Find the payment that a request made when its answer was lost.",
    "Webhooks": "Be told of events: endpoints, deliveries, and sending again.",
    "Administration": "Merchants, their processor accounts and keys; what processors tell.",
    "System": "Health, and this documentation.",
}

_TAG_OF: Final = {
    **dict.fromkeys(("payments", "reading", "statistics", "exports"), "Payments"),
    **dict.fromkeys(("admin", "notifications", "profiles"), "Administration"),
    "settlements": "Settlements",
    "customers": "Customers",
    "batches": "Batches",
    "reconciliation": "Reconciliation",
    "events": "Events",
    "webhooks": "Webhooks",
}

DESCRIPTION: Final = """\
EasyPay takes payments through your own card processor account. The rules that all calls share are
on the gateway's own pages: [payments](/docs/payments), [idempotency](/docs/idempotency),
[errors](/docs/errors), [conventions](/docs/conventions) and [testing](/docs/testing).
"""

VERSION_TAG: Final = f"^{conditional.VERSION_TAG}$"
_HEADERS: Final[Mapping[str, Any]] = {
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

KEY_SCHEMA: Final = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_KEY,
    "pattern": r'^(?!""$)[!-~]([ -~]*[!-~])?$',
}
_PARAMETERS: Final[Mapping[str, tuple[str, str, Schema, Any]]] = {
    # name: (where, description, schema, example)
    "Idempotency-Key": (
        "header",
        "A new unique value for every new request, the same value to repeat a request. "
        f"{KEY_RULE} Each merchant and mode has keys of its own.",
        KEY_SCHEMA,
        None,  # an example would be copied, and then it is no new key
    ),
    "Allow-Duplicate": (
        "header",
        "Take the payment even if it looks like another one. Any other value is refused. It is not "
        "part of the request that a repeat must equal.",
        {"type": "string", "enum": ["true"]},
        None,
    ),
    "Cache-Control": (
        "header",
        "`max-age=N` allows an answer that was read at most N seconds ago, which is faster. "
        "`no-cache` asks for an exact one, also where the operator runs a read replica that may be "
        "a second behind. Other values change nothing.",
        {"type": "string"},
        "max-age=2",
    ),
    "Idempotency-Key.Prefer": (
        "header",
        "`respond-async`: accept the request at once with 202, and let a worker send it. Any other "
        "preference is ignored.",
        {"type": "string"},
        "respond-async",
    ),
    "If-Match": (
        "header",
        "Act only if it still has this ETag, else 412. `*` matches any version.",
        {"type": "string", "pattern": rf"{VERSION_TAG}|^\*$"},
        '"v2"',
    ),
    "If-None-Match": (
        "header",
        "Answer 304 if it still has this ETag, or one of several with commas between. `*` matches "
        "any.",
        {"type": "string"},
        '"v2"',
    ),
    "Prefer": (
        "header",
        f"`wait=N`: if there is no event yet, wait for one, at most N seconds and at most "
        f"{events.LONGEST_WAIT_S} (RFC 7240).",
        {"type": "string"},
        "wait=0",
    ),
    "after": (
        "query",
        "`next_cursor` of the page before; `latest`: only what happens from now on. By default "
        "all events. Good only with the keys of the same merchant and mode.",
        {"type": "string", "pattern": "^(latest|[A-Za-z0-9_-]{43}|[A-Za-z0-9_-]{54})$"},
        events.LATEST,
    ),
    "types": (
        "query",
        f"Only events of these types, up to {events.MOST_TYPES} with commas between. A page may "
        "then be short, or empty, although `has_more` is true.",
        {"type": "string", "pattern": events.TYPES_PATTERN},
        "payment.captured,refund.succeeded",
    ),
    "limit": (
        "query",
        "How many rows a page has.",
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
        20,
    ),
    "cursor": (
        "query",
        "`next_cursor` of the page before. Good only with the key and the filters of that page.",
        {"type": "string", "pattern": "^[A-Za-z0-9_-]{43}$"},
        CURSOR,
    ),
    "reference": (
        "query",
        "Only the customer with exactly this reference.",
        payment_filters.TEXT_SCHEMA,
        "C-7781",
    ),
    "email": (
        "query",
        "Only customers with this email address, whatever its case.",
        payment_filters.TEXT_SCHEMA,
        "ada@example.com",
    ),
    "order": (
        "query",
        "Whether the newest rows come first or the oldest.",
        {"type": "string", "enum": list(ORDERS), "default": ORDERS[0]},
        "oldest",
    ),
    "wait": (
        "query",
        f"Wait up to so many seconds, at most {LONGEST_S}, until the payment is no longer "
        "`pending`.",
        {"type": "string", "pattern": WAIT_PATTERN},
        "10",
    ),
    "expand": (
        "query",
        "Show each payment with its first 20 `refunds` or `operations`, or with its `customer`; "
        "several with commas between, such as `refunds,customer`.",
        {"type": "string", "pattern": EXPAND_PATTERN},
        "refunds",
    ),
    "query.page": (
        "query",
        "The page's number, from 1. `page` times `size` is at most 10000. Not with `cursor`.",
        {"type": "integer", "minimum": 1, "maximum": MOST_COUNTED},
        1,
    ),
    "size": (
        "query",
        "How many rows a numbered page has. Not with `limit` or `cursor`.",
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
        20,
    ),
    "status": (
        "query",
        "Only payments with this status now.",
        {"type": "string", "enum": list(STATUS)},
        "declined",
    ),
    "currency": (
        "query",
        "Only payments in this currency.",
        {"type": "string", "pattern": "^[A-Z]{3}$"},
        "USD",
    ),
    "amount_from": (
        "query",
        "Only payments of at least this amount, in minor units.",
        payment_filters.AMOUNT_SCHEMA,
        1000,
    ),
    "amount_to": (
        "query",
        "Only payments of at most this amount, in minor units.",
        payment_filters.AMOUNT_SCHEMA,
        2500,
    ),
    "last4": (
        "query",
        "Only payments by a card or account that ends in these digits.",
        {"type": "string", "pattern": "^[0-9]{4}$"},
        "1111",
    ),
    "brand": (
        "query",
        "Only payments by a card of this brand. Best with `last4`: many cards are of one brand.",
        payment_filters.TEXT_SCHEMA,
        "visa",
    ),
    "decline_code": (
        "query",
        "Only payments that were declined with this code.",
        payment_filters.TEXT_SCHEMA,
        "insufficient_funds",
    ),
    "refunded": (
        "query",
        "`true`: only payments of which something was refunded. `false`: only the others.",
        {"type": "boolean"},
        True,
    ),
    "order_reference": (
        "query",
        "Only payments with exactly this order reference.",
        payment_filters.TEXT_SCHEMA,
        "order-1001",
    ),
    "customer_reference": (
        "query",
        "Only payments with exactly this customer reference.",
        payment_filters.TEXT_SCHEMA,
        "customer-77",
    ),
    "customer": (
        "query",
        "Only payments with a stored payment method of this customer.",
        {"type": "string", "pattern": "^cus_[0-9a-f]{32}$"},
        "cus_019a3f6e1c7d7b3a8f2e5d4c3b2a1908",
    ),
    "processor_transaction_id": (
        "query",
        "Only payments with this transaction id of the processor.",
        payment_filters.TEXT_SCHEMA,
        "60198282518",
    ),
    "processor_reference": (
        "query",
        "Only the payment with this operation: the 20 characters that the processor's portal shows "
        "as invoice number.",
        {"type": "string", "pattern": "^[0-9A-HJKMNP-TV-Z]{20}$"},
        "01A22B4D3C8177A3AC34",
    ),
    "created_from": (
        "query",
        "Only rows created at or after this time (RFC 3339).",
        {"type": "string", **schemas.MOMENT},
        "2026-11-01T00:00:00Z",
    ),
    "created_to": (
        "query",
        "Only rows created before this time (RFC 3339).",
        {"type": "string", **schemas.MOMENT},
        "2026-12-01T00:00:00Z",
    ),
    "from": (
        "query",
        "The beginning (RFC 3339). By default 30 days before `to`.",
        {"type": "string", **schemas.MOMENT},
        "2026-11-01T00:00:00Z",
    ),
    "to": (
        "query",
        "The end, which does not belong to it (RFC 3339). By default now.",
        {"type": "string", **schemas.MOMENT},
        "2026-12-01T00:00:00Z",
    ),
    "interval": (
        "query",
        f"Split the time into these. An answer has at most {MOST_BUCKETS} parts, and at most "
        f"{MOST_TOTALS} totals in them: one for each part, currency and brand.",
        {"type": "string", "enum": list(INTERVALS), "default": "none"},
        "day",
    ),
    "by": (
        "query",
        "Totals for each currency, or for each currency and card brand.",
        {"type": "string", "enum": list(BY), "default": "currency"},
        "brand",
    ),
    "name": (
        "query",
        "A name for people: one printable line.",
        {
            "type": "string",
            "maxLength": batches.LONGEST_NAME,
            "pattern": r"^[^\x00-\x1f\x7f]*$",
        },
        "november",
    ),
    "on_error": (
        "query",
        "What to do if a line is wrong. `refuse`: nothing of the file runs. `skip`: the others do.",
        {"type": "string", "enum": ["refuse", "skip"], "default": "refuse"},
        None,
    ),
    "start": (
        "query",
        "`false`: the batch waits until it is started.",
        {"type": "string", "enum": ["true", "false"], "default": "true"},
        None,
    ),
    "lines_per_second": (
        "query",
        "How many lines may begin in a second. Without it, as many as can.",
        {"type": "integer", "minimum": 1, "maximum": batches.MOST_RATE},
        None,
    ),
    "at_once": (
        "query",
        "How many lines may be under way at the same time.",
        {
            "type": "integer",
            "minimum": 1,
            "maximum": MOST_AT_ONCE,
            "default": USUAL_AT_ONCE,
        },
        None,
    ),
    "key": ("path", "The idempotency key, percent-encoded.", KEY_SCHEMA, KEY),
    "mode": ("path", "The account's mode.", {"type": "string", "enum": list(Mode)}, "test"),
    "page": ("path", "The page's topic.", {"type": "string", "enum": list(TOPICS)}, "payments"),
    "file": (
        "path",
        "The file's name, as the pages have it.",
        {"type": "string", "pattern": r"^[a-z]+-[0-9a-f]{16}\.(css|js)$"},
        STYLE.name,
    ),
    "code": (
        "path",
        "A problem's code.",
        {"type": "string", "enum": list(PROBLEMS)},
        "not_settled",
    ),
    "key_id": (
        "path",
        "The key's id, not its secret.",
        {"type": "string", "pattern": "^key_[0-9a-f]{32}$"},
        KEY_ID,
    ),
    "batch_id": (
        "path",
        "The processor's id of the batch.",
        {"type": "string", "pattern": settlements.BATCH_ID},
        "12345678",
    ),
    "state": (
        "query",
        "Only differences in this state.",
        {"type": "string", "enum": list(reconciliation.STATES)},
        "open",
    ),
    "kind": (
        "query",
        "Only differences of this kind.",
        {"type": "string", "enum": list(reconciliation.KINDS)},
        None,
    ),
    "breaks.id": (
        "path",
        "The difference's id.",
        {"type": "string", "pattern": "^brk_[0-9a-f]{32}$"},
        BREAK_ID,
    ),
    "attempt_id": (
        "path",
        "The delivery's id.",
        {"type": "string", "pattern": "^wha_[0-9a-f]{32}$"},
        ATTEMPT_ID,
    ),
    "processor": (
        "path",
        "The processor's name.",
        {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,31}$"},
        DEFAULT,
    ),
    "account": (
        "path",
        "The account, in the address that the processor was given.",
        {"type": "string", "pattern": "^acc_[0-9a-f]{32}$"},
        ACCOUNT_ID,
    ),
    "payments.id": (
        "path",
        "The payment's id.",
        {"type": "string", "pattern": "^pay_[0-9a-f]{32}$"},
        PAYMENT_ID,
    ),
    "refunds.id": (
        "path",
        "The refund's id.",
        {"type": "string", "pattern": "^re_[0-9a-f]{32}$"},
        REFUND_ID,
    ),
    "operations.id": (
        "path",
        "The operation's id.",
        {"type": "string", "pattern": "^op_[0-9a-f]{32}$"},
        OPERATION_ID,
    ),
    "batches.id": (
        "path",
        "The batch's id.",
        {"type": "string", "pattern": "^bat_[0-9a-f]{32}$"},
        BATCH_ID,
    ),
    "webhook-endpoints.id": (
        "path",
        "The endpoint's id.",
        {"type": "string", "pattern": "^whe_[0-9a-f]{32}$"},
        ENDPOINT_ID,
    ),
    "customers.id": (
        "path",
        "The customer's id.",
        {"type": "string", "pattern": "^cus_[0-9a-f]{32}$"},
        CUSTOMER_ID,
    ),
    "payment_methods.id": (
        "path",
        "The stored payment method's id.",
        {"type": "string", "pattern": "^pm_[0-9a-f]{32}$"},
        METHOD_ID,
    ),
    "merchants.id": (
        "path",
        "The merchant's id.",
        {"type": "string", "pattern": "^mer_[0-9a-f]{32}$"},
        MERCHANT_ID,
    ),
}
_REQUIRED: Final = ("Idempotency-Key",)

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


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document. Shared: do not change it."""
    shared = _shared_problems()
    paths: dict[str, Any] = {}
    for route in ROUTES:
        path = route.path.replace(":path}", "}")
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, shared)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "EasyPay",
            "version": "1.0.0",
            "summary": "A payment gateway that you run yourself.",
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The gateway that serves this document"}],
        "tags": [{"name": name, "description": said} for name, said in TAGS.items()],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "merchantKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "ep_{test|live}_sk_...",
                    "description": "A merchant's key for one mode, with scopes.",
                },
                "adminKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The operator's key, EASYPAY_ADMIN_KEY of the gateway.",
                },
            },
            "headers": {
                name: {"description": said, "schema": schema}
                for name, (said, schema) in _HEADERS.items()
            },
            "examples": {name: _example(example) for name, example in shared.items()},
            "schemas": _components(),
        },
    }


def openapi_json() -> bytes:
    """The document, compact: what /openapi.json serves."""
    return encode(document())


def _components() -> dict[str, Schema]:
    pages = sorted({schemas.name_of(route.page_of) for route in ROUTES if route.page_of})
    types = [
        kind
        for route in ROUTES
        for kind in (
            *(route.body, route.page_of, *route.replies.values()),
            NumberedPage if route.numbered else None,
        )
        if kind is not None
    ]
    found = schemas.components(types)
    page = found.pop(Page.__name__)
    found |= {f"{name}Page": schemas.page_of(name, page) for name in pages}
    numbered = found.pop(NumberedPage.__name__)
    found |= {
        f"Numbered{name}Page": schemas.page_of(name, numbered, prefix="Numbered")
        for name in sorted(schemas.name_of(r.page_of) for r in ROUTES if r.numbered and r.page_of)
    }
    return dict(sorted(found.items()))


def tag_of(route: Route) -> str:
    """The chapter that the call stands in."""
    if route.handler == "key":
        return "Idempotency"
    return _TAG_OF.get(route.api, "System")


def errors_of(route: Route) -> list[type[EasyPayError]]:
    """What the call may refuse with, by status: what the table says, and what any call may."""
    everywhere = (errors.MalformedRequest, errors.Internal) if route.scope else ()
    found = dict.fromkeys((*route.errors, *everywhere))
    return sorted(found, key=lambda error: (error.http_status, error.code))


def _operation(route: Route, shared: Mapping[str, Example]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.operation_id,
        "tags": [tag_of(route)],
        "summary": route.summary,
        "description": route.description,
        "parameters": _parameters(route),
    }
    if route.body is not None:
        examples = request_examples(route.body)
        content = _content(JSON.decode(), schemas.name_of(route.body), examples)
        operation["requestBody"] = {"required": route.body_required, "content": content}
    if route.uploads:
        content = {
            exports.MEDIA_TYPES[format]: {
                "schema": {"type": "string"},
                "examples": {"file": {"summary": summary, "value": text}},
            }
            for format, (summary, text) in upload_examples().items()
        }
        operation["requestBody"] = {"required": True, "content": content}
    operation["responses"] = {
        **{str(status): _reply(route, status, kind) for status, kind in route.replies.items()},
        **_refusals(route, shared),
    }
    if route.scope is None:
        operation["security"] = []
    elif route.scope == "admin":
        operation["security"] = [{"adminKey": []}]
    else:
        operation["security"] = [{"merchantKey": [route.scope]}]
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    in_path = [
        part[1:-1].partition(":")[0] for part in route.path.split("/") if part.startswith("{")
    ]
    found = []
    for name in (*in_path, *route.query, *route.headers):
        key = name
        if name == "id":  # of what stands before it in the path
            key = f"{route.path.partition('/{id}')[0].rpartition('/')[2]}.id"
        elif name in route.query and f"query.{name}" in _PARAMETERS:
            key = f"query.{name}"
        elif "Idempotency-Key" in route.headers and f"Idempotency-Key.{name}" in _PARAMETERS:
            key = f"Idempotency-Key.{name}"  # of the calls that move money
        where, said, schema, example = _PARAMETERS[key]
        found.append(
            {
                "name": name,
                "in": where,
                "required": where == "path" or name in _REQUIRED,
                "description": said,
                "schema": schema,
            }
            | ({} if example is None else {"example": example})
        )
    return found


def _reply(route: Route, status: int, kind: type | None) -> dict[str, Any]:
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
        reply["content"] = _content(JSON.decode(), name, examples)
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


def _refusals(route: Route, shared: Mapping[str, Example]) -> dict[str, Any]:
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
            else _example(example)
            for name, example in examples.items()
        }
    return refusals


def _shared_problems() -> Examples:
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


def _content(media: str, name: str, examples: Examples) -> dict[str, Any]:
    return {
        media: {
            "schema": {"$ref": REF + name},
            "examples": {name: _example(example) for name, example in examples.items()},
        }
    }


def _example(example: Example) -> dict[str, Any]:
    return {"summary": example.summary, "value": example.value}


def _headers(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _header(name: str, example: Any) -> dict[str, Any]:
    said, schema = _HEADERS[name]
    return {"description": said, "schema": schema, "example": example}


def main() -> None:
    """Write the document for people, as docs/openapi.json has it."""
    sys.stdout.buffer.write(msgspec.json.format(encode(document()), indent=2) + b"\n")


if __name__ == "__main__":
    main()
