"""Work lists: tables whose rows are work that is left. One shape for all of them.

A row is written in the transaction that makes the work due. A worker claims a group of rows, does
the work, and ends each row: it finishes (the row is deleted), postpones (it is tried again later)
or parks it (a person decides, see `easypay jobs`).

    lane = work_lane(dsn, DELIVERIES)
    for work in await claim(lane, DELIVERIES, most=100, lease_s=60):
        ...
    await finish(lane, DELIVERIES, [(work.key, work.attempt), ...])

A claim is a lease: it moves `due_at` to the end of the lease, so the work of a worker that died is
claimed again by itself. Each claim adds one to `attempt`. This number fences: what a worker writes
about a row takes effect only while the row still has the attempt that the worker claimed. A worker
that was stopped and goes on later therefore writes nothing. But what it *sends* no fence can stop:
look at `held_until` before the bytes leave, and let money be sent only by what cannot be claimed a
second time.

All times are the database's, except `held_until`. Nothing is notified: a worker polls, and whoever
writes a row in the worker's own process wakes it.

Every such table has, beside its key and its payload:

    due_at      timestamptz NOT NULL                    when it may next be claimed
    attempt     integer     NOT NULL DEFAULT 0          how often it was claimed
    created_at  timestamptz NOT NULL DEFAULT db_now()
    reason      text                                    of the last failure
    parked_at   timestamptz                             null unless it is parked

and an index on (due_at) WHERE parked_at IS NULL. Keep the table small: no replies, no bodies.
"""

import random
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Final

import msgspec

from easypay.clock import monotonic
from easypay.db.claim_window import WHOLE, ClaimWindow, Span
from easypay.db.connections import Lane

Runner = Any
"""An asyncpg pool or connection, or a lane made by `work_lane`."""
Key = tuple[Any, ...]
"""The values of a row's key, in the order of `WorkList.key`."""

LONGEST_REASON: Final = 500
"""Characters that are kept of a reason."""


class WorkList(msgspec.Struct, frozen=True):
    """A table of work that is left.

    `key` are the columns of its primary key with their SQL types, `payload` those that a claim
    returns as well. `ready` is one more condition of a claim, over the alias `w`, such as that
    there is no earlier row of the same payment. A row that does not fulfil it waits, although its
    time has come. `counted` is the same condition for counting the whole list at once, in which a
    window function is quicker than a look-up for each row; if it is empty, `ready` is used.
    """

    table: str
    key: tuple[tuple[str, str], ...]
    payload: tuple[str, ...] = ()
    ready: str = "true"
    counted: str = ""


class Work(msgspec.Struct, frozen=True):
    """A claimed row. `due_at` is when it became due, `held_until` a time of `clock.monotonic`
    before which nobody else can claim it. `overdue_s`: how long it had been due when it was
    claimed, in seconds by the database's clock."""

    key: Key
    payload: tuple[Any, ...]
    attempt: int
    due_at: datetime
    created_at: datetime
    held_until: float
    overdue_s: float = 0.0

    def still_held(self, for_s: float = 0.0) -> bool:
        """Whether nobody else can claim it within `for_s` seconds from now."""
        return monotonic() + for_s < self.held_until


class Parked(msgspec.Struct, frozen=True):
    """A row that nobody claims any more until a person retries or drops it."""

    key: Key
    payload: tuple[Any, ...]
    attempt: int
    reason: str | None
    created_at: datetime
    parked_at: datetime


class Depth(msgspec.Struct, frozen=True):
    """How much is in a list: what can be claimed now; what is claimed, due later or not ready; and
    what is parked. `oldest_s` is how long the oldest that can be claimed has waited, in seconds; 0
    if there is none."""

    ready: int
    waiting: int
    parked: int
    oldest_s: float


