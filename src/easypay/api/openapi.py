"""This API as OpenAPI 3.1, generated from the table of routes, the types and the examples.

`python -m easypay.api.openapi > docs/openapi.json` renews the checked-in copy.
"""

import sys
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import msgspec

from easypay.api import exports, schemas
from easypay.api.example_batches import upload_examples
from easypay.api.examples import Example, request_examples
from easypay.api.http import JSON, encode
from easypay.api.numbered_pages import NumberedPage
from easypay.api.openapi_parameters import parameters_of
from easypay.api.openapi_replies import (
    HEADERS,
    content_of,
    example_of,
    refusals_of,
    reply_of,
    shared_problems,
)
from easypay.api.paging import Page
from easypay.api.route_types import Route
from easypay.api.routes import ROUTES
from easypay.api.schemas import Schema

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


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document. Shared: do not change it."""
    shared = shared_problems()
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
                for name, (said, schema) in HEADERS.items()
            },
            "examples": {name: example_of(example) for name, example in shared.items()},
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


def _operation(route: Route, shared: Mapping[str, Example]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.operation_id,
        "tags": [tag_of(route)],
        "summary": route.summary,
        "description": route.description,
        "parameters": parameters_of(route),
    }
    if route.body is not None:
        examples = request_examples(route.body)
        content = content_of(JSON.decode(), schemas.name_of(route.body), examples)
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
        **{str(status): reply_of(route, status, kind) for status, kind in route.replies.items()},
        **refusals_of(route, shared),
    }
    if route.scope is None:
        operation["security"] = []
    elif route.scope == "admin":
        operation["security"] = [{"adminKey": []}]
    else:
        operation["security"] = [{"merchantKey": [route.scope]}]
    return operation


def main() -> None:
    """Write the document for people, as docs/openapi.json has it."""
    sys.stdout.buffer.write(msgspec.json.format(encode(document()), indent=2) + b"\n")


if __name__ == "__main__":
    main()
