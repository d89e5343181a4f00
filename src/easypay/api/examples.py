"""Worked examples: what one is, the ids and moments all share, and a body for every call.

The card number is the public test number; ids and moments are fixed, so that generated files are
stable. What is answered is in `example_replies` and `example_problems`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

import msgspec

from easypay import ids
from easypay.api import admin, batches, customer_bodies, profiles, reconciliation, webhooks
from easypay.api.paging import Cursors
from easypay.merchants.model import Caller
from easypay.mode import Mode
from easypay.payment_details import DETAIL_EXAMPLES
from easypay.payments.requests import (
    CapturePayment,
    CreatePayment,
    RefundPayment,
    ReviewPayment,
    VoidPayment,
)


class Example(msgspec.Struct, frozen=True):
    """A named example: what it shows, and its JSON value (or text, for what is not JSON)."""

    summary: str
    value: Any


Examples = dict[str, Example]

AT: Final = datetime(2026, 11, 24, 9, 41, 5, 123_000, UTC)
KEY: Final = "8e03978e-40d5-43e8-bc93-6894a57f9324"


def example_id(kind: str, name: str, at: datetime = AT) -> UUID:
    """A fixed UUIDv7 of that moment."""
    noise = int.from_bytes(sha256(f"{kind} {name}".encode()).digest()[:10], "big")
    low = noise & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62
    return UUID(int=ids.lowest_id_at(at).int | low)


PAYMENT_ID: Final = ids.typed(ids.PAYMENT, example_id(ids.PAYMENT, "first"))
ACCOUNT_ID: Final = ids.typed(ids.ACCOUNT, example_id(ids.ACCOUNT, "shop"))
MERCHANT_UUID: Final = example_id(ids.MERCHANT, "shop")
MERCHANT_ID: Final = ids.typed(ids.MERCHANT, MERCHANT_UUID)
ENDPOINT_UUID: Final = example_id(ids.ENDPOINT, "shop")
BREAK_UUID: Final = example_id(ids.BREAK, "break", AT)
BREAK_ID: Final = ids.typed(ids.BREAK, BREAK_UUID)
ENDPOINT_ID: Final = ids.typed(ids.ENDPOINT, ENDPOINT_UUID)
ATTEMPT_UUID: Final = example_id(ids.ATTEMPT, "first")
ATTEMPT_ID: Final = ids.typed(ids.ATTEMPT, ATTEMPT_UUID)
EVENT_UUID: Final = example_id(ids.EVENT, "payment.captured")
EVENT_ID: Final = ids.typed(ids.EVENT, EVENT_UUID)
CUSTOMER_UUID: Final = example_id(ids.CUSTOMER, "ada")
CUSTOMER_ID: Final = ids.typed(ids.CUSTOMER, CUSTOMER_UUID)
METHOD_UUID: Final = example_id(ids.PAYMENT_METHOD, "visa")
METHOD_ID: Final = ids.typed(ids.PAYMENT_METHOD, METHOD_UUID)
API_KEY_UUID: Final = example_id(ids.API_KEY, "checkout")
OPERATION_ID: Final = ids.typed(ids.OPERATION, example_id(ids.OPERATION, "first"))
REFUND_ID: Final = ids.typed(ids.REFUND, example_id(ids.OPERATION, "refund"))
KEY_ID: Final = ids.typed(ids.API_KEY, API_KEY_UUID)
REQUEST_ID: Final = f"req_{example_id('req', 'first').hex}"
CALLER: Final = Caller(
    MERCHANT_UUID, Mode.TEST, API_KEY_UUID, frozenset(), frozenset(), False, None, None
)
CURSORS: Final = Cursors(b"the examples' key")
CURSOR: Final = CURSORS.write(example_id(ids.PAYMENT, "first"), CALLER, "payments None None")
"""Made as a gateway makes it, with a key of the examples' own: no gateway accepts it."""

