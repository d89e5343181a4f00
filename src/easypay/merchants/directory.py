"""Who a key belongs to: a near cache that is never more than a second old.

A cached entry may be used only under a lease, and the lease is renewed only by seeing that
`configuration.version` has not moved. A version that moved empties the cache; a database that
does not answer lets the lease run out, and then every lookup asks the database itself. So a
revoked key stops working in every process within `lease_s`, however the network fails.
"""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from easypay.clock import monotonic
from easypay.db.connections import LOST
from easypay.errors import InvalidApiKey
from easypay.merchants.model import Caller, digest_of, is_well_formed
from easypay.merchants.vault import Vault
from easypay.processors.base import Account

log = logging.getLogger(__name__)

_MOST_ENTRIES: Final = 10_000

_FIND_CALLER: Final = """
    SELECT k.merchant_id, k.mode, k.id, k.scopes, m.currencies, m.allow_raw_cards, k.expires_at,
           a.credentials, (SELECT version FROM configuration) AS version
      FROM api_keys k
      JOIN merchants m USING (merchant_id)
      LEFT JOIN processor_accounts a ON a.merchant_id = k.merchant_id AND a.mode = k.mode
     WHERE k.digest = $1 AND k.revoked_at IS NULL AND m.disabled_at IS NULL
"""
_FIND_ACCOUNT: Final = (
    "SELECT credentials FROM processor_accounts WHERE merchant_id = $1 AND mode = $2"
)


class Directory:
    """Finds callers by key and processor accounts by merchant and mode."""

    def __init__(self, pool: Any, vault: Vault, urls: dict[str, str], *, lease_s: float) -> None:
        self._pool = pool
        self._vault = vault
        self._urls = urls
        self._lease_s = lease_s
        self._leased_until = 0.0
        self._version: int | None = None
        self._callers: dict[str, Caller] = {}
        self._pending: dict[str, asyncio.Task[Caller]] = {}
        self.hits = 0
        self.misses = 0

    async def caller(self, key: str) -> Caller:
        """The caller behind a bearer key. Raises InvalidApiKey.

        Many requests that miss together make one query.
        """
        caller = self._callers.get(key)
        if caller is not None and monotonic() < self._leased_until:
            self.hits += 1
        else:
            self.misses += 1
            if not is_well_formed(key):
                raise InvalidApiKey("The key is mistyped or not one of ours.")
            pending = self._pending.get(key)
            if pending is None:
                pending = asyncio.create_task(self._find(key))
                self._pending[key] = pending
                pending.add_done_callback(lambda _: self._pending.pop(key, None))
            caller = await asyncio.shield(pending)
        if caller.expires_at is not None and caller.expires_at <= datetime.now(UTC):
            raise InvalidApiKey("The key has expired.")
        return caller

    async def account(self, merchant_id: UUID, mode: str) -> Account | None:
        """A merchant's processor account, read now. For the resolver, which has no key."""
        sealed = await self._pool.fetchval(_FIND_ACCOUNT, merchant_id, mode)
        return None if sealed is None else self._open(sealed, merchant_id, mode)

    async def watch(self) -> None:
        """Renew the lease for as long as the version stands still. Runs until cancelled."""
        while True:
            started = monotonic()
            try:
                version = await asyncio.wait_for(
                    self._pool.fetchval("SELECT version FROM configuration"), self._lease_s
                )
            except (*LOST, asyncpg.PostgresError) as error:
                log.warning("key cache suspended: %s", error)
            else:
                if version != self._version:
                    self._callers.clear()
                    self._version = version
                self._leased_until = started + self._lease_s
            await asyncio.sleep(self._lease_s / 3)

    async def _find(self, key: str) -> Caller:
        row = await self._pool.fetchrow(_FIND_CALLER, digest_of(key))
        if row is None:
            raise InvalidApiKey("The key is unknown or was revoked.")
        sealed = row["credentials"]
        caller = Caller(
            merchant_id=row["merchant_id"],
            mode=row["mode"],
            key_id=row["id"],
            scopes=frozenset(row["scopes"]),
            currencies=frozenset(row["currencies"]),
            allow_raw_cards=row["allow_raw_cards"],
            expires_at=row["expires_at"],
            account=None if sealed is None else self._open(sealed, row["merchant_id"], row["mode"]),
        )
        # Read together with the version it was true at: anything newer is not cached over.
        if row["version"] == self._version and len(self._callers) < _MOST_ENTRIES:
            self._callers[key] = caller
        return caller

    def _open(self, sealed: bytes, merchant_id: UUID, mode: str) -> Account:
        credentials = self._vault.open(sealed, merchant_id, mode)
        return Account(
            url=self._urls[mode],
            login_id=credentials.login_id,
            transaction_key=credentials.transaction_key,
        )
