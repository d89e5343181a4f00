"""Secrets at rest: AES-256-GCM under one key from the environment, bound to merchant and mode.

The keyed hashes of card numbers, request fingerprints and cursors each use a key derived from it.
"""

import base64
import binascii
import hmac
import os
from typing import Final
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from easypay.errors import EasyPayError

_VERSION: Final = b"\x01"
_NONCE_BYTES: Final = 12


class VaultError(EasyPayError):
    """The encryption key is invalid, or a secret was sealed under another key."""


class Credentials(msgspec.Struct, frozen=True):
    """A processor account's login and key. Its repr hides both."""

    login_id: str
    transaction_key: str

    def __repr__(self) -> str:
        return "Credentials(***)"


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

    def seal(self, credentials: Credentials, merchant_id: UUID, mode: str) -> bytes:
        """Encrypt for one merchant and mode; no other can decrypt it."""
        nonce = os.urandom(_NONCE_BYTES)
        plain = msgspec.json.encode(credentials)
        return _VERSION + nonce + self._cipher.encrypt(nonce, plain, _context(merchant_id, mode))

    def open(self, sealed: bytes, merchant_id: UUID, mode: str) -> Credentials:
        """Decrypt. Raises VaultError if the key, the merchant or the mode is another one."""
        nonce, box = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            plain = self._cipher.decrypt(nonce, box, _context(merchant_id, mode))
        except InvalidTag:
            raise VaultError(
                "A processor account was sealed under another encryption key. "
                "Restore EASYPAY_ENCRYPTION_KEY, or set the account again."
            ) from None
        return msgspec.json.decode(plain, type=Credentials)


def new_encryption_key() -> str:
    """Return 32 random bytes in base64."""
    return base64.b64encode(os.urandom(32)).decode()


def _context(merchant_id: UUID, mode: str) -> bytes:
    return merchant_id.bytes + mode.encode()
