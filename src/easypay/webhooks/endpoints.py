"""Endpoints: made, changed, paused and deleted. What the API and the command line share.

Functions take an asyncpg connection or pool; `create`, `delete` and `rotate_secret` take a
connection, on which they open a transaction. A worker reads an endpoint anew for each delivery, so
a change counts from the next attempt.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

import msgspec

from easypay import ids, inputs
from easypay.errors import FieldError, NotFound, ValidationFailed
from easypay.merchants.vault import Vault, VaultError
from easypay.mode import MODE, Mode
from easypay.webhooks.addresses import Network, wrong_url
from easypay.webhooks.model import (
    DISABLED,
    MOST_ENDPOINTS,
    TEST,
    TYPES,
    Endpoint,
    object_of_test,
)
from easypay.webhooks.signing import new_secret

Runner = Any
READER: Final = "webhooks"
"""The name of the fan-out in `feed_readers`. It has a row there only while there are endpoints."""
OVERLAP_S: Final = 86_400
"""How long the old secret goes on being used beside a new one, unless said otherwise."""
MOST_SECRETS: Final = 3
"""Secrets that sign at a time at most: the newest, and old ones whose overlap has not ended."""
MOST_DESCRIPTION: Final = 200
_COLUMNS: Final = ", ".join(Endpoint.__struct_fields__)
_LOCK: Final = 0x77656268  # "webh"


async def create(
    connection: Runner,
    vault: Vault,
    merchant_id: UUID,
    mode: Mode,
    *,
    url: str,
    types: Sequence[str] = (),
    description: str = "",
    private: Iterable[Network] = (),
) -> tuple[Endpoint, str]:
    """Create an endpoint. Return it with its secret, which is told only now.

    It gets the events that are numbered from now on. `types`: those it wants, all if empty.
    Raises NotFound for the merchant, ValidationFailed for a URL or type that cannot be, and if the
    merchant has too many endpoints.
    """
    _check(mode, url=url, types=types, description=description, private=private)
    secret, endpoint_id = new_secret(), ids.new_id()
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        known, count = await connection.fetchrow(
            "SELECT EXISTS (SELECT FROM merchants WHERE merchant_id = $1),"
            " (SELECT count(*) FROM webhook_endpoints WHERE merchant_id = $1 AND mode = $2)",
            merchant_id,
            mode,
        )
        if not known:
            raise NotFound(f"there is no merchant {ids.typed(ids.MERCHANT, merchant_id)}")
        if count >= MOST_ENDPOINTS:
            why = f"A merchant can have {MOST_ENDPOINTS} endpoints in one mode: delete one first."
            raise ValidationFailed.of([FieldError("#/url", "too_many", why)])
        await connection.execute(
            "INSERT INTO feed_readers (name, last_seq) SELECT $1, last_seq FROM feed_head"
            " ON CONFLICT DO NOTHING",
            READER,
        )
        row = await connection.fetchrow(
            "INSERT INTO webhook_endpoints (merchant_id, mode, id, url, description, types, secret,"
            " after_seq) SELECT $1, $2, $3, $4, $5, $6, $7, last_seq FROM feed_head"
            f" RETURNING {_COLUMNS}",
            merchant_id,
            mode,
            endpoint_id,
            url,
            description.strip(),
            list(dict.fromkeys(types)),
            seal(vault, secret, merchant_id, mode, endpoint_id),
        )
    return _endpoint(row), secret


async def update(
    runner: Runner,
    merchant_id: UUID,
    mode: Mode,
    endpoint_id: UUID,
    *,
    url: str | None = None,
    types: Sequence[str] | None = None,
    description: str | None = None,
    paused: bool | None = None,
    private: Iterable[Network] = (),
) -> Endpoint:
    """Change an endpoint; omitted fields are left unchanged.

    `paused`: true lets deliveries wait; false sends them, and enables a disabled endpoint again.
    Raises NotFound and ValidationFailed.
    """
    _check(mode, url=url, types=types, description=description, private=private)
    row = await runner.fetchrow(
        "UPDATE webhook_endpoints SET url = coalesce($4, url), types = coalesce($5, types),"
        " description = coalesce($6, description),"
        " state = CASE WHEN $7 THEN 'paused' WHEN NOT $7 THEN 'enabled' ELSE state END,"
        " reason = CASE WHEN $7 IS NULL THEN reason END,"
        " failing_since = CASE WHEN $7 IS NULL AND $4 IS NULL THEN failing_since END,"
        " updated_at = db_now()"
        f" WHERE merchant_id = $1 AND mode = $2 AND id = $3 RETURNING {_COLUMNS}",
        merchant_id,
        mode,
        endpoint_id,
        url,
        None if types is None else list(dict.fromkeys(types)),
        None if description is None else description.strip(),
        paused,
    )
    return _found(row, endpoint_id)


async def delete(connection: Runner, merchant_id: UUID, mode: Mode, endpoint_id: UUID) -> None:
    """Delete an endpoint, and what it was still to be told. Raises NotFound."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        row = await connection.fetchrow(
            "DELETE FROM webhook_endpoints WHERE merchant_id = $1 AND mode = $2 AND id = $3"
            f" RETURNING {_COLUMNS}",
            merchant_id,
            mode,
            endpoint_id,
        )
        _found(row, endpoint_id)
        await connection.execute(
            "DELETE FROM webhook_deliveries WHERE merchant_id = $1 AND endpoint_id = $2",
            merchant_id,
            endpoint_id,
        )
        # With the last endpoint the fan-out ends: nobody waits for a reader that nobody needs.
        await connection.execute(
            "DELETE FROM feed_readers WHERE name = $1"
            " AND NOT EXISTS (SELECT FROM webhook_endpoints)",
            READER,
        )


