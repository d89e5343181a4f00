"""What a merchant may ask, as types, and the rules that types cannot say.

Unknown fields are refused. A card's repr hides it, so that no traceback or log can show it.
"""

import re
from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from easypay.errors import FieldError, ValidationFailed
from easypay.money import EXPONENT, MAX_MINOR
from easypay.payments.cards import contains_card_number, passes_aba, passes_luhn

_NO_CONTROL = r"^[^\x00-\x1f\x7f\ud800-\udfff]*$"


def _text(longest: int, description: str) -> Meta:
    """Free text. `check_payment` looks for what may not be in it, in all texts at once: a pattern
    for each would take longer than reading the whole body."""
    return Meta(
        min_length=1,
        max_length=longest,
        description=description,
        extra_json_schema={"pattern": _NO_CONTROL},
    )


Amount = Annotated[
    int, Meta(ge=1, le=MAX_MINOR, description="Minor units of the currency: 2500 is USD 25.00.")
]


class CardBody(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A raw card. Only for merchants whose settings allow it; never stored, logged or queued."""

    number: Annotated[str, Meta(pattern=r"^[0-9]{12,19}(?!\n)$", description="Digits only.")]
    exp_month: Annotated[int, Meta(ge=1, le=12)]
    exp_year: Annotated[int, Meta(ge=2000, le=2099, description="Four digits.")]
    cvc: Annotated[str, Meta(pattern=r"^[0-9]{3,4}(?!\n)$")] | None = None

    def __repr__(self) -> str:
        return "CardBody(***)"


class AcceptTokenBody(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """What Accept.js gave the browser (`opaqueData`). Good for one payment, within 15 minutes."""

    data_descriptor: Annotated[str, Meta(min_length=1, max_length=128, pattern=_NO_CONTROL)]
    data_value: Annotated[str, Meta(min_length=1, max_length=8192, pattern=_NO_CONTROL)]

    def __repr__(self) -> str:
        return "AcceptTokenBody(***)"


class BankAccountBody(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A raw bank account (eCheck), under the same setting as raw cards. Never stored or logged."""

    account_type: Literal["checking", "savings", "business_checking"]
    routing_number: Annotated[
        str, Meta(pattern=r"^[0-9]{9}(?!\n)$", description="The bank's ABA number, nine digits.")
    ]
    account_number: Annotated[
        str, Meta(pattern=r"^[0-9]{4,17}(?!\n)$", description="Digits only. Never stored.")
    ]
    name_on_account: Annotated[str, _text(22, "Whose account it is.")]

    def __repr__(self) -> str:
        return "BankAccountBody(***)"


class CardMethod(
    msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, tag="card", tag_field="type"
):
    """`{"type": "card", "card": {...}}`"""

    card: CardBody


class AcceptTokenMethod(
    msgspec.Struct,
    frozen=True,
    gc=False,
    forbid_unknown_fields=True,
    tag="accept_token",
    tag_field="type",
):
    """`{"type": "accept_token", "accept_token": {...}}`"""

    accept_token: AcceptTokenBody


class BankAccountMethod(
    msgspec.Struct,
    frozen=True,
    gc=False,
    forbid_unknown_fields=True,
    tag="bank_account",
    tag_field="type",
):
    """`{"type": "bank_account", "bank_account": {...}}`"""

    bank_account: BankAccountBody


class StoredCredentialBody(
    msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True
):
    """That the card is kept on file, and who asks now: the card networks want to know."""

    initiator: Literal["customer", "merchant"]
    first: bool = False
    recurring: bool = False
    network_transaction_id: (
        Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9 ]+(?!\n)$")] | None
    ) = None


class Customer(
    msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True
):
    """Who pays, as the merchant knows them."""

    reference: Annotated[str, _text(20, "The merchant's id of the customer.")] | None = None
    email: (
        Annotated[str, Meta(max_length=255, pattern=r"^[^@\s\x00-\x1f]+@[^@\s\x00-\x1f]+$")] | None
    ) = None
    ip_address: Annotated[str, Meta(max_length=45, pattern=r"^[0-9A-Fa-f.:]+$")] | None = None


