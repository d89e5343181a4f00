"""The Idempotency-Key header and the fingerprint of what a key was used for."""

from typing import Final

import msgspec

from easypay.api.http import Request
from easypay.errors import IdempotencyKeyInvalid, IdempotencyKeyMissing
from easypay.keyed import Digest
from easypay.payments.cards import contains_card_number
from easypay.payments.requests import CardMethod, CreatePayment

MAX_KEY: Final = 255
_json = msgspec.json.Encoder(order="deterministic")  # metadata's keys, which have no order


def key_of(request: Request) -> str:
    """The key, from `"quoted"` (RFC 9651 string) or plain form, 1 to 255 printable characters.

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
    """A key as it is stored. Raises IdempotencyKeyInvalid."""
    if len(text) >= 2 and text[0] == '"' and text[-1] == '"':
        text = text[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    if not 1 <= len(text) <= MAX_KEY or not text.isascii() or not text.isprintable():
        raise IdempotencyKeyInvalid(
            f"Use 1 to {MAX_KEY} printable ASCII characters; a UUID will do."
        )
    if contains_card_number(text):
        raise IdempotencyKeyInvalid("This looks like a card number. Use a random value.")
    return text


def fingerprint(digest: Digest, request: Request, body: msgspec.Struct) -> bytes:
    """Keyed digest over method, path and the body in one canonical form.

    Keyed, because it covers a card number, and without the card's code, which may outlive the
    authorization in no form at all (PCI DSS 3.3.1, 3.5.1.1).
    """
    if isinstance(body, CreatePayment) and isinstance(body.payment_method, CardMethod):
        card = msgspec.structs.replace(body.payment_method.card, cvc=None)
        body = msgspec.structs.replace(body, payment_method=CardMethod(card))
    said = f"{request.method} {request.path}\n".encode() + _json.encode(body)
    return digest(said)
