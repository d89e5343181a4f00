"""The Idempotency-Key header, and the fingerprint of the request it was used for.

The statements in `payments/statements.py` claim a key; `payments/flows.py` decides what follows if
it was used before (`reply_or_operation`), and `payments/purge.py` deletes old keys.
"""

from operator import attrgetter
from typing import Any, Final

import msgspec

from easypay.api.http import Request
from easypay.api.repeated_fields import is_accounted_for, refuse_repeated_keys
from easypay.card_numbers import contains_card_number
from easypay.errors import IdempotencyKeyInvalid, IdempotencyKeyMissing
from easypay.hmac_sha256 import Digest
from easypay.payments.requests import (
    CardMethod,
    CreatePayment,
    StoredPaymentMethod,
    without_cvc,
)

MAX_KEY: Final = 255
KEY_RULE: Final = f"Use 1 to {MAX_KEY} printable ASCII characters; a UUID will do."
_json = msgspec.json.Encoder(order="deterministic")  # the keys of metadata have no order


def key_of(request: Request) -> str:
    """Return the key, from its `"quoted"` (RFC 9651 string) or plain form.

    Raises IdempotencyKeyMissing or IdempotencyKeyInvalid.
    """
    raw = request.headers.get(b"idempotency-key")
    if raw is None:
        raise IdempotencyKeyMissing(
            "Send an Idempotency-Key header with a fresh unique value (a UUID will do), and the "
            "same value when you repeat the request."
        )
    return check_key(raw.decode("latin-1").strip())


def check_key(text: str) -> str:
    """Return a key as it is stored. Raises IdempotencyKeyInvalid."""
    if len(text) >= 2 and text[0] == '"' and text[-1] == '"':
        text = text[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    if not 1 <= len(text) <= MAX_KEY or not text.isascii() or not text.isprintable():
        raise IdempotencyKeyInvalid(KEY_RULE)
    if contains_card_number(text):
        raise IdempotencyKeyInvalid("This looks like a card number. Use a random value.")
    return text


_FIRST: Final = (
    *("amount", "currency", "payment_method", "capture", "customer", "customer_reference"),
    *("billing_address", "order_reference", "description", "statement_descriptor", "metadata"),
    "stored_credential",
)
_FIELDS: Final = (*_FIRST, *(f for f in CreatePayment.__struct_fields__ if f not in _FIRST))
"""The order of a payment's fields in its canonical form; newer fields come last. It may not change:
fingerprints are kept for weeks, and compared by gateways of other versions."""
_fields_of: Final = attrgetter(*_FIELDS)
_DEFAULT: Final = {
    field.name: () if field.required else (field.default,)
    for field in msgspec.structs.fields(CreatePayment)
}
_CanonicalPayment: Final = msgspec.defstruct(
    "_CanonicalPayment",
    [(name, Any, *_DEFAULT[name]) for name in _FIELDS],
    frozen=True,
    gc=False,
    omit_defaults=True,
)


def canonical(body: msgspec.Struct) -> bytes:
    """Return the body's canonical form, the same for every way of writing it."""
    return _json.encode(body)


def canonical_payment(request: Request, body: CreatePayment) -> bytes:
    """Return a payment's canonical form without the CVC, which may not be kept in any form after
    the authorization (PCI DSS 3.3.1). Raises ValidationFailed if a key is repeated."""
    left_out = 0
    method = body.payment_method
    if isinstance(method, CardMethod) and method.card.cvc is not None:
        left_out = 1
        card = msgspec.structs.replace(method.card, cvc=None)
        body = msgspec.structs.replace(body, payment_method=CardMethod(card))
    elif isinstance(method, StoredPaymentMethod) and method.stored.cvc is not None:
        left_out = 1
        body = without_cvc(body, method)
    form = _json.encode(_CanonicalPayment(*_fields_of(body)))
    if not is_accounted_for(request.body, form, left_out):
        refuse_repeated_keys(request.body)
    return form


def fingerprint(digest: Digest, request: Request, form: bytes) -> bytes:
    """Digest method, path and canonical form; keyed, as it covers a card (PCI DSS 3.5.1.1)."""
    return digest(b"%b %b\n%b" % (request.method.encode(), request.path.encode(), form))
