"""Adds up the counters of local days and months that are over, so that a question about years reads
few rows.

Quarters of an hour serve every time zone. When a merchant's day is over, its quarters are added up
once into rows of the grain `d`, and a month's days into rows of `m`: the day is sealed. `D` and `M`
are the same over all brands. From then on the fold adds what comes late to those rows too. A
merchant whose time zone changes is sealed again.

Each merchant is sealed in one transaction, which first raises the version of the fold's mark. So no
fold runs meanwhile, and one that began before and waited for the mark writes nothing: it would not
know the new seal. A process that dies leaves nothing half done, and two of them do no harm.
"""

from typing import Any, Final
from uuid import UUID

from easypay.clock import monotonic
from easypay.payments.counters import COLUMNS, SUMS, each_column

Runner = Any

FAR_BEHIND: Final = 20_000
"""Events that are not folded yet. While there are more, nothing is sealed and nothing answered."""
_EVERY_S: Final = 10.0
_AT_ONCE_S: Final = 0.01
"""The feed goes on after that much sealing, or one merchant."""
_MOST: Final = 100

# The mark's row is locked by this until the transaction ends. The next statement sees every fold.
STOP_FOLDS: Final = "UPDATE feed_readers SET version = version + 1 WHERE name = 'payments'"
# Each day's quarters are a range of the primary key, however many rows there were at ANALYZE.
_BEGIN: Final = f"{STOP_FOLDS} RETURNING set_config('enable_seqscan', 'off', true)"

_DUE: Final = """
    SELECT m.merchant_id FROM merchants m
      LEFT JOIN statistics_seals z ON z.merchant_id = m.merchant_id
     WHERE (z.merchant_id IS NULL OR z.time_zone <> m.time_zone OR z.next_at <= db_now())
       AND (SELECT h.last_seq - r.last_seq FROM feed_head h, feed_readers r
             WHERE r.name = 'payments') <= $2
     LIMIT $1
"""
# If the merchant's time zone has changed, all that was added up for the one before is wrong.
_FORGET: Final = (
    *(
        f"DELETE FROM {table} WHERE merchant_id = $1 AND mode IN ('test', 'live') AND grain <> 'q'"
        for table in ("payment_counts", "decline_counts")
    ),
    "DELETE FROM statistics_seals WHERE merchant_id = $1",
)
# From the last seal, or else from the first row there is, to the start of the present day. First:
# whether the last seal is of another time zone.
_STRETCHES: Final = """
    SELECT has_moved, zone, greatest(first, days_until), until, greatest(first, months_until),
           local_start(date_trunc('month', local_day(until, zone)::timestamp)::date, zone),
           local_start(local_day(until, zone) + 1, zone)
      FROM (SELECT m.time_zone AS zone, z.days_until, z.months_until,
                   z.time_zone <> m.time_zone AS has_moved,
                   local_start(local_day(db_now(), m.time_zone), m.time_zone) AS until,
                   least((SELECT min(start) FROM payment_counts
                           WHERE merchant_id = $1 AND mode = 'test' AND grain = 'q'),
                         (SELECT min(start) FROM payment_counts
                           WHERE merchant_id = $1 AND mode = 'live' AND grain = 'q')) AS first
              FROM merchants m LEFT JOIN statistics_seals z ON z.merchant_id = m.merchant_id
             WHERE m.merchant_id = $1) AS known
"""
PERIODS: Final = """
    SELECT mode, day.start, day.until
      FROM (SELECT local_start(date_trunc('{unit}', day)::date, $4) AS start,
                   local_start((date_trunc('{unit}', day) + interval '1 {unit}')::date, $4) AS until
              FROM generate_series(date_trunc('{unit}', local_day($2, $4)::timestamp),
                                   local_day($3, $4)::timestamp, interval '1 {unit}') AS day
           ) AS day
     CROSS JOIN (VALUES ('test'), ('live')) AS modes(mode)
     WHERE day.start < day.until AND day.until <= $3
    OFFSET 0
"""
"""The days or months from `$2` to `$3` in the time zone `$4`, for each mode. OFFSET 0: each is
worked out once."""
_ADD_UP: Final = f"""
    INSERT INTO {{table}} (merchant_id, mode, grain, start, {{key}}, {{columns}})
    SELECT $1, p.mode, '{{grain}}', p.start, added.*
      FROM ({PERIODS}) AS p CROSS JOIN LATERAL (
           SELECT {{found}}, {{sums}} FROM {{table}} c
            WHERE c.merchant_id = $1 AND c.mode = p.mode AND c.grain = '{{parts}}'
              AND c.start >= p.start AND c.start < p.until
            GROUP BY {{groups}}) AS added
    ON CONFLICT (merchant_id, mode, grain, start, {{key}}) DO UPDATE SET {{again}}
"""
_TABLES: Final = (
    ("payment_counts", "currency, brand", COLUMNS, SUMS),
    ("decline_counts", "currency, brand, code", ("declines",), "sum(c.declines)"),
)
_SEAL: Final = """
    INSERT INTO statistics_seals (merchant_id, time_zone, days_until, months_until, next_at)
    VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (merchant_id) DO UPDATE
       SET time_zone = excluded.time_zone, days_until = excluded.days_until,
           months_until = excluded.months_until, next_at = excluded.next_at
"""