# What is asked --------------------------------------------------------------------------------

_CARD: Final = {
    "type": "card",
    "card": {"number": "4111111111111111", "exp_month": 12, "exp_year": 2030, "cvc": "123"},
}
_BANK_ACCOUNT: Final = {
    "type": "bank_account",
    "bank_account": {
        "account_type": "checking",
        "routing_number": "121042882",
        "account_number": "123456789",
        "name_on_account": "Ada Byron",
    },
}
_TOKEN: Final = {
    "type": "accept_token",
    "accept_token": {
        "data_descriptor": "COMMON.ACCEPT.INAPP.PAYMENT",
        "data_value": "eyJjb2RlIjoiNTBfMl8wNjAwMDUyN0JEODE4RjQxOUEzRjhGQkIxMkY0MzdGQ",
    },
}
HOLD: Final = {
    "amount": 12_500,
    "currency": "USD",
    "capture": "manual",
    "payment_method": _CARD,
    "customer": {"reference": "C-7781", "email": "ada@example.com", "ip_address": "203.0.113.7"},
    "billing_address": {
        "first_name": "Ada",
        "last_name": "Byron",
        "line1": "12 Analytical Way",
        "city": "Bellevue",
        "state": "WA",
        "postal_code": "98004",
        "country": "US",
    },
    **DETAIL_EXAMPLES,
    "metadata": {"cart": "c_5512"},
}
SALE: Final = {
    "amount": 2_500,
    "currency": "USD",
    "payment_method": _CARD,
    "order_reference": "order-1001",
}

BY_STORED: Final = {
    **SALE,
    "payment_method": {"type": "stored", "stored": {"id": METHOD_ID, "cvc": "123"}},
}

