"""Merchants, API keys and callers; how a key is made and read."""

import hashlib
import re
import secrets
import zlib
from datetime import datetime
from functools import cached_property
from typing import Final
from uuid import UUID

import msgspec

from easypay import ids
from easypay.mode import Mode
from easypay.processors.base import Account

DUPLICATES: Final = ("off", "flag", "reject")
DUPLICATE_WINDOW_S: Final = 120
LONGEST_WINDOW_S: Final = 86_400
MOST_STALENESS_MS: Final = 60_000
USUAL_SCOPES: Final = ("payments:read", "payments:write", "refunds:write")
"""The scopes of a key if none are named."""
SCOPES: Final = (
    *USUAL_SCOPES,
    *("payments:export", "events:read", "webhooks:manage"),
    *("customers:read", "customers:write", "customers:erase", "batches:write"),
    "settlements:read",
    *("reconciliation:read", "reconciliation:write"),
)
"""All scopes. Whoever has a key that exports or follows the events can take everything, whoever
manages webhooks can have it sent elsewhere, whoever reads customers gets their personal data, and
whoever uploads batches can charge many at once, so these are asked for. What
`customers:erase` removes nobody can bring back."""

KEY_PATTERN: Final = re.compile(r"ep_(test|live)_sk_[0-9A-Za-z]{8}_[0-9A-Za-z]{32}[0-9A-Za-z]{6}")
"""Matches every key that EasyPay issues: give it to your secret scanner."""

_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class Merchant(msgspec.Struct, frozen=True):
    """One row of `merchants`."""

    merchant_id: UUID
    name: str
    currencies: list[str]
    allow_raw_cards: bool
    created_at: datetime
    updated_at: datetime
    disabled_at: datetime | None
    late_charges: str
    """`return` or `keep`: what to do with a charge found after its payment had failed."""
    duplicates: str
    """`off`, `flag` or `reject`: what to do with a payment that looks like an earlier one."""
    duplicate_window_s: int
    time_zone: str
    """Whose days, weeks and months the statistics have: `Europe/Berlin`."""
    read_staleness_ms: int
    """How old an answer to a read may be unless the request says so."""


class ApiKey(msgspec.Struct, frozen=True):
    """One row of `api_keys`, without its digest."""

    merchant_id: UUID
    id: UUID
    mode: Mode
    name: str
    last4: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class Caller(msgspec.Struct, frozen=True, dict=True):
    """Who sends a request: a merchant in one mode, through one key, with that key's rights."""

    merchant_id: UUID
    mode: Mode
    key_id: UUID
    scopes: frozenset[str]
    currencies: frozenset[str]
    allow_raw_cards: bool
    expires_at: datetime | None
    login: "Login | None"
    """The processor account that takes new payments in that mode; None until one is set."""
    login_unusable: str = ""
    """The reason why the account cannot be used; empty if it can, or if none is set."""
    duplicates: str = "off"
    duplicate_window_s: int = DUPLICATE_WINDOW_S
    read_staleness_ms: int = 0
    restored: bool = False
    """A restore has brought back operations of the merchant, whose keys are lost."""

    @cached_property
    def merchant_text(self) -> str:
        """The merchant's id as the log shows it, made once for all requests of the key."""
        return ids.typed(ids.MERCHANT, self.merchant_id)

    @cached_property
    def key_text(self) -> str:
        """The key's id as the log shows it."""
        return ids.typed(ids.API_KEY, self.key_id)


class Login(msgspec.Struct, frozen=True):
    """A processor account that took payments: one row of `processor_logins`, decrypted."""

    id: UUID
    digest: bytes
    """Identifies the account: equal for merchants that share its URL and login."""
    account: Account


def new_key(mode: Mode) -> str:
    """Return a new bearer key: `ep_test_sk_<8>_<32 random characters><6 characters of CRC-32>`.

    The checksum lets a scanner or a support engineer tell a mistyped key from a revoked one.
    """
    body = f"ep_{mode}_sk_{_random(8)}_{_random(32)}"
    return body + _checksum(body)


def is_well_formed(key: str) -> bool:
    """Whether this has a key's form and a matching checksum. The key need not exist."""
    return KEY_PATTERN.fullmatch(key) is not None and _checksum(key[:-6]) == key[-6:]


def digest_of(key: str) -> bytes:
    """Return what is stored in place of a key. Its 190 random bits need no slow hash."""
    return hashlib.sha256(key.encode()).digest()


def _random(length: int) -> str:
    return "".join(secrets.choice(_BASE62) for _ in range(length))


def _checksum(text: str) -> str:
    value, digits = zlib.crc32(text.encode()), ""
    for _ in range(6):
        value, digit = divmod(value, 62)
        digits = _BASE62[digit] + digits
    return digits
