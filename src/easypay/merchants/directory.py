"""Whose key it is: a near cache that is never more than a second old.

A cached entry may be used only under a lease, which is renewed only while `configuration.version`
is unchanged. A changed version empties the cache. If the database does not answer, the lease runs
out, and then every lookup asks the database itself. So a revoked key stops working in every
process within `lease_s`, however the network fails.
"""

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from easypay import ids
from easypay.clock import monotonic
from easypay.db.connections import LOST
from easypay.errors import InvalidApiKey
from easypay.hmac_sha256 import keyed_digest
from easypay.merchants.model import Caller, Login, digest_of, is_well_formed
from easypay.merchants.vault import Vault, VaultError
from easypay.mode import MODE, Mode
from easypay.processors.base import Account
from easypay.processors.integration import Integration
from easypay.processors.registry import DEFAULT

log = logging.getLogger(__name__)

_MOST_ENTRIES: Final = 10_000

# The keys of what a restore brought back are lost: whoever has any of that in the last 30 days has
# new payments compared with it.
_RESTORED: Final = """EXISTS (SELECT FROM restored_operations r
                    WHERE r.merchant_id = {merchant_id} AND r.mode = {mode}
                      AND r.restored_at > db_now() - interval '30 days') AS restored"""
_FIND_CALLER: Final = f"""
    SELECT k.merchant_id, k.mode, k.id, k.scopes, m.currencies, m.allow_raw_cards, k.expires_at,
           m.duplicates, m.duplicate_window_s, m.read_staleness_ms,
           a.processor, a.credentials, a.updated_at AS saved_at,
           (SELECT version FROM configuration) AS version,
           {_RESTORED.format(merchant_id="k.merchant_id", mode="k.mode")}
      FROM api_keys k
      JOIN merchants m USING (merchant_id)
      LEFT JOIN processor_accounts a ON a.merchant_id = k.merchant_id AND a.mode = k.mode
     WHERE k.digest = $1 AND k.revoked_at IS NULL AND m.disabled_at IS NULL
"""
_FIND_ACTING: Final = f"""
    SELECT m.currencies, m.allow_raw_cards, m.duplicates, m.duplicate_window_s, m.read_staleness_ms,
           a.processor, a.credentials, a.updated_at AS saved_at,
           {_RESTORED.format(merchant_id="m.merchant_id", mode="$2")}
      FROM merchants m
      LEFT JOIN processor_accounts a ON a.merchant_id = m.merchant_id AND a.mode = $2
     WHERE m.merchant_id = $1 AND m.disabled_at IS NULL
"""
_NO_KEY: Final = UUID(int=0)
_FIND_CURRENT: Final = """
    SELECT processor, credentials, updated_at AS saved_at
      FROM processor_accounts WHERE merchant_id = $1 AND mode = $2 AND processor = $3
"""
_FIND_LOGIN: Final = """
    SELECT mode, processor, url, account, credentials
      FROM processor_logins WHERE merchant_id = $1 AND id = $2
"""
_FIND_ACCOUNT: Final = """
    SELECT merchant_id, id FROM processor_logins WHERE account = $1 ORDER BY saved_at DESC LIMIT 10
"""
_FIND_LOGIN_OF_ACCOUNT: Final = """
    SELECT id FROM processor_logins
     WHERE merchant_id = $1 AND mode = $2 AND account = $3 AND saved_at >= $4
"""
# An older save never replaces a newer one: two processes may have read the credentials at
# different times.
_KEEP_LOGIN: Final = """
    INSERT INTO processor_logins AS l
        (merchant_id, id, mode, url, account, credentials, saved_at, processor)
    VALUES ($1, $5, $2, $6, $3, $7, $4, $8)
    ON CONFLICT (merchant_id, mode, account) DO UPDATE
       SET credentials = CASE WHEN excluded.saved_at > l.saved_at
                              THEN excluded.credentials ELSE l.credentials END,
           saved_at = greatest(excluded.saved_at, l.saved_at)
    RETURNING id
"""


class UnknownProcessor(VaultError):
    """An account is at a processor that this gateway does not have."""