_REQUESTS: Final[Mapping[type, Examples]] = {
    CreatePayment: {
        "card": Example("Card", SALE),
        "accept_token": Example("Accept.js token", {**SALE, "payment_method": _TOKEN}),
        "bank_account": Example("Bank account", {**SALE, "payment_method": _BANK_ACCOUNT}),
        "stored": Example("Stored payment method", BY_STORED),
        "by_merchant": Example(
            "Stored payment method, started by the merchant",
            {
                **SALE,
                "payment_method": {"type": "stored", "stored": {"id": METHOD_ID}},
                "stored_credential": {"initiator": "merchant", "recurring": True},
            },
        ),
        "stored_credential": Example(
            "Card on file that the merchant keeps",
            {
                **SALE,
                "stored_credential": {
                    "initiator": "merchant",
                    "recurring": True,
                    "network_transaction_id": "8QZ5VX2MQ1T7B0RLW94KC2D",
                },
            },
        ),
        "hold": Example("Hold, with every detail", HOLD),
        "declined": Example(
            "Declined",
            {**SALE, "billing_address": {"postal_code": "46282"}},
        ),
    },
    CapturePayment: {
        "all": Example("All of it", {}),
        "part": Example("Part of it", {"amount": 10_000}),
    },
    VoidPayment: {"void": Example("No fields", {})},
    ReviewPayment: {"review": Example("No fields", {})},
    RefundPayment: {
        "part": Example("Part of it", {"amount": 1_000}),
        "rest": Example("All that is left", {}),
    },
    customer_bodies.CreateCustomer: {
        "customer": Example(
            "A customer of the shop",
            {"reference": "C-7781", "email": "ada@example.com", "name": "Ada Byron"},
        ),
        "nothing": Example("Nothing is known yet", {}),
    },
    customer_bodies.EraseCustomer: {
        "erase": Example("What identifies the customer", {}),
        "references": Example("References and descriptions, too", {"references": True}),
    },
    customer_bodies.UpdateCustomer: {
        "email": Example("Another address", {"email": "ada@example.org"}),
        "removed": Example("Without a name", {"name": None}),
    },
    customer_bodies.StorePaymentMethod: {
        "accept_token": Example("Accept.js token", {"payment_method": _TOKEN}),
        "card": Example(
            "Card, which the issuer is asked about first",
            {
                "payment_method": _CARD,
                "billing_address": HOLD["billing_address"],
                "validate": True,
            },
        ),
        "bank_account": Example("Bank account", {"payment_method": _BANK_ACCOUNT}),
        "payment": Example(
            "What a payment was made with",
            {"payment_method": {"type": "payment", "payment": PAYMENT_ID}},
        ),
    },
    customer_bodies.UpdatePaymentMethod: {
        "expiry": Example("The card was renewed", {"exp_month": 11, "exp_year": 2034}),
        "default": Example("The customer's default", {"default": True}),
    },
    customer_bodies.ValidatePaymentMethod: {
        "nothing": Example("Without a card code", {}),
        "cvc": Example("With the card code", {"cvc": "123"}),
    },
    batches.ChangeBatch: {"change": Example("No fields", {})},
    reconciliation.MatchBreak: {
        "telephone": Example("Explained", {"reason": "taken by telephone, invoice 4711"})
    },
    webhooks.CreateEndpoint: {
        "some": Example(
            "Some types",
            {
                "url": "https://shop.example/easypay",
                "types": ["payment.captured", "payment.failed", "refund.succeeded"],
            },
        ),
        "all": Example(
            "Every type", {"url": "https://shop.example/easypay", "description": "The web shop"}
        ),
    },
    webhooks.UpdateEndpoint: {
        "pause": Example("Let events wait", {"paused": True}),
        "resume": Example("Send what has waited", {"paused": False}),
        "types": Example("Other types", {"types": ["payment.captured"]}),
    },
    webhooks.RotateSecret: {
        "hour": Example("Both secrets sign for an hour", {"overlap_seconds": 3_600})
    },
    webhooks.SendTest: {"test": Example("No fields", {})},
    webhooks.Redeliver: {
        "one": Example("One event", {"event_id": EVENT_ID}),
        "since": Example("All since a time", {"since": "2026-11-24T00:00:00Z"}),
        "span": Example(
            "A span of time", {"since": "2026-11-24T00:00:00Z", "until": "2026-11-24T06:00:00Z"}
        ),
    },
    admin.CreateMerchant: {
        "merchant": Example(
            "A shop that takes tokens only", {"name": "Example Shop", "currencies": ["USD"]}
        )
    },
    admin.UpdateMerchant: {
        "disable": Example("Stop all its keys", {"disabled": True}),
        "raw_cards": Example("Allow raw cards", {"allow_raw_cards": True}),
        "duplicates": Example(
            "Refuse the same purchase within five minutes",
            {"duplicates": "reject", "duplicate_window_seconds": 300},
        ),
    },
    admin.SetAccount: {
        "account": Example(
            "Credentials, here of the simulator",
            {"login_id": "easypay-sim", "transaction_key": "sim-secret-key-1"},
        ),
        "unchecked": Example(
            "Saved without asking the processor",
            {"login_id": "5KP3u95bQpv", "transaction_key": "346HZ32z3fP4hTG2", "check": False},
        ),
    },
    admin.CreateKey: {
        "checkout": Example(
            "A test key with the usual scopes", {"mode": "test", "name": "checkout"}
        ),
        "reports": Example(
            "Read only, for a year",
            {
                "mode": "live",
                "name": "reports",
                "scopes": ["payments:read"],
                "expires_at": "2027-11-24T00:00:00Z",
            },
        ),
    },
    admin.RotateKey: {
        "hour": Example("The old key works for another hour", {"overlap_seconds": 3_600})
    },
    profiles.TakeProfile: {
        "wait": Example("Where tasks wait, for 30 seconds", {"what": "wait", "seconds": 30})
    },
}


def request_examples(body: type) -> Examples:
    """Bodies that the call takes."""
    return _REQUESTS[body]
