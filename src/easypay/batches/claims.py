"""Groups of lines as rows: how they are claimed, begun, ended and given back. SQL only.

A group is so many lines that stand together. It is claimed forward: the batch's `next_line` moves
behind it in the statement that writes the group's row, so no line is in two groups. The row is a
lease of a work list (`db.work_list`): if its worker dies, the lease ends and the next worker takes
the group over.

A claim permits nothing yet. Before a line is sent, the id of the operation that will be begun for
it is committed in `tried`. So whoever comes next finds out by these ids what was begun, also when
the idempotency keys of the time are purged.
"""

from collections.abc import Sequence, Set
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec
from msgspec.structs import astuple

from easypay import ids
from easypay.batches import look_ups
from easypay.batches.model import COLUMNS, Batch, batch_of
from easypay.clock import monotonic
from easypay.db import work_list
from easypay.db.connections import Lane
from easypay.db.work_list import Work, WorkList
from easypay.payments.model import OPERATION_COLUMNS, Operation, operation_of
from easypay.payments.statements import Statement

Runner = Any

GROUPS: Final = WorkList(
    "batch_groups",
    key=(("merchant_id", "uuid"), ("batch_id", "uuid"), ("first_line", "integer")),
    payload=("last_line", "open"),
    # A group of a paused batch is looked at until only waiting lines are left in it.
    ready="w.reason IS DISTINCT FROM 'paused' OR NOT EXISTS (SELECT FROM batches b"
    " WHERE b.merchant_id = w.merchant_id AND b.id = w.batch_id AND b.state = 'paused')",
)
PAUSED: Final = "paused"
"""The reason of a group that rests until its batch goes on (`store.move` takes it away)."""
MOST_TRIED: Final = 32
"""Ids in `tried` of a line, before the oldest that led to nothing are forgotten."""
_KEPT: Final = 16


class Group(msgspec.Struct, frozen=True):
    """A claimed group. `work` is its row in the list, with the attempt that fences it."""

    batch: Batch
    first_line: int
    last_line: int
    open: bool
    work: Work


# The batch that has waited longest is next. A group of a batch with a rate is as long as a second,
# and its turn comes when the group before it has taken its time. If another worker has claimed
# since this statement began, the locked row is newer than the count of what is under way
# (`counted_at`): then nothing is claimed, or the batch would have more under way than it allows.
CLAIM_NEXT: Final = f"""
    WITH next AS MATERIALIZED (
        SELECT b.merchant_id, b.id, b.next_line AS first_line,
               least(b.last_line, b.next_line - 1 + least($1::int, b.at_once - under_way,
                                                          ceil(b.lines_per_second)::int))
                   AS last_line
          FROM batches b CROSS JOIN LATERAL (
               SELECT coalesce(sum(g.last_line - g.first_line + 1), 0)::int AS under_way,
                      b.next_line AS counted_at
                 FROM batch_groups g
                WHERE g.merchant_id = b.merchant_id AND g.batch_id = b.id AND NOT g.open) AS groups
         WHERE b.state = 'running' AND b.next_line <= b.last_line AND b.turn_at <= db_now()
           AND b.at_once > under_way AND b.next_line = counted_at
         ORDER BY b.turn_at LIMIT 1 FOR UPDATE OF b SKIP LOCKED
    ), written AS (
        INSERT INTO batch_groups (merchant_id, batch_id, first_line, last_line, due_at, attempt)
        SELECT merchant_id, id, first_line, last_line, db_now() + make_interval(secs => $2), 1
          FROM next
        RETURNING created_at, due_at
    )
    UPDATE batches b
       SET next_line = n.last_line + 1,
           turn_at = CASE WHEN b.lines_per_second IS NULL THEN db_now()
               ELSE greatest(b.turn_at, db_now() - interval '1 second')
                    + make_interval(secs => (n.last_line - n.first_line + 1)
                                            / b.lines_per_second::float8) END
      FROM next n, written w WHERE b.merchant_id = n.merchant_id AND b.id = n.id
    RETURNING {", ".join(f"b.{name}" for name in COLUMNS.split(", "))},
              n.first_line, n.last_line, w.due_at, w.created_at
"""
_WIDTH: Final = len(COLUMNS.split(", "))