class Directory:
    """Finds callers by key and processor accounts by merchant and mode."""

    def __init__(
        self,
        pool: Any,
        vault: Vault,
        integrations: Mapping[str, Integration],
        *,
        lease_s: float,
    ) -> None:
        self._pool = pool
        self._vault = vault
        self._integrations = integrations
        self._lease_s = lease_s
        self._leased_until = 0.0
        self._version: int | None = None
        self._callers: dict[bytes, Caller] = {}
        """By the Authorization header as it usually is: `Bearer <key>`."""
        self._pending: dict[str, asyncio.Task[Caller]] = {}
        self._logins: dict[tuple[UUID, UUID], Login] = {}
        self._pending_logins: dict[tuple[UUID, UUID], asyncio.Task[Login | None]] = {}
        self._digest = keyed_digest(vault.derive("processor account"))
        self.hits = 0
        self.misses = 0

    @property
    def version(self) -> int | None:
        """The version of the configuration, for caches of others; None while it is not certain."""
        return self._version if monotonic() < self._leased_until else None

    def known(self, authorization: bytes | None) -> Caller | None:
        """Return the caller whose key this header has, if it is cached and the lease holds.

        None: ask `caller`. Keys that end at some time are always asked there.
        """
        caller = self._callers.get(authorization)  # type: ignore[arg-type]  # None is no key of it
        if caller is None or caller.expires_at is not None or monotonic() >= self._leased_until:
            return None
        self.hits += 1
        return caller

    async def caller(self, key: str) -> Caller:
        """Return the caller of a bearer key. Raises InvalidApiKey.

        Requests that miss at the same time share one query.
        """
        caller = self._callers.get(_usual_header(key))
        if caller is not None and monotonic() < self._leased_until:
            self.hits += 1
        else:
            self.misses += 1
            if not is_well_formed(key):
                raise InvalidApiKey("The key is mistyped, or was not issued by this gateway.")
            pending = self._pending.get(key)
            if pending is None:
                pending = asyncio.create_task(self._find(key))
                self._pending[key] = pending
                pending.add_done_callback(lambda _: self._pending.pop(key, None))
            caller = await asyncio.shield(pending)
        if caller.expires_at is not None and caller.expires_at <= datetime.now(UTC):
            raise InvalidApiKey("The key has expired.")
        return caller

    async def current_login(self, merchant_id: UUID, mode: Mode, processor: str) -> Login | None:
        """Return the account that takes a merchant's new payments, read now. None if there is none,
        or it is at another processor."""
        row = await self._pool.fetchrow(_FIND_CURRENT, merchant_id, mode, processor)
        return None if row is None else await self._stored_login(merchant_id, mode, row)

    async def login(self, merchant_id: UUID, login_id: UUID) -> Login | None:
        """Return the account that took a payment, with the newest key saved for it.

        None if the merchant never had it. Raises VaultError if its key cannot be opened. Those who
        miss at the same time share one query.
        """
        key = (merchant_id, login_id)
        if monotonic() < self._leased_until and (found := self._logins.get(key)) is not None:
            return found
        pending = self._pending_logins.get(key)
        if pending is None:
            pending = asyncio.create_task(self._read_login(merchant_id, login_id))
            self._pending_logins[key] = pending
            pending.add_done_callback(lambda _: self._pending_logins.pop(key, None))
        return await asyncio.shield(pending)

    async def _read_login(self, merchant_id: UUID, login_id: UUID) -> Login | None:
        version = self._version
        row = await self._pool.fetchrow(_FIND_LOGIN, merchant_id, login_id)
        if row is None:
            return None
        account = self._open(row, merchant_id, MODE[row["mode"]], url=row["url"])
        login = Login(login_id, row["account"], account)
        if version == self._version and len(self._logins) < _MOST_ENTRIES:
            self._logins[merchant_id, login_id] = login
        return login

    async def login_of_account(self, digest: bytes) -> Login | None:
        """Return an account by its digest, with the newest key that any of its merchants saved.

        None if no key can be opened.
        """
        for row in await self._pool.fetch(_FIND_ACCOUNT, digest):
            try:
                login = await self.login(row["merchant_id"], row["id"])
            except VaultError as error:
                log.error("a processor account cannot be opened: %s", error)
            else:
                if login is not None:
                    return login
        return None

    async def watch(self) -> None:
        """Renew the lease while the version is unchanged. Runs until cancelled."""
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
                    self._logins.clear()
                    self._version = version
                self._leased_until = started + self._lease_s
            await asyncio.sleep(self._lease_s / 3)

    async def _find(self, key: str) -> Caller:
        row = await self._pool.fetchrow(_FIND_CALLER, digest_of(key))
        if row is None:
            raise InvalidApiKey("The key is unknown or was revoked.")
        login, unusable = await self._login_in(row["merchant_id"], MODE[row["mode"]], row)
        caller = Caller(
            merchant_id=row["merchant_id"],
            mode=MODE[row["mode"]],
            key_id=row["id"],
            scopes=frozenset(row["scopes"]),
            currencies=frozenset(row["currencies"]),
            allow_raw_cards=row["allow_raw_cards"],
            expires_at=row["expires_at"],
            login=login,
            login_unusable=unusable,
            duplicates=row["duplicates"],
            duplicate_window_s=row["duplicate_window_s"],
            read_staleness_ms=row["read_staleness_ms"],
            restored=row["restored"],
        )
        # The row was read together with its version: cache it only while that is the current one.
        if row["version"] == self._version and len(self._callers) < _MOST_ENTRIES:
            self._callers[_usual_header(key)] = caller
        return caller

    async def acting(self, merchant_id: UUID, mode: Mode) -> Caller | None:
        """Return a merchant as the caller of what it ordered earlier, without any key's scopes,
        read now. None if the merchant is disabled."""
        row = await self._pool.fetchrow(_FIND_ACTING, merchant_id, mode)
        if row is None:
            return None
        login, unusable = await self._login_in(merchant_id, mode, row)
        return Caller(
            merchant_id=merchant_id,
            mode=mode,
            key_id=_NO_KEY,
            scopes=frozenset(),
            currencies=frozenset(row["currencies"]),
            allow_raw_cards=row["allow_raw_cards"],
            expires_at=None,
            login=login,
            login_unusable=unusable,
            duplicates=row["duplicates"],
            duplicate_window_s=row["duplicate_window_s"],
            read_staleness_ms=row["read_staleness_ms"],
            restored=row["restored"],
        )

    async def _login_in(self, merchant_id: UUID, mode: Mode, row: Any) -> tuple[Login | None, str]:
        """Return the account of a merchant's row, or why it cannot be used."""
        if row["credentials"] is None:
            return None, ""
        try:
            return await self._stored_login(merchant_id, mode, row), ""
        except VaultError as error:  # requests that need no processor still work
            log.critical("the account of merchant %s: %s", merchant_id, error)
            return None, str(error)

    async def _stored_login(self, merchant_id: UUID, mode: Mode, row: Any) -> Login:
        """Return an account of `processor_accounts` with the id that payments store.

        An account has its row in `processor_logins` before it takes a payment, so that no change
        of accounts can make the gateway forget which one it asked.
        """
        account, saved_at = self._open(row, merchant_id, mode), row["saved_at"]
        digest = self._digest(self._identity(account).encode())
        login_id = await self._pool.fetchval(
            _FIND_LOGIN_OF_ACCOUNT, merchant_id, mode, digest, saved_at
        )
        if login_id is None:
            login_id = await self._pool.fetchval(
                _KEEP_LOGIN,
                *(merchant_id, mode, digest, saved_at),
                *(ids.new_id(), account.url, row["credentials"], account.processor),
            )
        return Login(login_id, digest, account)

    def _open(self, row: Any, merchant_id: UUID, mode: Mode, *, url: str | None = None) -> Account:
        name = row["processor"]
        integration = self._integrations.get(name)
        if integration is None:
            raise UnknownProcessor(
                f"A processor account is at {name!r}, and this gateway has only "
                f"{', '.join(sorted(self._integrations))}. Install that processor on every "
                "gateway, or set the account again."
            )
        credentials = self._vault.open(row["credentials"], merchant_id, mode, name)
        return integration.account(mode, credentials, url)

    def _identity(self, account: Account) -> str:
        """Which account it is. Those of Authorize.Net are as they were when it was alone."""
        login = account.credentials[self._integrations[account.processor].account_field]
        at = account.url if account.processor == DEFAULT else f"{account.processor}\0{account.url}"
        return f"{at}\0{login}"


def _usual_header(key: str) -> bytes:
    return b"Bearer " + key.encode()
