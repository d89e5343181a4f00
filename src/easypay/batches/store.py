"""Batches as rows: uploads that begin and end, states, progress, and pages of lines. SQL only.

Every function takes an asyncpg pool or connection.
"""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from easypay import ids
from easypay.batches import look_ups
from easypay.batches.model import (
    COLUMNS,
    MOVES,
    Batch,
    LineRow,
    Progress,
    Sum,
    batch_of,
    why_not,
)
from easypay.batches.views import batch_view
from easypay.errors import NotFound
from easypay.events import batch_events
from easypay.mode import Mode

Runner = Any

# uploads ----------------------------------------------------------------------------------------


class Upload(msgspec.Struct, frozen=True):
    """What an upload says of its batch, before its file is read."""

    merchant_id: UUID
    mode: Mode
    key: str
    name: str
    format: str
    on_error: str
    lines_per_second: float | None
    at_once: int


# The lock lets uploads of one merchant be counted one after another.
_LOCK: Final = (
    "SELECT pg_advisory_xact_lock(hashtextextended('easypay batch upload ' || $1::text, 0))"
)
_BEGIN: Final = f"""
    INSERT INTO batches (merchant_id, id, mode, key, name, format, on_error, lines_per_second,
        at_once, upload_until)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, db_now() + make_interval(secs => $10)
     WHERE (SELECT count(*) FROM batches WHERE merchant_id = $1 AND state = 'checking'
               AND upload_until > db_now()) < $11
    ON CONFLICT (merchant_id, mode, key) DO NOTHING
    RETURNING {COLUMNS}
"""


async def begin(pool: Runner, upload: Upload, *, within_s: float, most: int) -> Batch | None:
    """Write the batch of an upload that begins. It is removed if it is not whole `within_s` seconds
    from now.

    None if the key has a batch, or `most` uploads of the merchant are running.
    """
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(_LOCK, str(upload.merchant_id))
        row = await connection.fetchrow(
            _BEGIN, upload.merchant_id, ids.new_id(), upload.mode, upload.key, upload.name,
            upload.format, upload.on_error, upload.lines_per_second, upload.at_once, within_s, most,
        )  # fmt: skip
    return None if row is None else batch_of(row)


class Whole(msgspec.Struct, frozen=True):
    """What is known of a file at its end."""

    digest: bytes
    bytes: int
    lines: int
    wrong: int
    last_line: int
    reason: str | None
    """Why it is invalid; None if it can be run."""


# Lines of one payment go one after another: each waits for the one before it. Fresh rows have no
# statistics, so this joins nothing.
_BEFORE: Final = """
    SELECT line, before
      FROM (SELECT line, lag(line) OVER (PARTITION BY payment_id, of_line ORDER BY line) AS before
              FROM batch_lines
             WHERE merchant_id = $1 AND batch_id = $2
               AND (payment_id IS NOT NULL OR of_line IS NOT NULL)) AS acting
     WHERE before IS NOT NULL
"""
WAIT_FOR: Final = """
    UPDATE batch_lines l SET after_line = found.before
      FROM (SELECT before, (SELECT ctid FROM batch_lines
                             WHERE merchant_id = $1 AND batch_id = $2 AND line = i.line) AS row
              FROM unnest($3::integer[], $4::integer[]) AS i(line, before) OFFSET 0) AS found
     WHERE l.ctid = found.row
"""
_END: Final = f"""
    UPDATE batches SET state = $3, digest = $4, bytes = $5, lines = $6, wrong = $7, last_line = $8,
           reason = $9, ended_at = CASE WHEN $3 = 'invalid' THEN db_now() END
     WHERE merchant_id = $1 AND id = $2 AND state = 'checking' AND upload_until > db_now()
    RETURNING {COLUMNS}
"""
_ORDER_WITHIN_S: Final = 60
_ORDERED_AT_A_TIME: Final = 2_000


class UploadCut(Exception):
    """The upload took too long, and its batch was removed meanwhile."""


async def end(pool: Runner, batch: Batch, whole: Whole) -> Batch | None:
    """Make a batch of what was uploaded: `ready`, or `invalid`. None if the merchant has a batch of
    the same file. Raises UploadCut."""
    key = batch.merchant_id, batch.id
    state = "ready" if whole.reason is None else "invalid"
    try:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(f"SET LOCAL statement_timeout = '{_ORDER_WITHIN_S}s'")
            if whole.reason is None:
                await _put_in_order(connection, key)
            row = await connection.fetchrow(
                _END, *key, state, whole.digest, whole.bytes, whole.lines, whole.wrong,
                whole.last_line, whole.reason,
            )  # fmt: skip
            if row is None:
                raise UploadCut
            ended = batch_of(row)
            await _tell(connection, ended, "created" if state == "ready" else "invalid")
    except asyncpg.UniqueViolationError:
        return None
    return ended