async def claim_next(runner: Runner, *, most: int, lease_s: float) -> Group | None:
    """Claim the next lines of the batch whose turn it is: at most `most`, for `lease_s` seconds.
    None if no running batch has lines that may begin now."""
    held_until = monotonic() + lease_s
    row = await runner.fetchrow(CLAIM_NEXT, most, lease_s)
    if row is None:
        return None
    values = tuple(row)
    batch = batch_of(values[:_WIDTH])
    first_line, last_line, due_at, created_at = values[_WIDTH:]
    key = batch.merchant_id, batch.id, first_line
    work = Work(key, (last_line, False), 1, due_at, created_at, held_until)
    return Group(batch, first_line, last_line, False, work)


async def claim_again(lane: Lane, pool: Runner, *, most: int, lease_s: float) -> list[Group]:
    """Claim groups whose lease has ended, or whose time to be looked at again has come."""
    claimed = await work_list.claim(lane, GROUPS, most=most, lease_s=lease_s)
    groups = []
    for work in claimed:
        row = await pool.fetchrow(
            f"SELECT {COLUMNS} FROM batches WHERE merchant_id = $1 AND id = $2", *work.key[:2]
        )
        assert row is not None, "a batch with groups is never removed"
        last_line, is_open = work.payload
        groups.append(Group(batch_of(row), work.key[2], last_line, is_open, work))
    return groups


# the lines of a group ---------------------------------------------------------------------------


class GroupLine(msgspec.Struct, frozen=True, gc=False):
    """A line of a claimed group that has not ended."""

    line: int
    state: str
    operation: str
    request: str | None
    sealed: bytes | None
    payment_id: UUID | None
    of_line: int | None
    after_line: int | None
    tried: list[UUID] | None


_LINES: Final = f"""
    SELECT {", ".join(GroupLine.__struct_fields__)} FROM batch_lines
     WHERE merchant_id = $1 AND batch_id = $2 AND line BETWEEN $3 AND $4
       AND state IN ('waiting', 'claimed', 'open')
     ORDER BY line
"""


async def lines_of(runner: Runner, group: Group) -> list[GroupLine]:
    """Return the lines of a group that have not ended, in order."""
    rows = await look_ups.fetch(
        runner, _LINES, group.batch.merchant_id, group.batch.id, group.first_line, group.last_line
    )
    return [GroupLine(*row) for row in rows]


# The group's row is locked, so a worker whose lease has ended and been taken writes nothing.
_FENCED: Final = """
    WITH fenced AS MATERIALIZED (
        SELECT FROM batch_groups
         WHERE merchant_id = $1 AND batch_id = $2 AND first_line = $3 AND attempt = $5
           FOR UPDATE
    )
"""
# All of the key's columns are given as values. A key that comes from another table lets PostgreSQL
# read the whole batch and join it, which looks quick while it knows of few lines.
_UNENDED: Final = """\
l.merchant_id = $1 AND l.batch_id = $2 AND l.line BETWEEN $3 AND $4
       AND l.state IN ('waiting', 'claimed', 'open')"""
BEGIN_LINES: Final = f"""{_FENCED}
    UPDATE batch_lines l SET state = 'claimed', tried = coalesce(l.tried, '{{}}') || i.operation_id
      FROM fenced, unnest($6::integer[], $7::uuid[]) AS i(line, operation_id)
     WHERE {_UNENDED} AND l.line = i.line
    RETURNING l.line
"""
_LEAVE: Final = f"""{_FENCED}
    UPDATE batch_lines l SET state = $7 FROM fenced
     WHERE {_UNENDED} AND l.line = ANY ($6::integer[])
"""


