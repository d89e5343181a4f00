"""The request bodies of the payments API, and the rules that types cannot express.

Unknown fields are refused. A card's repr hides it, so that no traceback or log can show it.
"""

import re
from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from easypay import ids
from easypay.card_numbers import contains_card_number, passes_aba, passes_luhn
from easypay.errors import FieldError, ValidationFailed, field_name
from easypay.money import EXPONENT, MAX_MINOR
from easypay.payment_details import (
    DETAIL_FIELDS,
    NO_CONTROL,
    PaymentDetails,
    detail_values,
    formatted_text,
    free_text,
)

Amount = Annotated[
    int,
    Meta(
        ge=1,
        le=MAX_MINOR,
        description="Minor units of the currency: 2500 is USD 25.00.",
        extra={"must_be": "an integer in minor units, such as 2500 for 25.00"},
    ),
]


_Number = Annotated[
    str,
    formatted_text("text of 12 to 19 digits, no spaces", r"^[0-9]{12,19}(?!\n)$", "Digits only."),
]
_Cvc = Annotated[str, formatted_text("text of 3 or 4 digits", r"^[0-9]{3,4}(?!\n)$")]
_RoutingNumber = Annotated[
    str,
    formatted_text("text of 9 digits", r"^[0-9]{9}(?!\n)$", "The bank's ABA number, nine digits."),
]
_AccountNumber = Annotated[
    str,
    formatted_text("text of 4 to 17 digits", r"^[0-9]{4,17}(?!\n)$", "Digits only. Never stored."),
]
_NetworkId = Annotated[
    str,
    formatted_text("text of letters, digits and spaces", r"^[A-Za-z0-9 ]+(?!\n)$",
          min_length=1, max_length=255),
]  # fmt: skip
_MethodId = Annotated[
    str, formatted_text("the id of a payment method, such as pm_ and 32 hexadecimal digits",
                        rf"^{ids.PAYMENT_METHOD}_[0-9a-f]{{32}}(?!\n)$"),
]  # fmt: skip
_Email = Annotated[
    str,
    formatted_text(
        "an email address, such as ada@example.com",
        # No control characters, as in every text: the document must say so, too.
        r"^[^@\s\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]+"
        r"@[^@\s\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]+$",
        max_length=255,
    ),
]
EmailAddress = _Email
CardCode = _Cvc
_IpAddress = Annotated[
    str, formatted_text("an IPv4 or IPv6 address", r"^[0-9A-Fa-f.:]+$", max_length=45)
]