# A claim waits for no lock. What it locks is looked at again in its newest version, so of two
# claims at the same time only one gets a row. It is found again by its key: if it has changed since
# the statement's snapshot, it has another place. ANY: see _FENCED.
_CLAIM: Final = """
    WITH due AS MATERIALIZED (
        SELECT {w_key}, w.due_at FROM {table} w
         WHERE w.parked_at IS NULL AND w.due_at <= db_now() - make_interval(secs => $4::float8)
           AND w.due_at > db_now() - make_interval(secs => $3::float8) AND ({ready})
         ORDER BY w.due_at LIMIT $1::bigint FOR UPDATE OF w SKIP LOCKED
    )
    UPDATE {table} w
       SET due_at = db_now() + make_interval(secs => $2::float8), attempt = w.attempt + 1
      FROM due WHERE {same_as_due}
    RETURNING {w_key}{payload}, w.attempt, due.due_at, w.created_at,
              extract(epoch FROM db_now() - due.due_at)::float8
"""
# Rows are locked in the order of their keys, so two workers never wait for each other in a circle.
#
# Plans are often made when the table is empty, and then PostgreSQL takes reading all of it for the
# quickest way. LIMIT keeps the look-ups apart. With ANY, the key's index is of no use for a join in
# its order, so there is no way but to look up each row.
_FENCED: Final = """
    WITH fenced AS MATERIALIZED (
        SELECT given.*
          FROM (SELECT * FROM unnest({arrays}) AS w({names}) ORDER BY {w_key}) AS given
         CROSS JOIN LATERAL (
               SELECT w.attempt, w.parked_at FROM {table} w
                WHERE {same_as_given} LIMIT 1 FOR UPDATE) AS w
         WHERE w.attempt = given.attempt AND w.parked_at IS NULL
    )"""
_FINISH: Final = (
    _FENCED
    + """
    DELETE FROM {table} w USING fenced WHERE {same_as_fenced} RETURNING {w_key}
"""
)
_POSTPONE: Final = (
    _FENCED
    + """
    UPDATE {table} w
       SET due_at = db_now() + make_interval(secs => fenced.delay_s),
           reason = coalesce(fenced.why, w.reason)
      FROM fenced WHERE {same_as_fenced} RETURNING {w_key}
"""
)
_PARK: Final = (
    _FENCED
    + """
    UPDATE {table} w SET parked_at = db_now(), reason = fenced.why
      FROM fenced WHERE {same_as_fenced} RETURNING {w_key}
"""
)
_PARKED: Final = """
    SELECT {w_key}{payload}, w.attempt, w.reason, w.created_at, w.parked_at FROM {table} w
     WHERE w.parked_at IS NOT NULL ORDER BY w.parked_at, {w_key} LIMIT $1::bigint
"""
_CHOSEN: Final = """
    WITH chosen AS MATERIALIZED (
        SELECT {w_key} FROM {table} w JOIN unnest({arrays}) AS given({names}) ON {same_as_given}
         WHERE w.parked_at IS NOT NULL ORDER BY {w_key} FOR UPDATE OF w
    )"""
_RETRY: Final = (
    _CHOSEN
    + """
    UPDATE {table} w SET parked_at = NULL, due_at = db_now() FROM chosen WHERE {same_as_chosen}
    RETURNING {w_key}
"""
)
_DROP: Final = (
    _CHOSEN
    + """
    DELETE FROM {table} w USING chosen WHERE {same_as_chosen} RETURNING {w_key}
"""
)
# OFFSET 0: the condition is looked at once for each row that is due, not once for each figure.
_DEPTH: Final = """
    SELECT count(*) FILTER (WHERE is_ready),
           count(*) FILTER (WHERE parked_at IS NULL AND NOT is_ready),
           count(*) FILTER (WHERE parked_at IS NOT NULL),
           coalesce(extract(epoch FROM db_now() - min(due_at) FILTER (WHERE is_ready)), 0)::float8
      FROM (SELECT w.due_at, w.parked_at,
                   CASE WHEN w.parked_at IS NULL AND w.due_at <= db_now() THEN {counted}
                        ELSE false END AS is_ready
              FROM {table} w OFFSET 0) AS listed
"""
_STATEMENTS: Final[dict[str, tuple[str, tuple[tuple[str, str], ...]]]] = {
    "claim": (_CLAIM, ()),
    "finish": (_FINISH, (("attempt", "integer"),)),
    "postpone": (
        _POSTPONE,
        (("attempt", "integer"), ("delay_s", "float8"), ("why", "text")),
    ),
    "park": (_PARK, (("attempt", "integer"), ("why", "text"))),
    "parked": (_PARKED, ()),
    "retry": (_RETRY, ()),
    "drop": (_DROP, ()),
    "depth": (_DEPTH, ()),
}
"""By name: the statement, and what it is given of each row beside the key."""