def _fence(group: Group) -> tuple[UUID, UUID, int, int, int]:
    batch = group.batch
    return batch.merchant_id, batch.id, group.first_line, group.last_line, group.work.attempt


async def begin_lines(runner: Runner, group: Group, lines: Sequence[int]) -> dict[int, UUID]:
    """Commit that operations may be begun for these lines, and under which ids. Lines that have
    ended are left out; all are, if another worker has taken the group."""
    given = {line: ids.new_id() for line in lines}
    rows = await look_ups.fetch(
        runner, BEGIN_LINES, *_fence(group), list(given), list(given.values())
    )
    return {line: given[line] for (line,) in rows}


_FORGET_TRIES: Final = f"""{_FENCED}
    UPDATE batch_lines l SET tried = $7 FROM fenced WHERE {_UNENDED} AND l.line = $6
"""


async def forget_tries(runner: Runner, group: Group, line: GroupLine, begun: Set[UUID]) -> None:
    """Forget the oldest ids of a line under which nothing was begun, so that `tried` stays short.

    Each was looked for after every attempt since, and the worker that made it lost its lease at
    least `_KEPT` attempts ago.
    """
    tried = line.tried or []
    newest = tried[-_KEPT:]
    kept = [each for each in tried if each in newest or each in begun][-MOST_TRIED:]
    await look_ups.fetch(runner, _FORGET_TRIES, *_fence(group), line.line, kept)


async def leave_lines(runner: Runner, group: Group, lines: Sequence[int], state: str) -> None:
    """Give lines back that were not begun (`waiting`), or leave them whose outcome is unknown
    (`open`)."""
    if lines:
        await look_ups.fetch(runner, _LEAVE, *_fence(group), list(lines), state)


async def mark_open(runner: Runner, group: Group, open: bool) -> None:
    """Note whether a group only waits: for unknown outcomes, or for operations that are no lines of
    the batch. Then others may begin in its place."""
    await runner.execute(
        "UPDATE batch_groups SET open = $6 WHERE merchant_id = $1 AND batch_id = $2"
        " AND first_line = $3 AND last_line = $4 AND attempt = $5",
        *_fence(group),
        open,
    )


async def operations_of(runner: Runner, group: Group, wanted: Sequence[UUID]) -> list[Operation]:
    """Return those of these operations that were begun."""
    if not wanted:
        return []
    rows = await runner.fetch(
        f"SELECT {OPERATION_COLUMNS} FROM operations WHERE merchant_id = $1 AND id = ANY ($2)",
        group.batch.merchant_id,
        list(wanted),
    )
    return [operation_of(row) for row in rows]


_EARLIER: Final = """
    SELECT line, state, payment_id FROM batch_lines
     WHERE merchant_id = $1 AND batch_id = $2 AND line = ANY ($3)
"""


async def earlier_lines(
    runner: Runner, batch: Batch, lines: Sequence[int]
) -> dict[int, tuple[str, UUID | None]]:
    """Return the state and the payment of some lines."""
    if not lines:
        return {}
    rows = await look_ups.fetch(runner, _EARLIER, batch.merchant_id, batch.id, list(lines))
    return {line: (state, payment_id) for line, state, payment_id in rows}


async def hold(runner: Runner, batch: Batch, for_s: float) -> None:
    """Claim no more of a batch for some seconds: what is under way cannot be sent now."""
    await runner.execute(
        "UPDATE batches SET turn_at = greatest(turn_at, db_now() + make_interval(secs => $3))"
        " WHERE merchant_id = $1 AND id = $2",
        batch.merchant_id,
        batch.id,
        for_s,
    )


_TURN_NOW: Final = """
    UPDATE batches SET turn_at = db_now()
     WHERE state = 'running' AND turn_at > db_now() + make_interval(secs => $1)
"""
_DUE_NOW: Final = """
    UPDATE batch_groups SET due_at = db_now()
     WHERE parked_at IS NULL AND due_at > db_now() + make_interval(secs => $1)
"""


