"""What is cached, and under which names. Every name begins with the merchant's kind of question,
then the merchant and the mode, so one merchant's name is never another's."""

from typing import Final
from uuid import UUID

import msgspec

from easypay.mode import Mode

LIFE_S: Final = 60.0
"""The longest that anything is kept, in seconds. Lives are shortened at random by up to a fifth."""
UNTOLD_S: Final = 1.0
"""The oldest that a value may be while this process cannot hear of changes elsewhere, in seconds.
So long, too, does "there is none" hold."""


class Answer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A successful reply without what belongs to one request."""

    body: bytes
    headers: list[tuple[bytes, bytes]]
    """No other answer has this list, so an answer can be recognised by it."""
    content_type: bytes
    cache_control: bytes


class Kind(msgspec.Struct, frozen=True):
    """One kind of value: its name in the metrics."""

    name: str


PAYMENT: Final = Kind("payment")
"""A payment by its id. It is dropped as soon as an outcome of the payment is recorded."""
PAYMENTS: Final = Kind("payments")
"""A first page of payments, or a page by its number with its total."""
REFUNDS: Final = Kind("refunds")
"""A first page of refunds."""
STATISTICS: Final = Kind("statistics")
DUPLICATES: Final = Kind("duplicates")
"""A first page of payments that look alike."""
CUSTOMER_METHODS: Final = Kind("customer_methods")
"""A first page of a customer's stored payment methods. It is dropped as soon as the customer or one
of the methods changes."""
KINDS: Final = (PAYMENT, PAYMENTS, REFUNDS, STATISTICS, DUPLICATES, CUSTOMER_METHODS)


def name_of(kind: Kind, merchant_id: UUID, mode: Mode, item: str) -> str:
    """Return the name of a value. `item` says which one of this merchant, mode and kind."""
    return f"{kind.name}:{merchant_id.hex}:{mode}:{item}"


def payment_name(merchant_id: UUID, mode: Mode, payment_id: UUID) -> str:
    """Return the name of a payment."""
    return f"payment:{merchant_id.hex}:{mode}:{payment_id.hex}"


def customer_methods_name(merchant_id: UUID, mode: Mode, customer_id: UUID) -> str:
    """Return the name of a customer's stored payment methods."""
    return f"{CUSTOMER_METHODS.name}:{merchant_id.hex}:{mode}:{customer_id.hex}"


def name_by_id(merchant_id: UUID, mode: str, typed_id: str) -> str:
    """Return the name of a payment by its id as clients write it (`pay_…`). Of a text that is no
    id of a payment the name is none that `payment_name` returns."""
    digits = typed_id[4:] if typed_id[:4] == "pay_" else ""
    return f"payment:{merchant_id.hex}:{mode}:{digits}"


def is_of_merchant(name: str, merchant_id: UUID) -> bool:
    """Whether a name belongs to this merchant, in either mode."""
    return name.split(":", 2)[1] == merchant_id.hex
