"""The bodies of requests about customers and payment methods: their types, and the rules that types
cannot say. Pure.

`api.customers` and `easypay customer create` read them.
"""

import re
from datetime import timedelta
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from easypay import clock
from easypay.api.http import encode
from easypay.card_numbers import contains_card_number
from easypay.customers.model import CustomerFields, Method
from easypay.errors import FieldError, ValidationFailed, field_name
from easypay.payment_details import free_text
from easypay.payments.requests import (
    AcceptTokenMethod,
    BankAccountMethod,
    BillingAddress,
    CardCode,
    CardMethod,
    EmailAddress,
    Metadata,
)

DAY: Final = timedelta(days=1)
"""A month still counts for so long after its end: it ends later in other time zones."""
CONTROL: Final = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")

_Reference = Annotated[str, free_text(64, "The shop's own id of the customer; unique.")]
_Name = Annotated[str, free_text(100, "The customer's name.")]
_Description = Annotated[str, free_text(255, "For the shop: anything about the customer.")]
_ExpMonth = Annotated[int, Meta(ge=1, le=12)]
_ExpYear = Annotated[int, Meta(ge=2000, le=2099, description="Four digits.")]


class _Body(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A request's body or a part of it."""


class CreateCustomer(_Body, frozen=True, omit_defaults=True):
    """A new customer. Every field may be left out."""

    reference: _Reference | None = None
    email: EmailAddress | None = None
    name: _Name | None = None
    description: _Description | None = None
    metadata: Metadata | None = None


class UpdateCustomer(_Body, frozen=True):
    """Omitted fields are left unchanged; null removes what was there."""

    reference: _Reference | UnsetType | None = UNSET
    email: EmailAddress | UnsetType | None = UNSET
    name: _Name | UnsetType | None = UNSET
    description: _Description | UnsetType | None = UNSET
    metadata: Metadata | UnsetType | None = UNSET
    default_payment_method: str | UnsetType | None = UNSET


class EraseCustomer(_Body, frozen=True):
    """What is to be erased beside what identifies the customer."""

    references: bool = False


class PaymentMethodOfPayment(_Body, frozen=True, tag="payment", tag_field="type"):
    """The card or bank account that an earlier payment was made with."""

    payment: Annotated[str, Meta(description="The payment's id.")]


class StorePaymentMethod(_Body, frozen=True, omit_defaults=True):
    """A payment method to store at the processor."""

    payment_method: CardMethod | AcceptTokenMethod | BankAccountMethod | PaymentMethodOfPayment
    billing_address: BillingAddress | None = None
    validate: bool = False


class UpdatePaymentMethod(_Body, frozen=True):
    """Omitted fields are left unchanged."""

    exp_month: _ExpMonth | None = None
    exp_year: _ExpYear | None = None
    billing_address: BillingAddress | None = None
    default: bool | None = None


class ValidatePaymentMethod(_Body, frozen=True):
    """The card code, if the customer has just typed it. It is never stored."""

    cvc: CardCode | None = None

    def __repr__(self) -> str:
        return "ValidatePaymentMethod(***)"


class ValidityView(msgspec.Struct, frozen=True):
    """Whether the issuer says that the card is good."""

    valid: bool | None
    detail: str | None
    processor_code: str | None
    processor_message: str | None


def fields_of(body: CreateCustomer) -> CustomerFields:
    """Return what is kept of a new customer. Raises ValidationFailed for texts that cannot be."""
    check_texts(body)
    return CustomerFields(
        body.reference, body.email, body.name, body.description, metadata_json(body.metadata)
    )


def check_change(body: UpdatePaymentMethod, method: Method) -> None:
    """Check the rules that types cannot express. Raises ValidationFailed."""
    errors = text_errors(body)
    if (body.exp_month is None) != (body.exp_year is None):
        why = "exp_month and exp_year belong together: send both."
        errors.append(FieldError("#/exp_year", "contradiction", why))
    elif body.exp_month is not None and method.type != "card":
        errors.append(FieldError("#/exp_month", "contradiction", "Only a card has exp_month."))
    elif _has_expired(body):
        why = "exp_year and exp_month have passed. Send the date that is on the new card."
        errors.append(FieldError("#/exp_year", "expired_card", why))
    if body.default is False:
        why = "default can only be true. To change the default, make another method the default."
        errors.append(FieldError("#/default", "invalid", why))
    if errors:
        raise ValidationFailed.of(errors)


def _has_expired(body: UpdatePaymentMethod) -> bool:
    """Whether the month was over yesterday: it ends later in other time zones."""
    at, year, month = clock.now() - DAY, body.exp_year, body.exp_month
    return year is not None and month is not None and (year, month) < (at.year, at.month)


def check_texts(body: CreateCustomer | UpdateCustomer) -> None:
    errors = text_errors(body)
    if errors:
        raise ValidationFailed.of(errors)


def text_errors(body: Any) -> list[FieldError]:
    """Return the free texts of a body that have control characters or look like card numbers."""
    texts = list(_texts("#", msgspec.to_builtins(_without_secrets(body))))
    errors = []
    for pointer, text, is_one_line in texts:
        if is_one_line and CONTROL.search(text):
            why = f"{field_name(pointer)} must not have control characters."
            errors.append(FieldError(pointer, "invalid", why))
        elif contains_card_number(text):
            why = f"{field_name(pointer)} looks like a card number, which is not stored in texts."
            errors.append(FieldError(pointer, "card_number_in_text", why))
    return errors


def _without_secrets(body: Any) -> Any:
    """Return a body without the parts that are meant to be numbers."""
    if not isinstance(body, StorePaymentMethod):
        return body
    method = body.payment_method
    name = method.bank_account.name_on_account if isinstance(method, BankAccountMethod) else None
    address = body.billing_address
    return {
        "billing_address": address,
        "payment_method": {"bank_account": {"name_on_account": name}},
    }


def _texts(pointer: str, value: Any) -> Any:
    """Yield every text of a body with its pointer, and whether it must be one line."""
    if isinstance(value, str):
        yield pointer, value, not pointer.startswith("#/metadata/")
    elif isinstance(value, dict):
        for key, item in value.items():
            place = f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}"
            if pointer == "#/metadata":
                yield pointer, key, True
            yield from _texts(place, item)


def without_cvc(body: StorePaymentMethod) -> StorePaymentMethod:
    """Return the body without the card code, of which no digest may be kept (PCI DSS 3.3.1)."""
    method = body.payment_method
    if not isinstance(method, CardMethod) or method.card.cvc is None:
        return body
    card = msgspec.structs.replace(method.card, cvc=None)
    return msgspec.structs.replace(body, payment_method=CardMethod(card))


def metadata_json(value: dict[str, str] | None) -> str | None:
    return None if value is None else encode(value).decode()