async def rotate_secret(
    connection: Runner,
    vault: Vault,
    merchant_id: UUID,
    mode: Mode,
    endpoint_id: UUID,
    *,
    overlap_s: int = OVERLAP_S,
) -> tuple[Endpoint, str]:
    """Give an endpoint a new secret, and return it. For `overlap_s` seconds messages are signed
    with the old one, too, and with those that still sign beside it, the newest `MOST_SECRETS` in
    all. 0 ends all old ones at once.

    Opens a transaction on the connection. Raises NotFound and ValidationFailed.
    """
    if not 0 <= overlap_s <= inputs.LONGEST_OVERLAP_S:
        why = f"overlap_seconds must be 0 to {inputs.LONGEST_OVERLAP_S}."
        raise ValidationFailed.of([FieldError("#/overlap_seconds", "invalid", why)])
    secret, place = new_secret(), (merchant_id, mode, endpoint_id)
    async with connection.transaction():
        row = await connection.fetchrow(_SECRETS, *place)
        if row is None:
            raise NotFound(f"there is no webhook endpoint {ids.typed(ids.ENDPOINT, endpoint_id)}")
        signing: list[str] = []
        for sealed in filter(None, row if overlap_s else ()):
            with suppress(VaultError):  # of another encryption key: nothing is signed with it
                signing += open_secrets(vault, sealed, *place)
        old = None
        if signing:
            old = seal(vault, signing[0], *place, older=signing[1 : MOST_SECRETS - 1])
        row = await connection.fetchrow(
            _ROTATE, *place, seal(vault, secret, *place), old, float(overlap_s)
        )
    return _found(row, endpoint_id), secret


_SECRETS: Final = """
    SELECT secret, CASE WHEN old_secret_until > db_now() THEN old_secret END
      FROM webhook_endpoints WHERE merchant_id = $1 AND mode = $2 AND id = $3 FOR UPDATE
"""
# Secrets that sign already do so until the latest end of any: one moment for all old ones.
_ROTATE: Final = f"""
    UPDATE webhook_endpoints
       SET secret = $4, old_secret = $5, updated_at = db_now(),
           old_secret_until = CASE WHEN $6::float8 = 0 THEN db_now() ELSE greatest(
               old_secret_until, db_now() + make_interval(secs => $6::float8)) END
     WHERE merchant_id = $1 AND mode = $2 AND id = $3 RETURNING {_COLUMNS}
"""


_DISABLE: Final = """
    WITH off AS (
        UPDATE webhook_endpoints SET state = 'disabled', reason = $4, updated_at = db_now()
         WHERE merchant_id = $1 AND mode = $2 AND id = $3 AND state = 'enabled'
        RETURNING merchant_id, mode, id
    ), told AS (
        INSERT INTO webhook_deliveries (merchant_id, endpoint_id, event_id, mode, payment_id, seq,
            type, data, due_at)
        SELECT e.merchant_id, e.id, $5, e.mode, $5, 0, $6, $7, db_now()
          FROM off JOIN webhook_endpoints e USING (merchant_id, mode)
         WHERE e.id <> off.id AND e.state <> 'disabled'
           AND (cardinality(e.types) = 0 OR $6 = ANY (e.types))
    )
    SELECT count(*) FROM off
"""


