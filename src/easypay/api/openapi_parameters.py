"""The parameters of the calls, as OpenAPI has them: in paths, queries and headers."""

from collections.abc import Mapping
from typing import Any, Final

from easypay.api import (
    batches,
    conditional,
    events,
    payment_filters,
    reconciliation,
    schema_words,
    settlements,
)
from easypay.api.doc_files import STYLE
from easypay.api.example_batches import BATCH_ID
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
)
from easypay.api.idempotency import KEY_RULE, MAX_KEY
from easypay.api.paging import DEFAULT_LIMIT, EXPAND_PATTERN, MAX_LIMIT, ORDERS
from easypay.api.route_types import Route
from easypay.api.routes import TOPICS
from easypay.api.schemas import Schema
from easypay.api.statistics import BY, INTERVALS
from easypay.api.waiting import LONGEST_S, WAIT_PATTERN
from easypay.batches.model import MOST_AT_ONCE, USUAL_AT_ONCE
from easypay.mode import Mode
from easypay.payments.lists import MOST_COUNTED
from easypay.payments.model import STATUS
from easypay.payments.statistics import MOST_BUCKETS, MOST_TOTALS
from easypay.problem_table import PROBLEMS
from easypay.processors.registry import DEFAULT

VERSION_TAG: Final = f"^{conditional.VERSION_TAG}$"

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
        {"type": "string", **schema_words.MOMENT},
        "2026-11-01T00:00:00Z",
    ),
    "created_to": (
        "query",
        "Only rows created before this time (RFC 3339).",
        {"type": "string", **schema_words.MOMENT},
        "2026-12-01T00:00:00Z",
    ),
    "from": (
        "query",
        "The beginning (RFC 3339). By default 30 days before `to`.",
        {"type": "string", **schema_words.MOMENT},
        "2026-11-01T00:00:00Z",
    ),
    "to": (
        "query",
        "The end, which does not belong to it (RFC 3339). By default now.",
        {"type": "string", **schema_words.MOMENT},
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


def parameters_of(route: Route) -> list[dict[str, Any]]:
    """The parameters of a call: those in its path first, then the query, then the headers."""
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
