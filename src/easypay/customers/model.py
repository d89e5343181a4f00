"""Customers, their profiles at the processor, and stored payment methods as rows. Pure."""

from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from easypay.mode import MODE, Mode
from easypay.processors.base import AcceptToken, Address, BankAccount, Card, Retry

MOST_METHODS: Final = 100
"""Stored methods of one customer, at all of its profiles together."""
MOST_OF_PROFILE: Final = 10
"""Methods that the processor keeps in one profile. The next one makes another profile."""
EXPIRES_SOON_DAYS: Final = 31
"""How long before the end of a card's last month the merchant is told of it, in days."""


class State(StrEnum):
    """Where a stored method is."""

    MAKING = "making"  # the processor was asked to store it, and its answer is not recorded
    ACTIVE = "active"
    FAILED = "failed"  # it was not stored
    DELETING = "deleting"  # deleted here; the processor has not confirmed it yet
    DELETED = "deleted"


STATE: Final = {state.value: state for state in State}
"""By name: ten times as fast as `State(name)`."""

Source = Literal["accept_token", "card", "bank_account", "payment"]


class Customer(msgspec.Struct, frozen=True):
    """One row of `customers`."""

    merchant_id: UUID
    mode: Mode
    id: UUID
    reference: str | None
    email: str | None
    name: str | None
    description: str | None
    metadata: str | None
    default_method: UUID | None
    version: int
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    erased_at: datetime | None


class Profile(msgspec.Struct, frozen=True):
    """One row of `customer_profiles`: what holds at most ten methods at the processor."""

    id: UUID
    login_id: UUID
    processor: str
    reference: str
    customer_profile_id: str | None
    state: str
    made_at: datetime | None


class Method(msgspec.Struct, frozen=True):
    """One row of `payment_methods`."""

    merchant_id: UUID
    mode: Mode
    id: UUID
    customer_id: UUID
    profile_id: UUID
    login_id: UUID
    processor: str
    customer_profile_id: str | None
    payment_profile_id: str | None
    state: State
    type: Literal["card", "bank_account"]
    source: Source
    payment_id: UUID | None
    brand: str | None
    last4: str | None
    exp_month: int | None
    exp_year: int | None
    billing_address: str | None
    failure: str | None
    same_as: UUID | None
    wanted: str | None
    version: int
    request_fingerprint: bytes
    stored_at: datetime | None
    created_at: datetime
    updated_at: datetime
    is_default: bool = False
    """Whether it is its customer's default. Not a column."""


CUSTOMER_COLUMNS: Final = ", ".join(Customer.__struct_fields__)
_METHOD_FIELDS: Final = Method.__struct_fields__[:-1]
METHOD_COLUMNS: Final = ", ".join(f"m.{name}" for name in _METHOD_FIELDS)
IS_DEFAULT: Final = "coalesce(m.id = c.default_method, false)"
"""Of a method `m` and its customer `c`."""


def customer_of(row: Any) -> Customer:
    """Return the customer in a row of CUSTOMER_COLUMNS."""
    merchant_id, mode, *others = row
    return Customer(merchant_id, MODE[mode], *others)


def method_of(row: Any) -> Method:
    """Return the method in a row of METHOD_COLUMNS, with IS_DEFAULT behind it or without."""
    values = list(row)
    values[1], values[_STATE_AT] = MODE[values[1]], STATE[values[_STATE_AT]]
    return Method(*values)


_STATE_AT: Final = _METHOD_FIELDS.index("state")


class Asked(msgspec.Struct, frozen=True, gc=False):
    """Who asks for something new: the merchant and mode, with the request's Idempotency-Key and
    fingerprint."""

    merchant_id: UUID
    mode: Mode
    key: str
    fingerprint: bytes


class CustomerFields(msgspec.Struct, frozen=True, gc=False):
    """What a shop says about a customer. `metadata` is a JSON object as text."""

    reference: str | None = None
    email: str | None = None
    name: str | None = None
    description: str | None = None
    metadata: str | None = None


class FromPayment(msgspec.Struct, frozen=True, gc=False):
    """The payment whose card or bank account is to be stored."""

    payment_id: UUID
    transaction_id: str


class NewMethod(msgspec.Struct, frozen=True, kw_only=True):
    """A payment method to store. What is known of it beforehand stands until the processor says
    more. Only `pay_with` can hold a number, and it is never written."""

    source: Source
    type: Literal["card", "bank_account"]
    pay_with: Card | AcceptToken | BankAccount | FromPayment
    brand: str | None = None
    last4: str | None = None
    exp_month: int | None = None
    exp_year: int | None = None
    card_fingerprint: bytes | None = None
    network_transaction_id: str | None = None
    billing_address: Address | None = None
    validate: bool = False


class MethodChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is to change at the processor. Kept as JSON in `wanted` until it is done."""

    exp_month: int | None = None
    exp_year: int | None = None
    billing_address: Address | None = None


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a method was not stored. `code` and `message` are the processor's own."""

    word: str
    code: str | None = None
    message: str | None = None
    retry: Retry | None = None
    decline_code: str | None = None


class MethodKey(msgspec.Struct, frozen=True, gc=False):
    """Identifies a stored method."""

    merchant_id: UUID
    mode: Mode
    id: UUID


def key_of(method: Method) -> MethodKey:
    """Return what identifies a method."""
    return MethodKey(method.merchant_id, method.mode, method.id)
