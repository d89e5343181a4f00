"""Secrets at rest: AES-256-GCM under one key from the environment, bound to merchant and mode.

The keyed hashes of card numbers, request fingerprints and cursors each use a key derived from it.
"""

import base64
import binascii
import hmac
import os
from collections.abc import Mapping
from typing import Final
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from easypay.errors import EasyPayError
from easypay.mode import Mode

_VERSION: Final = b"\x01"
_NONCE_BYTES: Final = 12


class VaultError(EasyPayError):
    """The encryption key is invalid, or a secret was sealed under another key."""


class Vault:
    """Seals and opens processor credentials, and derives the keys of the keyed hashes."""

    def __init__(self, encryption_key: str) -> None:
        """Take 32 bytes in base64. Raises VaultError for anything else."""
        try:
            key = base64.b64decode(encryption_key, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != 32:
            raise VaultError("EASYPAY_ENCRYPTION_KEY must be 32 random bytes in base64.")
        self._key = key
        self._cipher = AESGCM(key)

    def derive(self, purpose: str) -> bytes:
        """Return a separate key for one purpose: 32 bytes (HMAC-SHA-256 of the purpose)."""
        return hmac.digest(self._key, f"easypay {purpose}".encode(), "sha256")

    def seal(
        self, credentials: Mapping[str, str], merchant_id: UUID, mode: Mode, processor: str
    ) -> bytes:
        """Encrypt for one merchant, mode and processor; no other can decrypt it."""
        nonce = os.urandom(_NONCE_BYTES)
        plain, context = msgspec.json.encode(credentials), _context(merchant_id, mode, processor)
        return _VERSION + nonce + self._cipher.encrypt(nonce, plain, context)

    def open(self, sealed: bytes, merchant_id: UUID, mode: Mode, processor: str) -> dict[str, str]:
        """Decrypt. Raises VaultError if the key, the merchant, the mode or the processor is another
        one."""
        nonce, box = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            plain = self._cipher.decrypt(nonce, box, _context(merchant_id, mode, processor))
        except InvalidTag:
            raise VaultError(
                "A processor account was sealed under another encryption key. "
                "Restore EASYPAY_ENCRYPTION_KEY, or set the account again."
            ) from None
        return msgspec.json.decode(plain, type=dict[str, str])


class Box:
    """Seals bytes that are kept for a short time, under a key derived for one purpose. What is
    sealed for one context opens for no other."""

    def __init__(self, key: bytes) -> None:
        """Take a key of `Vault.derive`."""
        self._cipher = AESGCM(key)

    def seal(self, plain: bytes, context: bytes) -> bytes:
        """Encrypt."""
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + nonce + self._cipher.encrypt(nonce, plain, context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Decrypt. Raises VaultError if the key or the context is another one."""
        nonce, box = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, box, context)
        except InvalidTag:
            raise VaultError(
                "What was sealed cannot be opened: EASYPAY_ENCRYPTION_KEY is another one than "
                "that of the process that sealed it. Give all processes the same key."
            ) from None


def new_encryption_key() -> str:
    """Return 32 random bytes in base64."""
    return base64.b64encode(os.urandom(32)).decode()


def _context(merchant_id: UUID, mode: Mode, processor: str) -> bytes:
    """Credentials for Authorize.Net are bound as they were when it was the only processor. So a
    gateway of that time opens those, and no others: it would send them to Authorize.Net."""
    bound_to = "" if processor == "authorize_net" else processor
    return merchant_id.bytes + f"{mode}{bound_to}".encode()