class BillingAddress(
    msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True
):
    """Where the card's statements go. Street and postal code feed the address check (AVS)."""

    first_name: Annotated[str, _text(50, "")] | None = None
    last_name: Annotated[str, _text(50, "")] | None = None
    company: Annotated[str, _text(50, "")] | None = None
    line1: Annotated[str, _text(60, "Street and number.")] | None = None
    city: Annotated[str, _text(40, "")] | None = None
    state: Annotated[str, _text(40, "")] | None = None
    postal_code: Annotated[str, _text(20, "")] | None = None
    country: Annotated[str, _text(60, "")] | None = None
    phone: Annotated[str, _text(25, "")] | None = None


Metadata = Annotated[
    dict[
        Annotated[str, Meta(min_length=1, max_length=40, pattern=_NO_CONTROL)],
        Annotated[str, Meta(max_length=500, pattern=r"^[^\x00\ud800-\udfff]*$")],
    ],
    Meta(max_length=50, description="Up to 50 of the merchant's own keys and values."),
]


class CreatePayment(
    msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True
):
    """Take a payment, or hold the money to capture it later."""

    amount: Amount
    currency: Annotated[str, Meta(min_length=3, max_length=3, description="ISO 4217, upper case.")]
    payment_method: CardMethod | AcceptTokenMethod | BankAccountMethod
    capture: Literal["automatic", "manual"] = "automatic"
    customer: Customer | None = None
    customer_reference: Annotated[str, _text(20, "Short for `customer.reference`.")] | None = None
    billing_address: BillingAddress | None = None
    order_reference: Annotated[str, _text(64, "The merchant's order number.")] | None = None
    description: Annotated[str, _text(255, "What was bought.")] | None = None
    statement_descriptor: (
        Annotated[
            str,
            Meta(min_length=1, max_length=22, pattern=r"^[A-Za-z0-9 .*&'-]+$",
                 description="What the cardholder reads on the statement."),
        ]
        | None
    ) = None  # fmt: skip
    metadata: Metadata | None = None
    stored_credential: StoredCredentialBody | None = None