class _Body(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A request's body or a part of it."""


class CardBody(_Body, frozen=True):
    """A raw card, only if the merchant's settings allow it. Never stored, logged or queued."""

    number: _Number
    exp_month: Annotated[int, Meta(ge=1, le=12)]
    exp_year: Annotated[int, Meta(ge=2000, le=2099, description="Four digits.")]
    cvc: _Cvc | None = None

    def __repr__(self) -> str:
        return "CardBody(***)"


class AcceptTokenBody(_Body, frozen=True):
    """The token (`opaqueData`) from Accept.js. Valid for one payment, within 15 minutes."""

    data_descriptor: Annotated[str, Meta(min_length=1, max_length=128, pattern=NO_CONTROL)]
    data_value: Annotated[str, Meta(min_length=1, max_length=8192, pattern=NO_CONTROL)]

    def __repr__(self) -> str:
        return "AcceptTokenBody(***)"


class BankAccountBody(_Body, frozen=True):
    """A raw bank account (eCheck); needs the same setting as raw cards. Never stored or logged."""

    account_type: Literal["checking", "savings", "business_checking"]
    routing_number: _RoutingNumber
    account_number: _AccountNumber
    name_on_account: Annotated[str, free_text(22, "The account holder's name.")]

    def __repr__(self) -> str:
        return "BankAccountBody(***)"


class CardMethod(_Body, frozen=True, tag="card", tag_field="type"):
    """A raw card."""

    card: CardBody


class AcceptTokenMethod(_Body, frozen=True, tag="accept_token", tag_field="type"):
    """An Accept.js token."""

    accept_token: AcceptTokenBody


class BankAccountMethod(_Body, frozen=True, tag="bank_account", tag_field="type"):
    """A US bank account (eCheck)."""

    bank_account: BankAccountBody


class StoredMethodBody(_Body, frozen=True):
    """A payment method of a customer, stored at the processor."""

    id: _MethodId
    cvc: _Cvc | None = None

    def __repr__(self) -> str:
        return f"StoredMethodBody(id={self.id!r}, cvc=***)"


class StoredPaymentMethod(_Body, frozen=True, tag="stored", tag_field="type"):
    """A customer's stored payment method."""

    stored: StoredMethodBody


class StoredCredentialBody(_Body, frozen=True, omit_defaults=True):
    """Tells the card networks that the card is kept on file, and who starts this payment."""

    initiator: Literal["customer", "merchant"]
    first: bool = False
    recurring: bool = False
    network_transaction_id: _NetworkId | None = None
    reason: Literal["resubmission", "delayed_charge", "reauthorization", "no_show"] | None = None


class Customer(_Body, frozen=True, omit_defaults=True):
    """The customer, as the merchant knows them."""

    reference: Annotated[str, free_text(20, "The merchant's id for the customer.")] | None = None
    email: _Email | None = None
    ip_address: _IpAddress | None = None


class BillingAddress(_Body, frozen=True, omit_defaults=True):
    """The card's billing address. Street and postal code are used for the address check (AVS)."""

    first_name: Annotated[str, free_text(50, "")] | None = None
    last_name: Annotated[str, free_text(50, "")] | None = None
    company: Annotated[str, free_text(50, "")] | None = None
    line1: Annotated[str, free_text(60, "Street and number.")] | None = None
    city: Annotated[str, free_text(40, "")] | None = None
    state: Annotated[str, free_text(40, "")] | None = None
    postal_code: Annotated[str, free_text(20, "")] | None = None
    country: Annotated[str, free_text(60, "")] | None = None
    phone: Annotated[str, free_text(25, "")] | None = None


Metadata = Annotated[
    dict[
        Annotated[str, Meta(min_length=1, max_length=40, pattern=NO_CONTROL)],
        Annotated[str, Meta(max_length=500, pattern=r"^[^\x00\ud800-\udfff]*$")],
    ],
    Meta(max_length=50, description="Up to 50 of the merchant's own keys and values."),
]


class CreatePayment(
    PaymentDetails,
    frozen=True,
    gc=False,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """Take a payment, or only authorize it and capture it later."""

    amount: Amount
    currency: Annotated[str, Meta(min_length=3, max_length=3, description="ISO 4217, upper case.",
                                  extra={"must_be": "an ISO 4217 code, such as USD"})]  # fmt: skip
    payment_method: CardMethod | AcceptTokenMethod | BankAccountMethod | StoredPaymentMethod
    capture: Literal["automatic", "manual"] = "automatic"
    customer: Customer | None = None
    billing_address: BillingAddress | None = None
    metadata: Metadata | None = None
    stored_credential: StoredCredentialBody | None = None


def without_cvc(body: CreatePayment, method: StoredPaymentMethod) -> CreatePayment:
    """Return the request without the card code, which may be kept in no form."""
    stored = msgspec.structs.replace(method.stored, cvc=None)
    return msgspec.structs.replace(body, payment_method=StoredPaymentMethod(stored))


class CapturePayment(_Body, frozen=True):
    """Capture an amount, or without one all of it."""

    amount: Amount | UnsetType = UNSET


class VoidPayment(_Body, frozen=True):
    """No fields: a void is always of the whole payment."""


class ReviewPayment(_Body, frozen=True):
    """No fields: the path is the decision."""


class RefundPayment(_Body, frozen=True):
    """Refund an amount, or without one the rest."""

    amount: Amount | UnsetType = UNSET


_CONTROL: Final = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


def check_payment(
    body: CreatePayment, *, currencies: frozenset[str], raw_cards: bool, at: datetime
) -> None:
    """Check the rules that types cannot express. Raises ValidationFailed naming every bad field.

    `currencies` are those that the merchant's account takes. A card that expires before the month
    of `at` has expired; pass yesterday, because the month ends later in other time zones.
    """
    errors = _broken_rules(body, currencies, raw_cards, at)
    if errors:
        raise ValidationFailed.of(errors)


def with_rules(
    refused: ValidationFailed, *, currencies: frozenset[str], raw_cards: bool, at: datetime
) -> ValidationFailed:
    """Return a refusal by types, extended by the rules that the well-typed fields break."""
    body = refused.readable
    if not isinstance(body, CreatePayment):
        return refused
    bad = {field.pointer for field in refused.fields}
    more = [
        rule
        for rule in _broken_rules(body, currencies, raw_cards, at)
        if not any(_within(pointer, bad) for pointer in (rule.pointer, _NEEDS.get(rule.pointer)))
    ]
    return ValidationFailed.of([*refused.fields, *more])


def check_method(
    method: CardMethod | AcceptTokenMethod | BankAccountMethod, *, raw_cards: bool, at: datetime
) -> list[FieldError]:
    """Return what is wrong with a payment method, as `check_payment` does. Its field is
    `payment_method`."""
    if isinstance(method, AcceptTokenMethod):
        return []
    if not raw_cards:
        return [_TOKENS_ONLY]
    if isinstance(method, CardMethod):
        return _check_card(method.card, at=at)
    return _check_bank_account(method.bank_account)


_AT_CARD: Final = "#/payment_method/card"
_NEEDS: Final = {
    f"{_AT_CARD}/cvc": f"{_AT_CARD}/number",
    f"{_AT_CARD}/exp_year": f"{_AT_CARD}/exp_month",
}
"""Rules that also need a second field."""


def _within(pointer: str | None, bad: set[str]) -> bool:
    return pointer is not None and any(f"{pointer}/".startswith(f"{each}/") for each in bad)


def _broken_rules(
    body: CreatePayment, currencies: frozenset[str], raw_cards: bool, at: datetime
) -> list[FieldError]:
    errors: list[FieldError] = []
    if body.currency not in EXPONENT:
        why = "currency must be an ISO 4217 code in upper case, such as USD."
        errors.append(FieldError("#/currency", "unknown_currency", why))
    elif body.currency not in currencies:
        why = f"currency must be one that this account takes: {', '.join(sorted(currencies))}."
        errors.append(FieldError("#/currency", "currency_not_accepted", why))
    method = body.payment_method
    if not raw_cards and isinstance(method, CardMethod | BankAccountMethod):
        errors.append(_TOKENS_ONLY)
    elif isinstance(method, CardMethod) and method.card is not None:
        errors += _check_card(method.card, at=at)
    elif isinstance(method, BankAccountMethod) and method.bank_account is not None:
        errors += _check_bank_account(method.bank_account)
    elif isinstance(method, StoredPaymentMethod) and body.billing_address is not None:
        errors.append(_ADDRESS_IS_STORED)
    errors += _check_stored_credential(body)
    if (
        body.customer is not None
        and body.customer.reference is not None
        and body.customer_reference is not None
        and body.customer.reference != body.customer_reference
    ):
        why = "customer_reference differs from customer.reference; send one of the two."
        errors.append(FieldError("#/customer_reference", "contradiction", why))
    text = _all_free_text(body)
    if not text.isprintable() or contains_card_number(text):
        errors += _check_texts(body)
    return errors


_TOKENS_ONLY: Final = FieldError(
    "#/payment_method/type",
    "raw_cards_not_allowed",
    "payment_method.type must be accept_token: this merchant takes tokens only. To accept card and "
    "account numbers, an operator runs `easypay merchant update mer_… --allow-raw-cards`.",
)


_ADDRESS_IS_STORED: Final = FieldError(
    "#/billing_address",
    "contradiction",
    "billing_address is stored with the payment method: leave it out, or change it there.",
)


def _check_stored_credential(body: CreatePayment) -> list[FieldError]:
    credential = body.stored_credential
    if credential is None:
        return []
    if isinstance(body.payment_method, BankAccountMethod):
        pointer = "#/stored_credential"
        why = "stored_credential is for cards; leave it out for a bank account."
    elif credential.first and credential.initiator == "merchant":
        pointer = "#/stored_credential/initiator"
        why = "stored_credential.initiator must be customer in the first payment of a series."
    elif credential.reason is not None and (credential.first or credential.initiator != "merchant"):
        pointer = "#/stored_credential/reason"
        why = (
            "stored_credential.reason says why the merchant starts a later payment; leave it out "
            "of the first payment, and of one that the customer starts."
        )
    elif credential.first and credential.network_transaction_id is not None:
        pointer = "#/stored_credential/network_transaction_id"
        why = (
            "stored_credential.network_transaction_id names the first payment, and this is the "
            "first; leave it out."
        )
    else:
        return []
    return [FieldError(pointer, "contradiction", why)]


def _check_card(card: CardBody, *, at: datetime) -> list[FieldError]:
    errors = []
    if not passes_luhn(card.number) or not 13 <= len(card.number) <= 19:
        why = "payment_method.card.number is mistyped: its check digit does not match."
        errors.append(FieldError(f"{_AT_CARD}/number", "invalid_card_number", why))
    if (card.exp_year, card.exp_month) < (at.year, at.month):
        why = "payment_method.card.exp_year and exp_month have passed: the card has expired."
        errors.append(FieldError(f"{_AT_CARD}/exp_year", "expired_card", why))
    if card.cvc is not None and (len(card.cvc) == 4) != card.number.startswith(("34", "37")):
        why = "payment_method.card.cvc must have 4 digits for American Express, 3 for all others."
        errors.append(FieldError(f"{_AT_CARD}/cvc", "invalid_cvc", why))
    return errors


def _check_bank_account(account: BankAccountBody) -> list[FieldError]:
    if passes_aba(account.routing_number):
        return []
    pointer = "#/payment_method/bank_account/routing_number"
    why = "payment_method.bank_account.routing_number is mistyped: its check digit does not match."
    return [FieldError(pointer, "invalid_routing_number", why)]


def _all_free_text(body: CreatePayment) -> str:
    """Join all free text. The separator has two characters, which ends any card number."""
    parts = list(detail_values(body))
    if body.customer is not None:
        parts += msgspec.structs.astuple(body.customer)
    if body.billing_address is not None:
        parts += msgspec.structs.astuple(body.billing_address)
    if body.metadata is not None:
        parts += (*body.metadata, *body.metadata.values())
    if isinstance(body.payment_method, BankAccountMethod) and body.payment_method.bank_account:
        parts.append(body.payment_method.bank_account.name_on_account)
    return "//".join(filter(None, parts))


def _check_texts(body: CreatePayment) -> list[FieldError]:
    """Check the texts one by one, to name the bad fields."""
    texts: list[tuple[str, str | None]] = [
        (f"#/{name}", getattr(body, name)) for name in DETAIL_FIELDS
    ]
    for name, part in (("customer", body.customer), ("billing_address", body.billing_address)):
        if part is not None:
            texts += [(f"#/{name}/{field}", getattr(part, field)) for field in _fields(part)]
    if isinstance(body.payment_method, BankAccountMethod) and body.payment_method.bank_account:
        name = body.payment_method.bank_account.name_on_account
        texts.append(("#/payment_method/bank_account/name_on_account", name))
    errors = [
        FieldError(pointer, "invalid", f"{field_name(pointer)} must not have control characters.")
        for pointer, text in texts
        if text is not None and _CONTROL.search(text)
    ]
    for key, value in (body.metadata or {}).items():  # a value may have several lines
        pointer = "#/metadata/" + key.replace("~", "~0").replace("/", "~1")
        texts += [("#/metadata", key), (pointer, value)]
    return errors + [
        FieldError(
            pointer,
            "card_number_in_text",
            f"{field_name(pointer)} looks like a card number, which belongs in payment_method.",
        )
        for pointer, text in texts
        if text is not None and contains_card_number(text)
    ]


def _fields(part: msgspec.Struct) -> tuple[str, ...]:
    return part.__struct_fields__
