"""Whose notification it is: the keys that sign them, by the id in the webhook's address.

All keys are in memory, so a wrong signature costs no database work, and an account that does not
exist looks like one whose signature is wrong. They are read again once the configuration has
changed, at most once a second.
"""

import asyncio
import hashlib
import logging
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import msgspec

from easypay import ids
from easypay.clock import monotonic
from easypay.db.failures import is_passing
from easypay.errors import DatabaseUnavailable
from easypay.merchants.directory import Directory
from easypay.merchants.vault import Vault, VaultError
from easypay.mode import MODE
from easypay.processors.integration import Integration
from easypay.processors.notifications import NotificationFormat

log = logging.getLogger(__name__)

PATH: Final = "/api/v1/processors/{processor}/notifications/{account}"
"""Where a gateway receives notifications."""
_READ_AGAIN_S: Final = 1.0
ALL_KEYS: Final = """
    SELECT merchant_id, mode, processor, account, credentials FROM processor_logins
     WHERE processor = ANY ($1)
"""
_NOBODY: Final = "0" * 128
"""Signs nothing: for accounts that do not exist."""


def shown(account: bytes) -> str:
    """Return an account's id in addresses: it tells nothing of the login or the merchant."""
    digest = hashlib.sha256(b"notifications" + account).digest()
    return ids.typed(ids.ACCOUNT, UUID(bytes=digest[:16]))


class Signer(msgspec.Struct, frozen=True):
    """An account and the keys that sign its notifications: merchants who share it may have saved
    different ones."""

    account: bytes
    keys: frozenset[str]


class Signers:
    """Every account that signs. One per process."""

    def __init__(
        self, pool: Any, vault: Vault, integrations: Mapping[str, Integration], directory: Directory
    ) -> None:
        self._pool = pool
        self._vault = vault
        self._directory = directory
        self._formats = {
            name: each.notifications
            for name, each in integrations.items()
            if each.notifications is not None
        }
        self._known: dict[tuple[str, str], Signer] | None = None
        self._version: int | None = None
        self._read_at = 0.0
        self._opened: dict[bytes, str | None] = {}
        """By sealed credentials: what was opened once is not opened again."""
        self._reading: asyncio.Task[None] | None = None

    async def signed(
        self, processor: str, account: str, body: bytes, headers: Mapping[bytes, bytes]
    ) -> tuple[bytes, NotificationFormat] | None:
        """Return whose notification it is, and its format; None if it is nobody's. Raises
        DatabaseUnavailable if no keys could be read yet."""
        format = self._formats.get(processor)
        if format is None:
            return None
        version = self._directory.version
        if self._known is None or version is None or version != self._version:
            await self._read_again()
        assert self._known is not None
        signer = self._known.get((processor, account))
        keys = (_NOBODY,) if signer is None else signer.keys
        right = [format.is_signed(body, headers, key) for key in keys]
        return (signer.account, format) if signer is not None and any(right) else None

    async def _read_again(self) -> None:
        """Read the keys, unless that was done just now. Those who come meanwhile share it."""
        if self._reading is None:
            if self._known is not None and monotonic() - self._read_at < _READ_AGAIN_S:
                return
            self._reading = asyncio.create_task(self._read())
        try:
            await asyncio.shield(self._reading)
        except Exception as error:
            if not is_passing(error):
                raise
            if self._known is None:
                raise DatabaseUnavailable("The accounts cannot be read. Try again.") from error
            log.warning("the keys of notifications are not renewed: %s", error)

    async def _read(self) -> None:
        try:
            self._read_at = monotonic()
            version = self._directory.version  # before the rows: they may be newer, never older
            rows = await self._pool.fetch(ALL_KEYS, list(self._formats))
            opened = {row["credentials"]: self._key(row) for row in rows}
            keys = defaultdict(set)
            for row in rows:
                key = opened[row["credentials"]]
                if key is not None:
                    keys[row["processor"], row["account"]].add(key)
            self._known = {
                (processor, shown(account)): Signer(account, frozenset(found))
                for (processor, account), found in keys.items()
            }
            self._opened, self._version = opened, version
        finally:
            self._reading = None

    def _key(self, row: Any) -> str | None:
        sealed = row["credentials"]
        if sealed in self._opened:
            return self._opened[sealed]
        processor = row["processor"]
        try:
            credentials = self._vault.open(sealed, row["merchant_id"], MODE[row["mode"]], processor)
        except VaultError as error:
            log.error("a processor account cannot be opened: %s", error)
            return None
        return credentials.get(self._formats[processor].secret)