class CapturePayment(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Take what was authorized, or less of it: the rest of the hold is released."""

    amount: Amount | UnsetType = UNSET


class VoidPayment(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Nothing to say: a void is of the whole payment."""


class ReviewPayment(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Nothing to say: the decision is in the path."""


class RefundPayment(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Give back an amount, or, without one, all that is left."""

    amount: Amount | UnsetType = UNSET


_CONTROL: Final = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_FREE: Final = ("order_reference", "customer_reference", "description", "statement_descriptor")


def check_payment(
    body: CreatePayment, *, currencies: frozenset[str], raw_cards: bool, at: datetime
) -> None:
    """The rules types cannot say. Raises ValidationFailed naming every field that breaks one.

    `currencies` are those the merchant's account takes; `at` decides whether a card has expired
    (good through the last day of its month, and a day longer somewhere on earth).
    """
    errors: list[FieldError] = []
    if body.currency not in EXPONENT:
        errors.append(
            FieldError("#/currency", "unknown_currency", "Use an ISO 4217 code such as USD.")
        )
    elif body.currency not in currencies:
        errors.append(
            FieldError(
                "#/currency",
                "currency_not_accepted",
                f"This account takes {', '.join(sorted(currencies))}.",
            )
        )
    method = body.payment_method
    if not raw_cards and not isinstance(method, AcceptTokenMethod):
        errors.append(_TOKENS_ONLY)
    elif isinstance(method, CardMethod):
        errors += _check_card(method.card, at=at)
    elif isinstance(method, BankAccountMethod) and not passes_aba(
        method.bank_account.routing_number
    ):
        errors.append(
            FieldError(
                "#/payment_method/bank_account/routing_number",
                "invalid_routing_number",
                "The check digit does not match.",
            )
        )
    errors += _check_stored_credential(body)
    if (
        body.customer is not None
        and body.customer.reference is not None
        and body.customer_reference is not None
        and body.customer.reference != body.customer_reference
    ):
        errors.append(
            FieldError(
                "#/customer_reference",
                "contradiction",
                "It differs from customer.reference; send one of the two.",
            )
        )
    text = _all_text(body)
    if not text.isprintable() or contains_card_number(text):
        errors += _check_texts(body)
    if errors:
        raise ValidationFailed(
            "; ".join(f"{error.pointer[2:]}: {error.detail}" for error in errors),
            fields=tuple(errors),
        )


_TOKENS_ONLY: Final = FieldError(
    "#/payment_method/type",
    "raw_cards_not_allowed",
    "This merchant takes tokens only: use accept_token, or allow raw cards in the "
    "merchant's settings.",
)


def _check_stored_credential(body: CreatePayment) -> list[FieldError]:
    credential = body.stored_credential
    if credential is None:
        return []
    if isinstance(body.payment_method, BankAccountMethod):
        pointer, why = "#/stored_credential", "It is about cards; a bank account has none."
    elif credential.first and credential.initiator == "merchant":
        pointer = "#/stored_credential/initiator"
        why = "The first payment is the one with which the customer agrees: customer."
    elif credential.first and credential.network_transaction_id is not None:
        pointer = "#/stored_credential/network_transaction_id"
        why = "It names the first payment, and this is the first."
    else:
        return []
    return [FieldError(pointer, "contradiction", why)]


def _check_card(card: CardBody, *, at: datetime) -> list[FieldError]:
    at_card = "#/payment_method/card"
    errors = []
    if not passes_luhn(card.number) or not 13 <= len(card.number) <= 19:
        errors.append(
            FieldError(
                f"{at_card}/number", "invalid_card_number", "The check digit does not match."
            )
        )
    if (card.exp_year, card.exp_month) < (at.year, at.month):
        errors.append(FieldError(f"{at_card}/exp_year", "expired_card", "The card has expired."))
    if card.cvc is not None and (len(card.cvc) == 4) != card.number.startswith(("34", "37")):
        errors.append(
            FieldError(
                f"{at_card}/cvc",
                "invalid_cvc",
                "American Express codes have four digits, all others three.",
            )
        )
    return errors


def _all_text(body: CreatePayment) -> str:
    """All free text in one, parted by what ends a card number: more than a single character."""
    parts = [body.order_reference, body.customer_reference, body.description]
    if body.customer is not None:
        parts += msgspec.structs.astuple(body.customer)
    if body.billing_address is not None:
        parts += msgspec.structs.astuple(body.billing_address)
    if body.metadata is not None:
        parts += (*body.metadata, *body.metadata.values())
    if isinstance(body.payment_method, BankAccountMethod):
        parts.append(body.payment_method.bank_account.name_on_account)
    parts.append(body.statement_descriptor)
    return "//".join(filter(None, parts))


def _check_texts(body: CreatePayment) -> list[FieldError]:
    """The same, text by text, to name the field."""
    texts: list[tuple[str, str | None]] = [(f"#/{name}", getattr(body, name)) for name in _FREE]
    for name, part in (("customer", body.customer), ("billing_address", body.billing_address)):
        if part is not None:
            texts += [(f"#/{name}/{field}", getattr(part, field)) for field in _fields(part)]
    if isinstance(body.payment_method, BankAccountMethod):
        name = body.payment_method.bank_account.name_on_account
        texts.append(("#/payment_method/bank_account/name_on_account", name))
    errors = [
        FieldError(pointer, "invalid", "Line breaks and the like have no place here.")
        for pointer, text in texts
        if text is not None and _CONTROL.search(text)
    ]
    for key, value in (body.metadata or {}).items():  # where values may have several lines
        pointer = "#/metadata/" + key.replace("~", "~0").replace("/", "~1")
        texts += [("#/metadata", key), (pointer, value)]
    return errors + [
        FieldError(
            pointer,
            "card_number_in_text",
            "This looks like a card number. Card numbers belong in payment_method only.",
        )
        for pointer, text in texts
        if text is not None and contains_card_number(text)
    ]


def _fields(part: msgspec.Struct) -> tuple[str, ...]:
    return part.__struct_fields__
