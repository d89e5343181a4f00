"""Changes to merchants, processor accounts and keys, for the command line and /api/v1/admin.

Every function takes an asyncpg connection or pool; those that set a merchant's name take a
connection, on which they open a transaction. A trigger raises `configuration.version` with each
change, so that every gateway process drops its cached copy within a second.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from easypay import clock, ids, inputs
from easypay.errors import FieldError, NotFound, ValidationFailed
from easypay.merchants.model import (
    DUPLICATES,
    LONGEST_WINDOW_S,
    MOST_STALENESS_MS,
    SCOPES,
    USUAL_SCOPES,
    ApiKey,
    Merchant,
    digest_of,
    new_key,
)
from easypay.merchants.vault import Vault, VaultError
from easypay.mode import MODE, Mode
from easypay.money import EXPONENT
from easypay.processors.integration import Integration

Runner = Any
_MERCHANT: Final = ", ".join(Merchant.__struct_fields__)
_API_KEY: Final = ", ".join(ApiKey.__struct_fields__)
_NAMES_LOCK: Final = 0x6E616D65  # "name"


async def create_merchant(
    connection: Runner,
    *,
    name: str,
    currencies: Sequence[str] = ("USD",),
    allow_raw_cards: bool = False,
    time_zone: str = "UTC",
) -> Merchant:
    """Create a merchant. Raises ValidationFailed for an unknown currency or time zone, and for a
    name that is blank or that another merchant has."""
    _check_merchant(name, currencies)
    await _check_time_zone(connection, time_zone)
    merchant_id = ids.new_id()
    async with _naming(connection, merchant_id, name):
        row = await connection.fetchrow(
            "INSERT INTO merchants (merchant_id, name, currencies, allow_raw_cards, time_zone)"
            f" VALUES ($1, $2, $3, $4, $5) RETURNING {_MERCHANT}",
            merchant_id,
            name.strip(),
            list(currencies),
            allow_raw_cards,
            time_zone,
        )
    return Merchant(*row)


async def update_merchant(
    connection: Runner,
    merchant_id: UUID,
    *,
    name: str | None = None,
    currencies: Sequence[str] | None = None,
    allow_raw_cards: bool | None = None,
    disabled: bool | None = None,
    late_charges: str | None = None,
    time_zone: str | None = None,
    duplicates: str | None = None,
    duplicate_window_s: int | None = None,
    read_staleness_ms: int | None = None,
) -> Merchant:
    """Change a merchant; omitted fields are left unchanged. A disabled merchant's keys do not work.

    Raises NotFound, or ValidationFailed as `create_merchant` does.
    """
    before = await get_merchant(connection, merchant_id)
    if time_zone is not None:
        await _check_time_zone(connection, time_zone)
    _check_choices(late_charges, duplicates, duplicate_window_s)
    _check_staleness(read_staleness_ms)
    new_name = None if name is None or name.strip() == before.name else name.strip()
    # What stays is not checked: a name from before these rules must not stop other changes.
    _check_merchant(new_name, before.currencies if currencies is None else currencies)
    async with _naming(connection, merchant_id, new_name):
        row = await connection.fetchrow(
            "UPDATE merchants SET name = coalesce($2, name), currencies = coalesce($3, currencies),"
            " allow_raw_cards = coalesce($4, allow_raw_cards),"
            " disabled_at = CASE WHEN $5 THEN coalesce(disabled_at, now())"
            "                    WHEN NOT $5 THEN NULL ELSE disabled_at END,"
            " late_charges = coalesce($6, late_charges),"
            " duplicates = coalesce($7, duplicates),"
            " duplicate_window_s = coalesce($8, duplicate_window_s),"
            " time_zone = coalesce($9, time_zone),"
            " read_staleness_ms = coalesce($10, read_staleness_ms),"
            f" updated_at = now() WHERE merchant_id = $1 RETURNING {_MERCHANT}",
            merchant_id,
            new_name,
            None if currencies is None else list(currencies),
            allow_raw_cards,
            disabled,
            late_charges,
            duplicates,
            duplicate_window_s,
            time_zone,
            read_staleness_ms,
        )
    return Merchant(*row)


@asynccontextmanager
async def _naming(connection: Runner, merchant_id: UUID, name: str | None) -> AsyncIterator[None]:
    """Open a transaction that sets a merchant's name (None: the name stays).

    Nobody else can give that name until it ends, so that two merchants cannot get it. Raises
    ValidationFailed if another merchant has that name.
    """
    async with connection.transaction():
        if name is not None:
            await connection.execute("SET LOCAL lock_timeout = '30s'")
            await connection.execute(
                "SELECT pg_advisory_xact_lock($1, hashtext(lower($2)))", _NAMES_LOCK, name.strip()
            )
            other = await merchant_named(connection, name)
            if other not in (None, merchant_id):
                why = (
                    f"name must differ from every other merchant's, apart from case:"
                    f" {ids.typed(ids.MERCHANT, other)} has this one. Choose another name, or use"
                    " that merchant."
                )
                raise ValidationFailed.of([FieldError("#/name", "name_taken", why)])
        yield


async def merchant_named(runner: Runner, name: str) -> UUID | None:
    """Return the merchant with this name in any case, the oldest if several share it, or None."""
    found: UUID | None = await runner.fetchval(
        "SELECT merchant_id FROM merchants WHERE lower(btrim(name)) = lower($1)"
        " ORDER BY merchant_id LIMIT 1",
        name.strip(),
    )
    return found


async def get_merchant(runner: Runner, merchant_id: UUID) -> Merchant:
    """Return one merchant. Raises NotFound."""
    row = await runner.fetchrow(
        f"SELECT {_MERCHANT} FROM merchants WHERE merchant_id = $1", merchant_id
    )
    if row is None:
        raise NotFound(f"there is no merchant {ids.typed(ids.MERCHANT, merchant_id)}")
    return Merchant(*row)


async def list_merchants(runner: Runner) -> list[Merchant]:
    """Return all merchants, oldest first."""
    rows = await runner.fetch(f"SELECT {_MERCHANT} FROM merchants ORDER BY merchant_id")
    return [Merchant(*row) for row in rows]


async def set_processor_account(
    runner: Runner,
    vault: Vault,
    integration: Integration,
    merchant_id: UUID,
    mode: Mode,
    credentials: Mapping[str, str],
) -> None:
    """Store (or replace) the account of one mode and its processor, encrypted. Optional credentials
    that are not given stay as they were, if the account is the same.

    Raises NotFound for the merchant, ValidationFailed for values that the processor cannot take.
    """
    credentials = integration.read_credentials(credentials)
    await get_merchant(runner, merchant_id)
    rows = await runner.fetch(_SAVED_BEFORE, merchant_id, mode, integration.name)
    opened = [(row["id"], _opened(vault, row, merchant_id, mode, integration)) for row in rows]
    # Inquiries about earlier payments of this login use the newest key.
    account = integration.account_field
    same = [(id, one) for id, one in opened if one.get(account) == credentials[account]]
    for _, before in same:
        kept = {name: before[name] for name in integration.optional if name in before}
        credentials = {**kept, **credentials}
    sealed = vault.seal(credentials, merchant_id, mode, integration.name)
    await runner.execute(
        "WITH saved AS ("
        "INSERT INTO processor_accounts (merchant_id, mode, processor, credentials, updated_at)"
        " VALUES ($1, $2, $5, $3, clock_timestamp())"
        " ON CONFLICT (merchant_id, mode) DO UPDATE"
        " SET processor = excluded.processor, credentials = excluded.credentials,"
        " updated_at = excluded.updated_at"
        " RETURNING updated_at)"
        " UPDATE processor_logins SET credentials = $3, saved_at = saved.updated_at FROM saved"
        " WHERE merchant_id = $1 AND id = ANY ($4)",
        merchant_id,
        mode,
        sealed,
        [id for id, _ in same if id is not None],
        integration.name,
    )


_SAVED_BEFORE: Final = """
    SELECT id, credentials, saved_at FROM processor_logins
     WHERE merchant_id = $1 AND mode = $2 AND processor = $3
     UNION ALL
    SELECT NULL, credentials, updated_at FROM processor_accounts
     WHERE merchant_id = $1 AND mode = $2 AND processor = $3
     ORDER BY saved_at DESC