async def _put_in_order(connection: Any, key: tuple[UUID, UUID]) -> None:
    """Let each line wait for the line before it that acts on the same payment."""
    await connection.execute("SET LOCAL enable_seqscan = off")
    found = await connection.cursor(_BEFORE, *key, timeout=_ORDER_WITHIN_S)
    while rows := await found.fetch(_ORDERED_AT_A_TIME, timeout=_ORDER_WITHIN_S):
        lines, before = map(list, zip(*rows, strict=True))
        await connection.execute(WAIT_FOR, *key, lines, before)


# reading ----------------------------------------------------------------------------------------


async def find(runner: Runner, merchant_id: UUID, mode: Mode, batch_id: UUID) -> Batch:
    """Return a batch. Raises NotFound if there is none, or its upload has not ended."""
    row = await runner.fetchrow(
        f"SELECT {COLUMNS} FROM batches"
        " WHERE merchant_id = $1 AND id = $2 AND mode = $3 AND state <> 'checking'",
        merchant_id,
        batch_id,
        mode,
    )
    if row is None:
        raise NotFound(f"there is no batch {ids.typed(ids.BATCH, batch_id)}")
    return batch_of(row)


async def of_key(runner: Runner, merchant_id: UUID, mode: Mode, key: str) -> Batch | None:
    """Return the batch of an upload's key, also while it is checked."""
    row = await runner.fetchrow(
        f"SELECT {COLUMNS} FROM batches WHERE merchant_id = $1 AND mode = $2 AND key = $3",
        merchant_id,
        mode,
        key,
    )
    return None if row is None else batch_of(row)


async def of_file(runner: Runner, merchant_id: UUID, mode: Mode, digest: bytes) -> Batch | None:
    """Return the batch of a file by its SHA-256, unless it was refused."""
    row = await runner.fetchrow(
        f"SELECT {COLUMNS} FROM batches"
        " WHERE merchant_id = $1 AND mode = $2 AND digest = $3 AND state <> 'invalid'",
        merchant_id,
        mode,
        digest,
    )
    return None if row is None else batch_of(row)


async def page(
    runner: Runner, merchant_id: UUID, mode: Mode, *, below: UUID, most: int
) -> list[Batch]:
    """Return the merchant's batches with smaller ids, newest first."""
    rows = await runner.fetch(
        f"SELECT {COLUMNS} FROM batches WHERE merchant_id = $1 AND mode = $2 AND id < $3"
        " AND state <> 'checking' ORDER BY id DESC LIMIT $4",
        merchant_id,
        mode,
        below,
        most,
    )
    return [batch_of(row) for row in rows]


_SUMS: Final = """
    SELECT operation, state, outcome, currency, lines, amount_minor FROM batch_totals
     WHERE merchant_id = $1 AND batch_id = $2
     ORDER BY operation, state, outcome, currency
"""
_UNDER_WAY: Final = """
    SELECT count(*) FILTER (WHERE l.state = 'claimed'), count(*) FILTER (WHERE l.state = 'open'),
           db_now()
      FROM batch_groups g
     CROSS JOIN LATERAL (
           SELECT state FROM batch_lines
            WHERE merchant_id = $1 AND batch_id = $2 AND line BETWEEN g.first_line AND g.last_line
           OFFSET 0) AS l
     WHERE g.merchant_id = $1 AND g.batch_id = $2
"""


async def progress(runner: Runner, batch: Batch) -> Progress:
    """Return how far a batch has come. Reads its totals and the lines under way, not all lines."""
    async with runner.acquire() as connection, connection.transaction():
        return await _progress(connection, batch)


async def _progress(connection: Any, batch: Batch) -> Progress:
    key = batch.merchant_id, batch.id
    sums = tuple(Sum(*row) for row in await connection.fetch(_SUMS, *key))
    ((claimed, open_, now),) = await look_ups.fetch_within(connection, _UNDER_WAY, *key)
    return Progress(sums=sums, claimed=claimed, open=open_, now=now)


_LINE: Final = ", ".join(LineRow.__struct_fields__)
_LINES: Final = f"""
    SELECT {_LINE} FROM batch_lines WHERE merchant_id = $1 AND batch_id = $2 AND line > $3
     ORDER BY line LIMIT $4
"""
_WRONG: Final = _LINES.replace("ORDER BY", "AND state = 'skipped' ORDER BY")