@cache
def _sql(work_list: WorkList, name: str) -> str:
    template, beside = _STATEMENTS[name]
    given = (*work_list.key, *beside)
    keys = [column for column, _ in work_list.key]
    same = {
        f"same_as_{other}": " AND ".join(f"w.{key} = {other}.{key}" for key in keys)
        for other in ("given", "chosen")
    }
    for other in ("fenced", "due"):
        same[f"same_as_{other}"] = " AND ".join(f"w.{k} = ANY (ARRAY[{other}.{k}])" for k in keys)
    return template.format(
        table=work_list.table,
        ready=work_list.ready,
        counted=work_list.counted or work_list.ready,
        w_key=", ".join(f"w.{key}" for key in keys),
        payload="".join(f", w.{column}" for column in work_list.payload),
        arrays=", ".join(f"${n}::{sql_type}[]" for n, (_, sql_type) in enumerate(given, 1)),
        names=", ".join(column for column, _ in given),
        **same,
    )


def work_lane(
    dsn: str,
    work_list: WorkList,
    *,
    limit_s: float = 4.0,
    more: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
) -> Lane:
    """Return a connection for a list that is busy: each statement is prepared once. `more` are
    statements of the list's own, by name; `settings` are added to those of the session.

    One task at a time may use it.
    """
    own = more or {}
    return Lane(
        dsn,
        f"work {work_list.table}",
        lambda name: own[name] if name in own else _sql(work_list, name) if name else "",
        lookups=True,
        limit_s=limit_s,
        settings=settings,
    )


def claim_sql(work_list: WorkList) -> str:
    """Return the statement of a claim, to be explained: `$1` the most rows, `$2` the lease, `$3`
    and `$4` a span."""
    return _sql(work_list, "claim")


def statement_of(work_list: WorkList, name: str) -> str:
    """Return a statement of a list, to be explained: `finish`, `postpone`, `park` and so on."""
    return _sql(work_list, name)


async def _run(runner: Runner, work_list: WorkList, name: str, *arguments: object) -> Any:
    if isinstance(runner, Lane):
        return await runner.fetch(arguments, name)
    return await runner.fetch(_sql(work_list, name), *arguments)


async def _end(
    runner: Runner, work_list: WorkList, name: str, rows: Sequence[tuple[Any, ...]]
) -> set[Key]:
    """Run a group statement. Each row is its key, followed by what the statement is given."""
    if not rows:
        return set()
    columns = [list(column) for column in zip(*rows, strict=True)]
    return {tuple(row) for row in await _run(runner, work_list, name, *columns)}


async def claim(
    runner: Runner, work_list: WorkList, *, most: int, lease_s: float, span: Span = WHOLE
) -> list[Work]:
    """Claim at most `most` rows for `lease_s` seconds, those first that have been due longest."""
    held_until = monotonic() + lease_s
    rows = await _run(runner, work_list, "claim", most, lease_s, span.newer_s, span.older_s)
    return claimed_rows(work_list, rows, held_until)


def claimed_rows(work_list: WorkList, rows: Sequence[Any], held_until: float) -> list[Work]:
    """Return what a claim has returned, those first that have been due longest."""
    n, m = len(work_list.key), len(work_list.payload)
    claimed = []
    for row in rows:
        values = tuple(row)
        attempt, due_at, created_at, overdue_s = values[n + m :]
        claimed.append(
            Work(values[:n], values[n : n + m], attempt, due_at, created_at, held_until, overdue_s)
        )
    claimed.sort(key=lambda work: (work.due_at, work.key))
    return claimed