"""


def _opened(
    vault: Vault, row: Any, merchant_id: UUID, mode: Mode, integration: Integration
) -> dict[str, str]:
    """Return saved credentials; none if they were sealed under an earlier encryption key."""
    try:
        return vault.open(row["credentials"], merchant_id, mode, integration.name)
    except VaultError:
        return {}


async def create_key(
    runner: Runner,
    merchant_id: UUID,
    *,
    mode: Mode,
    name: str = "default",
    scopes: Sequence[str] = USUAL_SCOPES,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """Create a key. Return it with its secret, which is shown only now and never stored.

    Raises NotFound for the merchant, ValidationFailed for an unknown mode or scope.
    """
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        raise _invalid("scopes", f"scopes must be at least one of {', '.join(SCOPES)}.")
    _check_name(name)
    if expires_at is not None and not inputs.is_in_range(expires_at):
        raise _invalid(
            "expires_at",
            "expires_at must be a moment with an offset, such as 2027-11-24T00:00:00Z.",
        )
    await get_merchant(runner, merchant_id)
    secret = new_key(mode)
    row = await runner.fetchrow(
        "INSERT INTO api_keys (merchant_id, id, mode, name, digest, last4, scopes, expires_at)"
        f" VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING {_API_KEY}",
        merchant_id,
        ids.new_id(),
        mode,
        name,
        digest_of(secret),
        secret[-4:],
        list(scopes),
        expires_at,
    )
    return _key_of(row), secret


async def rotate_key(
    runner: Runner, merchant_id: UUID, key_id: UUID, *, overlap_s: int = 86_400
) -> tuple[ApiKey, str]:
    """Create a successor with the same mode, name and scopes; the old key works `overlap_s` longer.

    Raises NotFound if there is no such key, or if it is revoked or expired.
    """
    if not 0 <= overlap_s <= inputs.LONGEST_OVERLAP_S:
        why = f"overlap_seconds must be 0 to {inputs.LONGEST_OVERLAP_S}."
        raise _invalid("overlap_seconds", why)
    old = await _get_key(runner, merchant_id, key_id)
    now = clock.now()
    if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
        raise NotFound("that key no longer works; create a new one")
    secret = new_key(old.mode)
    row = await runner.fetchrow(
        "WITH ending AS (UPDATE api_keys SET expires_at = least(expires_at, $3)"
        " WHERE merchant_id = $1 AND id = $2 AND revoked_at IS NULL RETURNING *)"
        " INSERT INTO api_keys (merchant_id, id, mode, name, digest, last4, scopes)"
        f" SELECT merchant_id, $4, mode, name, $5, $6, scopes FROM ending RETURNING {_API_KEY}",
        merchant_id,
        key_id,
        now + timedelta(seconds=overlap_s),
        ids.new_id(),
        digest_of(secret),
        secret[-4:],
    )
    if row is None:
        raise NotFound("that key was revoked just now; create a new one")
    return _key_of(row), secret


async def revoke_key(runner: Runner, merchant_id: UUID, key_id: UUID) -> ApiKey:
    """Revoke a key; every process refuses it within a second. Idempotent. Raises NotFound."""
    await _get_key(runner, merchant_id, key_id)
    row = await runner.fetchrow(
        "UPDATE api_keys SET revoked_at = coalesce(revoked_at, now())"
        f" WHERE merchant_id = $1 AND id = $2 RETURNING {_API_KEY}",
        merchant_id,
        key_id,
    )
    return _key_of(row)


async def list_keys(runner: Runner, merchant_id: UUID | None = None) -> list[ApiKey]:
    """Return the keys of one merchant, or of all, oldest first. Never their secrets."""
    rows = await runner.fetch(
        f"SELECT {_API_KEY} FROM api_keys WHERE $1::uuid IS NULL OR merchant_id = $1"
        " ORDER BY merchant_id, id",
        merchant_id,
    )
    return [_key_of(row) for row in rows]


async def _get_key(runner: Runner, merchant_id: UUID, key_id: UUID) -> ApiKey:
    row = await runner.fetchrow(
        f"SELECT {_API_KEY} FROM api_keys WHERE merchant_id = $1 AND id = $2", merchant_id, key_id
    )
    if row is None:
        raise NotFound(f"there is no key {ids.typed(ids.API_KEY, key_id)}")
    return _key_of(row)


async def _check_time_zone(runner: Runner, name: str) -> None:
    """The database decides what a time zone is: it is what counts the days."""
    known = name == "UTC" or (
        "/" in name
        and not name.startswith("posix/")
        and await runner.fetchval(
            "SELECT EXISTS (SELECT FROM pg_timezone_names WHERE name = $1)", name
        )
    )
    if not known:
        raise _invalid(
            "time_zone", "time_zone must be UTC or a name such as Europe/Berlin (IANA time zones)."
        )


def _check_merchant(name: str | None, currencies: Sequence[str]) -> None:
    errors = []
    if name is not None and (wrong := inputs.wrong_name(name)) is not None:
        errors.append(FieldError("#/name", *wrong))
    unknown = [code for code in currencies if code not in EXPONENT]
    if unknown or not currencies:
        why = "currencies must be ISO 4217 codes in upper case, such as USD, and at least one."
        errors.append(FieldError("#/currencies", "invalid", why))
    elif len(currencies) > len(EXPONENT):
        why = "currencies must name each currency once."
        errors.append(FieldError("#/currencies", "invalid", why))
    if errors:
        raise ValidationFailed.of(errors)


def _check_choices(
    late_charges: str | None, duplicates: str | None, duplicate_window_s: int | None
) -> None:
    if late_charges not in (None, "return", "keep"):
        raise _invalid("late_charges", "late_charges must be return or keep.")
    if duplicates not in (None, *DUPLICATES):
        raise _invalid("duplicates", "duplicates must be off, flag or reject.")
    if duplicate_window_s is not None and not 1 <= duplicate_window_s <= LONGEST_WINDOW_S:
        why = f"duplicate_window_seconds must be 1 to {LONGEST_WINDOW_S}."
        raise _invalid("duplicate_window_seconds", why)


def _check_staleness(read_staleness_ms: int | None) -> None:
    if read_staleness_ms is not None and not 0 <= read_staleness_ms <= MOST_STALENESS_MS:
        why = f"read_staleness_ms must be 0 to {MOST_STALENESS_MS}."
        raise _invalid("read_staleness_ms", why)


def _check_name(name: str) -> None:
    if (wrong := inputs.wrong_name(name)) is not None:
        raise ValidationFailed.of([FieldError("#/name", *wrong)])


def _key_of(row: Any) -> ApiKey:
    merchant_id, key_id, mode, *others = row
    return ApiKey(merchant_id, key_id, MODE[mode], *others)


def mode_of(text: str) -> Mode:
    """Return the mode of this name. Raises ValidationFailed."""
    if text not in MODE:
        raise _invalid("mode", "mode must be test or live.")
    return MODE[text]


def _invalid(field: str, detail: str) -> ValidationFailed:
    return ValidationFailed.of([FieldError(f"#/{field}", "invalid", detail)])