async def lines_after(
    runner: Runner, batch: Batch, line: int, *, most: int, wrong: bool = False
) -> Sequence[LineRow]:
    """Return the lines with greater numbers, in order; `wrong`: only those that cannot be run."""
    rows = await look_ups.fetch(
        runner, _WRONG if wrong else _LINES, batch.merchant_id, batch.id, line, most
    )
    return [LineRow(*row) for row in rows]


# states -----------------------------------------------------------------------------------------

_MOVE: Final = f"""
    UPDATE batches
       SET state = $4, reason = $5,
           ran_s = ran_s + coalesce(extract(epoch FROM db_now() - running_since)::float8, 0),
           running_since = CASE WHEN $4 = 'running' THEN db_now() END,
           started_at = CASE WHEN $4 = 'running' THEN coalesce(started_at, db_now())
                             ELSE started_at END,
           ended_at = CASE WHEN $4 = 'cancelled' THEN db_now() END
     WHERE merchant_id = $1 AND id = $2 AND state = ANY ($3)
    RETURNING {COLUMNS}
"""
_TOLD: Final = {"start": "started", "pause": "paused", "resume": "resumed", "cancel": "cancelled"}


# The groups that rested are claimed again.
_GO_ON: Final = """
    UPDATE batch_groups SET reason = NULL
     WHERE merchant_id = $1 AND batch_id = $2 AND reason = 'paused'
"""


async def move(pool: Runner, batch: Batch, what: str, reason: str | None = None) -> Batch:
    """Start, pause, resume or cancel a batch. A batch that is there already is returned as it is.

    Raises InvalidState.
    """
    from_states, to = MOVES[what]
    async with pool.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(
            _MOVE, batch.merchant_id, batch.id, list(from_states), to, reason
        )
        if row is not None:
            moved = batch_of(row)
            if what == "resume":
                await connection.execute(_GO_ON, batch.merchant_id, batch.id)
            await _tell(connection, moved, _TOLD[what])
            return moved
    found = await find(pool, batch.merchant_id, batch.mode, batch.id)
    if found.state != to:
        raise why_not(found.state, what)
    return found


# A group that is claimed just now is inserted with the change of next_line: whoever sees the one
# sees the other.
_OVER: Final = f"""
    UPDATE batches b
       SET state = 'done', ended_at = db_now(), running_since = NULL,
           ran_s = ran_s + coalesce(extract(epoch FROM db_now() - running_since)::float8, 0)
     WHERE state = 'running' AND next_line > last_line
       AND NOT EXISTS (SELECT FROM batch_groups g
                        WHERE g.merchant_id = b.merchant_id AND g.batch_id = b.id)
    RETURNING {COLUMNS}
"""


async def end_what_is_over(pool: Runner) -> list[Batch]:
    """Mark the batches as done whose lines have all ended. Returns them."""
    async with pool.acquire() as connection, connection.transaction():
        done = [batch_of(row) for row in await connection.fetch(_OVER)]
        for batch in done:
            await _tell(connection, batch, "done")
    return done


# Told are tenths of its lines, so that no batch has more than nine of these events, and a small one
# has none.
_LEAST_LINES: Final = 100
_PROGRESS: Final = f"""
    UPDATE batches b SET tenth = s.ended * 10 / b.lines
      FROM unnest($1::uuid[], $2::uuid[]) AS i(merchant_id, id)
     CROSS JOIN LATERAL (
           SELECT coalesce(sum(t.lines), 0)::bigint AS ended FROM batch_totals t
            WHERE t.merchant_id = i.merchant_id AND t.batch_id = i.id) AS s
     WHERE b.merchant_id = i.merchant_id AND b.id = i.id AND b.state = 'running'
       AND b.lines >= {_LEAST_LINES} AND s.ended < b.lines AND s.ended * 10 / b.lines > b.tenth
    RETURNING {", ".join(f"b.{name}" for name in COLUMNS.split(", "))}
"""


async def tell_progress(pool: Runner, wanted: Sequence[tuple[UUID, UUID]]) -> None:
    """Tell of the batches of which another tenth has ended. Each is a merchant and an id."""
    merchants, batch_ids = map(list, zip(*wanted, strict=True))
    async with pool.acquire() as connection, connection.transaction():
        for row in await connection.fetch(_PROGRESS, merchants, batch_ids):
            await _tell(connection, batch_of(row), "progress")


async def _tell(connection: Any, batch: Batch, what: str) -> None:
    """Write an event of a batch, in the transaction that changes it."""
    data = msgspec.json.encode(batch_view(batch, await _progress(connection, batch)))
    await batch_events.tell(
        connection, batch.merchant_id, batch.mode, batch.id, f"batch.{what}", data
    )