async def claim_next(
    runner: Runner, work_list: WorkList, window: ClaimWindow, *, most: int, lease_s: float
) -> list[Work]:
    """Claim as `claim` does, where this process has not yet found everything."""
    for span in window.spans():
        began = monotonic()
        found = await claim(runner, work_list, most=most, lease_s=lease_s, span=span)
        overdue_s = found[-1].overdue_s if found else 0.0
        window.looked(span, began, len(found), most, overdue_s)
        if found:
            return found
    return []


async def finish(
    runner: Runner, work_list: WorkList, done: Collection[tuple[Key, int]]
) -> set[Key]:
    """Delete rows whose work is done. Each is its key and the attempt that was claimed.

    Returns the keys of those that were deleted: another worker has claimed the others since. Pass a
    connection within a transaction to commit the work's result together with this.
    """
    return await _end(runner, work_list, "finish", [(*key, attempt) for key, attempt in done])


async def postpone(
    runner: Runner, work_list: WorkList, later: Collection[tuple[Key, int, float, str | None]]
) -> set[Key]:
    """Let rows be claimed again later. Each is its key, its attempt, how many seconds later, and
    why (None: the reason before stays). Delay 0 gives work back that was not begun.

    Returns the keys of those that were changed: another worker has claimed the others since.
    """
    rows = [(*key, attempt, delay_s, _short(why)) for key, attempt, delay_s, why in later]
    return await _end(runner, work_list, "postpone", rows)


async def park(
    runner: Runner, work_list: WorkList, given_up: Collection[tuple[Key, int, str]]
) -> set[Key]:
    """Park rows: nobody claims them until a person decides. Each is its key, its attempt and why.

    Returns the keys of those that were parked: another worker has claimed the others since.
    """
    rows = [(*key, attempt, _short(why)) for key, attempt, why in given_up]
    return await _end(runner, work_list, "park", rows)


async def parked(runner: Runner, work_list: WorkList, *, most: int) -> list[Parked]:
    """Return at most `most` parked rows, those first that were parked first."""
    n, m = len(work_list.key), len(work_list.payload)
    found = [tuple(row) for row in await _run(runner, work_list, "parked", most)]
    return [Parked(row[:n], row[n : n + m], *row[n + m :]) for row in found]


async def retry(runner: Runner, work_list: WorkList, keys: Collection[Key]) -> set[Key]:
    """Make parked rows due now. Returns the keys of those that were parked.

    `attempt` goes on from where it was, as it must never have the same value twice: work that is
    parked after N attempts gets one more, and is parked again if that fails.
    """
    return await _end(runner, work_list, "retry", list(keys))


async def drop(runner: Runner, work_list: WorkList, keys: Collection[Key]) -> set[Key]:
    """Delete parked rows: their work is never done. Returns the keys of those that were parked."""
    return await _end(runner, work_list, "drop", list(keys))


async def depth(runner: Runner, work_list: WorkList) -> Depth:
    """Return how much is in a list, and how old it is. Reads the whole table."""
    rows = await _run(runner, work_list, "depth")
    return Depth(*rows[0])


def backoff_s(attempt: int, *, first: float, factor: float, most: float) -> float:
    """Return how many seconds after attempt number `attempt` (1 is the first) to try again.

    `first` seconds after the first one, `factor` times more after each further one, at most `most`;
    of that, a random part between a half and the whole, so that what failed together is not tried
    again together.
    """
    whole = most
    if attempt <= 64:  # beyond that the power would not fit into a float for some factors
        whole = min(most, first * factor ** max(0, attempt - 1))
    return whole * (0.5 + 0.5 * random.random())  # noqa: S311


def _short(why: str | None) -> str | None:
    return None if why is None else why[:LONGEST_REASON].replace("\0", " ")