async def disable(
    runner: Runner, merchant_id: UUID, mode: Mode, endpoint_id: UUID, reason: str
) -> bool:
    """Disable an enabled endpoint, and tell the merchant's other endpoints. Return whether it was
    enabled. What it was still to be told waits until somebody enables it again."""
    data = {"endpoint_id": ids.typed(ids.ENDPOINT, endpoint_id), "reason": reason}
    disabled: int = await runner.fetchval(
        _DISABLE,
        *(merchant_id, mode, endpoint_id, reason),
        *(ids.new_id(), DISABLED, msgspec.json.encode(data).decode()),
    )
    return disabled > 0


async def send_test(runner: Runner, endpoint: Endpoint) -> UUID:
    """Let an endpoint be sent a test event. Return the event's id."""
    event_id = ids.new_id()
    await runner.execute(
        "INSERT INTO webhook_deliveries (merchant_id, endpoint_id, event_id, mode, payment_id, seq,"
        " type, data, due_at) VALUES ($1, $2, $3, $4, $3, 0, $5, $6, db_now())",
        *(endpoint.merchant_id, endpoint.id, event_id, endpoint.mode),
        *(TEST, object_of_test(ids.typed(ids.ENDPOINT, endpoint.id))),
    )
    return event_id


async def get(runner: Runner, merchant_id: UUID, mode: Mode, endpoint_id: UUID) -> Endpoint:
    """Return one endpoint. Raises NotFound."""
    row = await runner.fetchrow(
        f"SELECT {_COLUMNS} FROM webhook_endpoints"
        " WHERE merchant_id = $1 AND mode = $2 AND id = $3",
        merchant_id,
        mode,
        endpoint_id,
    )
    return _found(row, endpoint_id)


async def list_all(
    runner: Runner, merchant_id: UUID | None = None, mode: Mode | None = None
) -> list[Endpoint]:
    """Return the endpoints of one merchant and mode, or of all, oldest first."""
    rows = await runner.fetch(
        f"SELECT {_COLUMNS} FROM webhook_endpoints"
        " WHERE ($1::uuid IS NULL OR merchant_id = $1) AND ($2::text IS NULL OR mode = $2)"
        " ORDER BY merchant_id, id",
        merchant_id,
        mode,
    )
    return [_endpoint(row) for row in rows]


def seal(
    vault: Vault,
    secret: str,
    merchant_id: UUID,
    mode: Mode,
    endpoint_id: UUID,
    *,
    older: Sequence[str] = (),
) -> bytes:
    """Encrypt a secret for one endpoint, with those before it that still sign; it cannot be opened
    for another."""
    sealed = {"secret": secret} | ({"older": " ".join(older)} if older else {})
    return vault.seal(sealed, merchant_id, mode, f"webhook {endpoint_id}")


def open_secrets(
    vault: Vault, sealed: bytes, merchant_id: UUID, mode: Mode, endpoint_id: UUID
) -> list[str]:
    """Decrypt a secret and those that were sealed with it, newest first. Raises VaultError if they
    were sealed under another encryption key."""
    found = vault.open(sealed, merchant_id, mode, f"webhook {endpoint_id}")
    return [found["secret"], *found.get("older", "").split()]


def _check(
    mode: Mode,
    *,
    url: str | None,
    types: Sequence[str] | None,
    description: str | None,
    private: Iterable[Network],
) -> None:
    errors = []
    if url is not None:
        why = wrong_url(url, live=mode is Mode.LIVE, private=private)
        if why is not None:
            errors.append(FieldError("#/url", "invalid", why))
    if types is not None and (unknown := sorted(set(types) - set(TYPES))):
        why = f"types must be of: {', '.join(TYPES)}. There is no {unknown[0][:60]!r}."
        errors.append(FieldError("#/types", "invalid", why))
    if description and len(description) > MOST_DESCRIPTION:
        why = f"description must have at most {MOST_DESCRIPTION} characters."
        errors.append(FieldError("#/description", "too_long", why))
    elif description and inputs.wrong_name(description, MOST_DESCRIPTION) is not None:
        why = "description must be one line without control characters or card numbers."
        errors.append(FieldError("#/description", "invalid", why))
    if errors:
        raise ValidationFailed.of(errors)


def _found(row: Any, endpoint_id: UUID) -> Endpoint:
    if row is None:
        raise NotFound(f"there is no webhook endpoint {ids.typed(ids.ENDPOINT, endpoint_id)}")
    return _endpoint(row)


def _endpoint(row: Any) -> Endpoint:
    merchant_id, mode, *others = row
    return Endpoint(merchant_id, MODE[mode], *others)