def _add_up(unit: str, grain: str, parts: str) -> list[str]:
    """Return the statements that add up rows of the grain `parts`. A capital grain is one over all
    brands, whose brand is empty."""
    statements = []
    for table, key, columns, sums in _TABLES:
        found = [f"c.{name}" for name in key.split(", ")]
        whole = [each if grain.islower() or each != "c.brand" else "''" for each in found]
        statements.append(
            _ADD_UP.format(
                table=table,
                key=key,
                found=", ".join(whole),
                groups=", ".join(each for each in found if each in whole),
                columns=", ".join(columns),
                sums=sums,
                again=each_column(lambda column: f"{column} = excluded.{column}", columns),
                unit=unit,
                grain=grain,
                parts=parts,
            )
        )
    return statements


_ADD_UP_DAYS: Final = (*_add_up("day", "d", "q"), *_add_up("day", "D", "d"))
_ADD_UP_MONTHS: Final = (*_add_up("month", "m", "d"), *_add_up("month", "M", "D"))


async def seal(connection: Any, merchant_id: UUID) -> None:
    """Seal what is over of one merchant, in a transaction. Folds wait for its end."""
    async with connection.transaction():
        await connection.execute(_BEGIN)
        found = await connection.fetchrow(_STRETCHES, merchant_id)
        if found is not None and found[0]:
            for forget in _FORGET:
                await connection.execute(forget, merchant_id)
            found = await connection.fetchrow(_STRETCHES, merchant_id)
        if found is None:
            return
        _, zone, day, days_until, month, months_until, next_at = found
        if day is not None and day < days_until:
            for statement in _ADD_UP_DAYS:
                await connection.execute(statement, merchant_id, day, days_until, zone)
        if month is not None and month < months_until:
            for statement in _ADD_UP_MONTHS:
                await connection.execute(statement, merchant_id, month, months_until, zone)
        await connection.execute(_SEAL, merchant_id, zone, days_until, months_until, next_at)


class Seals:
    """Seals what is due, a little at a time. One for each process; the leader of the feed uses
    its."""

    def __init__(self) -> None:
        self._look_at = 0.0
        self._due: list[UUID] = []
        self._are_all = False
        """Whether no others were due when these were looked for."""

    async def step(self, pool: Any) -> bool:
        """Seal for a moment, at least one merchant, if it is time to look again. Return whether
        others are due."""
        if self.rests:
            return False
        if not self._due:
            self._due = [row[0] for row in await pool.fetch(_DUE, _MOST, FAR_BEHIND)]
            self._are_all = len(self._due) < _MOST
        stop_at = monotonic() + _AT_ONCE_S
        async with pool.acquire() as connection:
            while self._due:
                await seal(connection, self._due.pop())
                if monotonic() >= stop_at:
                    break
        if self._are_all and not self._due:
            self._look_at = monotonic() + _EVERY_S
        return not self.rests

    @property
    def rests(self) -> bool:
        """Whether all that was due is sealed, and it is not yet time to look again."""
        return monotonic() < self._look_at
