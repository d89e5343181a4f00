"""The request that is sent again and again: one payment by card, each slightly different.

Every request has the same length and its own Idempotency-Key, amount and order reference, so that
no payment is a duplicate of another.
"""

import json
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

PATH: Final = "/api/v1/payments"
LOWEST_MINOR: Final = 1000
AMOUNTS: Final = 9000
"""Amounts run from LOWEST_MINOR through this many values, then start again."""

_BODY: Final[Mapping[str, Any]] = {
    "amount": 0,
    "currency": "USD",
    "payment_method": {
        "type": "card",
        "card": {"number": "4111111111111111", "exp_month": 12, "exp_year": 2030, "cvc": "900"},
    },
    "order_reference": "",
    "billing_address": {
        "first_name": "Ada",
        "last_name": "Lovelace",
        "line1": "1 Main St",
        "city": "Springfield",
        "state": "IL",
        "postal_code": "62701",
        "country": "US",
    },
}


@dataclass(frozen=True, slots=True)
class Orders:
    """Makes the requests of one run against one gateway.

    `template` is a whole HTTP/1.1 request in the format language that Python and Lua's
    `string.format` share; it takes `(series, number, amount, series, number)`.
    """

    template: str = field(repr=False)

    def request(self, series: str, number: int) -> bytes:
        """Return the request with a number (0 to 999,999,999) in a series (one letter)."""
        amount = LOWEST_MINOR + number % AMOUNTS
        return (self.template % (series, number, amount, series, number)).encode()


def body_of(**over: Any) -> dict[str, Any]:
    """Return the body of one payment, for requests that are sent one by one."""
    return {**_BODY, "amount": LOWEST_MINOR, "order_reference": "one", **over}


def orders(host: str, api_key: str) -> Orders:
    """Return the requests for a gateway at `host` (`127.0.0.1:8000`), with unused keys."""
    # Letters only: digits next to digits could look like a card number, and be refused.
    token = "".join(secrets.choice(string.ascii_lowercase) for _ in range(12))
    body = json.dumps(_BODY, separators=(",", ":"))
    body = body.replace('"amount":0', '"amount":%d')
    body = body.replace('"order_reference":""', '"order_reference":"order-%s-%09d"')
    length = len(body % (LOWEST_MINOR, "a", 0))
    return Orders(
        f"POST {PATH} HTTP/1.1\r\n"
        f"Host: {host}\r\n"
        f"Authorization: Bearer {api_key}\r\n"
        f"Idempotency-Key: bench-{token}-%s-%09d\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n"
        f"{body}"
    )
