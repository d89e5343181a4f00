"""Customers and stored methods as the API, its events and the command line show them. Pure."""

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from easypay import ids
from easypay.clock import rfc3339
from easypay.customers.model import Customer, Failure, Method, State
from easypay.customers.refusals import why_failed


class ErasedFieldsView(msgspec.Struct, frozen=True):
    """The fields that are removed from a table, and from how many rows they were so far."""

    table: str
    fields: Sequence[str]
    rows: int


class KeptFieldsView(msgspec.Struct, frozen=True):
    """The fields that stay, and why."""

    table: str
    fields: Sequence[str]
    why: str


class NotReachedView(msgspec.Struct, frozen=True):
    """What EasyPay cannot erase, and what to do about it."""

    what: str
    why: str


class ErasureView(msgspec.Struct, frozen=True):
    """A customer who is being erased or was erased: all that is left to be shown."""

    id: str
    state: Literal["erasing", "erased"]
    references: bool
    reference: str | None
    waiting_for: str | None
    asked_at: str
    erased_at: str | None
    mode: str
    erased: Sequence[ErasedFieldsView]
    kept: Sequence[KeptFieldsView]
    not_reached: Sequence[NotReachedView]


class StoredCustomerView(msgspec.Struct, frozen=True, gc=False):
    """A customer. `default_payment_method` is charged if a payment names only the customer."""

    id: str
    reference: str | None
    email: str | None
    name: str | None
    description: str | None
    metadata: dict[str, str]
    default_payment_method: str | None
    deleted: bool
    mode: str
    version: int
    created_at: str
    updated_at: str
    erasure: ErasureView | UnsetType = UNSET
    """How far the erasure is; absent if nobody has asked for it."""


class MethodAddressView(msgspec.Struct, frozen=True, gc=False):
    """The billing address that the processor has with the method."""

    first_name: str | None = None
    last_name: str | None = None
    company: str | None = None
    line1: str | None = None
    city: str | None = None
    state: str | None = None
    postal_code: str | None = None
    country: str | None = None
    phone: str | None = None


class MethodFailureView(msgspec.Struct, frozen=True, gc=False):
    """Why the method was not stored, and the processor's own code and text."""

    code: str
    detail: str
    processor_code: str | None
    processor_message: str | None


class StoredMethodView(msgspec.Struct, frozen=True, gc=False):
    """A stored payment method. `state` is `making` until the processor has answered."""

    id: str
    customer_id: str
    state: Literal["making", "active", "failed", "deleting", "deleted"]
    type: Literal["card", "bank_account"]
    brand: str | None
    last4: str | None
    exp_month: int | None
    exp_year: int | None
    billing_address: MethodAddressView | None
    default: bool
    source: Literal["accept_token", "card", "bank_account", "payment"]
    payment_id: str | None
    failure: MethodFailureView | None
    mode: str
    version: int
    created_at: str
    updated_at: str


_metadata: Final = msgspec.json.Decoder(dict[str, str])
_address: Final = msgspec.json.Decoder(MethodAddressView)
_failure: Final = msgspec.json.Decoder(Failure)
_of_customer: Final = msgspec.json.Decoder(StoredCustomerView)
_of_method: Final = msgspec.json.Decoder(StoredMethodView)


def customer_view(
    customer: Customer, erasure: ErasureView | UnsetType = UNSET
) -> StoredCustomerView:
    """Return a customer as it is shown. What an erasure keeps is in `erasure`."""
    default = customer.default_method
    return StoredCustomerView(
        id=ids.typed(ids.CUSTOMER, customer.id),
        reference=customer.reference,
        email=customer.email,
        name=customer.name,
        description=customer.description,
        metadata=_metadata.decode(customer.metadata or "{}"),
        default_payment_method=None if default is None else ids.typed(ids.PAYMENT_METHOD, default),
        deleted=customer.deleted_at is not None,
        mode=customer.mode,
        version=customer.version,
        created_at=rfc3339(customer.created_at),
        updated_at=rfc3339(customer.updated_at),
        erasure=erasure,
    )


def method_view(method: Method) -> StoredMethodView:
    """Return a stored method as it is shown."""
    address, payment_id = method.billing_address, method.payment_id
    return StoredMethodView(
        id=ids.typed(ids.PAYMENT_METHOD, method.id),
        customer_id=ids.typed(ids.CUSTOMER, method.customer_id),
        state=method.state.value,
        type=method.type,
        brand=method.brand,
        last4=method.last4,
        exp_month=method.exp_month,
        exp_year=method.exp_year,
        billing_address=None if address is None else _address.decode(address),
        default=method.is_default,
        source=method.source,
        payment_id=None if payment_id is None else ids.typed(ids.PAYMENT, payment_id),
        failure=_failure_view(method),
        mode=method.mode,
        version=method.version,
        created_at=rfc3339(method.created_at),
        updated_at=rfc3339(method.updated_at),
    )


def failure_of(method: Method) -> Failure:
    """Return why a method was not stored. For a failed one that has no twin."""
    assert method.failure is not None, "a failed method says why"
    return _failure.decode(method.failure)


def _failure_view(method: Method) -> MethodFailureView | None:
    if method.state is not State.FAILED or method.failure is None:
        return None
    failure = failure_of(method)
    return MethodFailureView(failure.word, why_failed(failure), failure.code, failure.message)


def object_of(event_type: str, data: str | None) -> StoredCustomerView | StoredMethodView | None:
    """Return the object of an event from its JSON. None if it was erased."""
    if data is None:
        return None
    decoder: Any = _of_customer if event_type.startswith("customer.") else _of_method
    found: StoredCustomerView | StoredMethodView = decoder.decode(data)
    return found
