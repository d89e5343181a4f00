"""A line of a batch: what the API's request bodies hold, with the operation and a reference. Pure.

A payment's line is a `CreatePayment`, so the rules of the API hold for it. Raw cards and bank
accounts are the exception: they are never kept, so they cannot wait in a batch.
"""

from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta

from easypay import ids
from easypay.errors import FieldError
from easypay.merchants.vault import Box
from easypay.payment_details import NO_CONTROL
from easypay.payments.requests import (
    AcceptTokenMethod,
    BankAccountMethod,
    CapturePayment,
    CardMethod,
    CreatePayment,
    RefundPayment,
    StoredPaymentMethod,
    VoidPayment,
)

LineReference = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        pattern=NO_CONTROL,
        description="The merchant's own reference of the line.",
    ),
]
SEAL_KEY: Final = "batch lines"
"""The purpose of the key under which lines with a token are sealed (`Vault.derive`)."""


class EarlierLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The payment that an earlier line of the file makes."""

    line: Annotated[int, Meta(ge=1)]


_Named = str | EarlierLine


class PaymentLine(
    CreatePayment,
    frozen=True,
    gc=False,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag="payment",
    tag_field="operation",
):
    """A payment to take, or only to authorize."""

    line_reference: LineReference | None = None


class CaptureLine(
    CapturePayment, frozen=True, kw_only=True, omit_defaults=True, tag="capture",
    tag_field="operation",
):  # fmt: skip
    """A payment to capture."""

    payment: _Named
    line_reference: LineReference | None = None


class RefundLine(
    RefundPayment, frozen=True, kw_only=True, omit_defaults=True, tag="refund",
    tag_field="operation",
):  # fmt: skip
    """A payment to refund."""

    payment: _Named
    line_reference: LineReference | None = None


class VoidLine(
    VoidPayment, frozen=True, kw_only=True, omit_defaults=True, tag="void", tag_field="operation"
):
    """A payment to void."""

    payment: _Named
    line_reference: LineReference | None = None


FollowUpLine = CaptureLine | RefundLine | VoidLine
Line = PaymentLine | CaptureLine | RefundLine | VoidLine

_decoder: "Final[msgspec.json.Decoder[Line]]" = msgspec.json.Decoder(Line)
_encoder: Final = msgspec.json.Encoder(order="deterministic")


def decode(form: bytes) -> Line:
    """Return a line from its JSON. Raises msgspec's errors."""
    return _decoder.decode(form)


_KEPT_NEVER: Final[tuple[type, ...]] = (CardMethod, BankAccountMethod)
_SEALED: Final[tuple[type, ...]] = (AcceptTokenMethod,)
_RAW: Final = FieldError(
    "#/payment_method/type",
    "cannot_be_kept",
    "payment_method.type must be one that may be kept: a raw card or bank account is never stored, "
    "so it cannot wait in a batch. Store the card for its customer first, or send it to "
    "POST /api/v1/payments.",
)
_CARD_CODE: Final = FieldError(
    "#/payment_method/stored/cvc",
    "cannot_be_kept",
    "payment_method.stored.cvc cannot wait in a batch: a card code is never stored. Leave it out.",
)


def _cannot_be_kept(line: "PaymentLine") -> list[FieldError]:
    method = line.payment_method
    if isinstance(method, StoredPaymentMethod) and method.stored.cvc is not None:
        return [_CARD_CODE]
    return [_RAW] if isinstance(method, _KEPT_NEVER) else []


def broken_rules(line: Line, number: int, makes_payment: "PaymentLines") -> list[FieldError]:
    """Return what is wrong with a line beyond its types and the rules for payments.

    `number` is its own, `makes_payment` the earlier lines that make a payment.
    """
    if isinstance(line, PaymentLine):
        return _cannot_be_kept(line)
    named = line.payment
    if isinstance(named, EarlierLine):
        if named.line >= number or not makes_payment.has(named.line):
            why = "payment.line must be the number of an earlier line that makes a payment."
            return [FieldError("#/payment/line", "not_a_payment", why)]
    elif ids.parse(ids.PAYMENT, named) is None:
        why = 'payment must be the id of a payment, such as pay_…, or {"line": 12}.'
        return [FieldError("#/payment", "invalid", why)]
    return []


def canonical(line: Line) -> bytes:
    """Return a line as it is kept, and decoded again when its turn comes."""
    return _encoder.encode(line)


def holds_token(line: Line) -> bool:
    """Whether a line must be sealed, because whoever has its token can charge once."""
    return isinstance(line, PaymentLine) and isinstance(line.payment_method, _SEALED)


def seal(box: Box, form: bytes, batch_id: UUID, number: int) -> bytes:
    """Encrypt a line's canonical form, bound to its place in its batch."""
    return box.seal(form, _context(batch_id, number))


def open_sealed(box: Box, sealed: bytes, batch_id: UUID, number: int) -> bytes:
    """Return a sealed line's canonical form. Raises VaultError."""
    return box.open(sealed, _context(batch_id, number))


def _context(batch_id: UUID, number: int) -> bytes:
    return batch_id.bytes + number.to_bytes(8, "big")


def operation_of(line: Line) -> str:
    """Return the word by which a line names what it asks for."""
    word: Any = line.__struct_config__.tag
    return str(word)


def amount_of(line: Line) -> int | None:
    """Return the amount that a line asks for, in minor units. None: all there is, or a void."""
    if isinstance(line, VoidLine):
        return None
    amount = line.amount
    return None if amount is UNSET else amount


def key_of(batch_id: UUID, number: int, unsent: UUID | None = None) -> str:
    """Return the Idempotency-Key of a line: no other line of any batch has it.

    `unsent` is the line's last operation that ended without being sent: its key is used up.
    """
    key = f"{ids.typed(ids.BATCH, batch_id)}.{number}"
    return key if unsent is None else f"{key}.{unsent.hex}"


class PaymentLines:
    """Which lines of a file make a payment: a bit for each, so that a million take 125 KB."""

    def __init__(self) -> None:
        self._bits = bytearray()

    def add(self, number: int) -> None:
        """Note that a line makes a payment."""
        at = number >> 3
        if at >= len(self._bits):
            self._bits.extend(bytes(at + 1024 - len(self._bits)))
        self._bits[at] |= 1 << (number & 7)

    def has(self, number: int) -> bool:
        """Whether a line makes a payment."""
        at = number >> 3
        return at < len(self._bits) and bool(self._bits[at] & 1 << (number & 7))