async def mind_the_clock(runner: Runner, longest_s: float) -> int:
    """Let nothing wait for more than `longest_s` seconds, which must be longer than any lease and
    any pause: the database's clock was set back. Returns how many rows waited."""
    done = [await runner.execute(sql, longest_s) for sql in (_TURN_NOW, _DUE_NOW)]
    return sum(int(each.rpartition(" ")[2]) for each in done)


_STATES: Final = """
    SELECT b.id, CASE WHEN b.state = 'running' AND m.disabled_at IS NOT NULL THEN 'disabled'
                      ELSE b.state END
      FROM unnest($1::uuid[], $2::uuid[]) AS i(merchant_id, id)
      JOIN batches b ON b.merchant_id = i.merchant_id AND b.id = i.id
      JOIN merchants m ON m.merchant_id = i.merchant_id
"""


async def states_of(runner: Runner, wanted: Sequence[tuple[UUID, UUID]]) -> dict[UUID, str]:
    """Return the present states of batches, named by merchant and id. One that runs for a merchant
    who was disabled is `disabled`."""
    rows = await runner.fetch(
        _STATES,
        [merchant_id for merchant_id, _ in wanted],
        [batch_id for _, batch_id in wanted],
    )
    return dict(map(tuple, rows))


# ends -------------------------------------------------------------------------------------------


class LineEnd(msgspec.Struct, frozen=True, gc=False):
    """How a line ended: the fields of the type `ended_line`. `amount_minor` is the money that moved
    or was asked for."""

    merchant_id: UUID
    batch_id: UUID
    line: int
    state: str
    payment_id: UUID | None
    operation_id: UUID | None
    outcome: str
    detail: str | None
    amount_minor: int | None
    currency: str | None


# A line ends once: what has ended is not changed, and not added up again.
END_LINES: Final = """
    WITH given AS MATERIALIZED (
        SELECT * FROM unnest($1::ended_line[])
    ), ended AS (
        UPDATE batch_lines l
           SET state = g.state, payment_id = coalesce(g.payment_id, l.payment_id),
               operation_id = g.operation_id, outcome = g.outcome, detail = g.detail,
               amount_minor = coalesce(g.amount_minor, l.amount_minor),
               currency = coalesce(g.currency, l.currency), request = NULL, sealed = NULL
          FROM given g
         WHERE l.merchant_id = ANY (ARRAY[g.merchant_id]) AND l.batch_id = ANY (ARRAY[g.batch_id])
           AND l.line = ANY (ARRAY[g.line]) AND l.state IN ('waiting', 'claimed', 'open')
        RETURNING l.merchant_id, l.batch_id, l.operation, l.state, l.outcome,
                  coalesce(l.currency, '') AS currency, coalesce(l.amount_minor, 0) AS amount_minor
    ), added AS (
        INSERT INTO batch_totals AS t
            (merchant_id, batch_id, operation, state, outcome, currency, lines, amount_minor)
        SELECT merchant_id, batch_id, operation, state, outcome, currency, count(*),
               sum(amount_minor)
          FROM ended GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6
        ON CONFLICT (merchant_id, batch_id, operation, state, outcome, currency) DO UPDATE
           SET lines = t.lines + excluded.lines,
               amount_minor = t.amount_minor + excluded.amount_minor
    )
    SELECT count(*) FROM ended
"""


def _end_arguments(items: Sequence[LineEnd]) -> list[list[tuple[Any, ...]]]:
    return [[astuple(item) for item in items]]


def _end_results(items: Sequence[LineEnd], rows: list[asyncpg.Record]) -> Sequence[None]:
    return [None] * len(items)


END: Final = Statement[LineEnd, None](
    "batch-ends",
    END_LINES.replace("{", "{{").replace("}", "}}"),
    _end_arguments,
    _end_results,
    order=lambda end: (end.merchant_id, end.batch_id, end.line),
    touches=lambda end: ((end.batch_id, end.line),),
    months=lambda end: (),
)
