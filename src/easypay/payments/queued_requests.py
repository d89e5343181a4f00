"""The request of a queued payment as its row keeps it: encrypted, and bound to its operation."""

from typing import Final
from uuid import UUID

import msgspec

from easypay.merchants.vault import Box
from easypay.payments.requests import CreatePayment

QUEUE_KEY: Final = "queued requests"
"""The purpose of the key under which queued requests are sealed (`Vault.derive`)."""

_json: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(CreatePayment)


def seal_request(box: Box, body: CreatePayment, operation_id: UUID) -> bytes:
    """Return a payment's request, encrypted. It may hold no card, bank account or card code."""
    return box.seal(_json.encode(body), operation_id.bytes)


def open_request(box: Box, sealed: bytes, operation_id: UUID) -> CreatePayment:
    """Return the request of a queued payment. Raises VaultError."""
    return _decoder.decode(box.open(sealed, operation_id.bytes))
