"""Answers questions about any stretch of time, exact to the last committed payment.

Everything is read in one snapshot: the counters, the few events that are not folded yet, and the
payments whose outcome is unknown. Months and days that are sealed have rows of their own, so a
question about ten years reads about as many rows as one about a day.

`of` splits the stretch into buckets, and each bucket into months, days and quarters of an hour.
What remains at the two ends is less than a quarter of an hour: it is counted from the rows.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg
import msgspec

from easypay import clock, ids
from easypay.db.partitions import Months
from easypay.errors import FieldError, StatisticsNotReady, ValidationFailed
from easypay.payments.counters import (
    BRAND,
    COLUMNS,
    COUNTED_STATUS,
    FLOW,
    FLOW_MINOR,
    FLOWS,
    PROCESSING,
    QUARTER_S,
    STATUSES,
    TOOK,
    each_column,
)
from easypay.payments.seals import FAR_BEHIND

Runner = Any
Interval = Literal["none", "hour", "day", "week", "month"]

MOST_BUCKETS: Final = 400
MOST_TOTALS: Final = 800
"""Totals of one answer: one for each bucket, currency and brand. Each costs about 10 µs."""
MOST_AT_THE_EDGES: Final = 5_000
"""Events and payments that are read one by one for the ends of a stretch."""
_SHORTEST: Final = {
    "hour": timedelta(minutes=30),  # when Lord Howe Island puts its clocks forward
    "day": timedelta(hours=22),
    "week": timedelta(days=6, hours=22),
    "month": timedelta(days=27, hours=22),
}
_EDGE_MARGIN: Final = timedelta(minutes=5)
"""An event's id is made within this of its time."""
_QUARTER: Final = timedelta(seconds=QUARTER_S)
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)


class Question(msgspec.Struct, frozen=True):
    """What is asked about one merchant and mode: `since <= time < until`, both in UTC."""

    merchant_id: UUID
    mode: str
    since: datetime
    until: datetime
    interval: Interval = "none"
    by_brand: bool = False
    currency: str | None = None
    """Only this currency. None: all."""
    only_statuses: bool = False
    """Only how many payments of each status there are: no flows, amounts and decline codes."""


class Amounts(msgspec.Struct, frozen=True):
    """How many, and how much in minor units."""

    count: int
    minor: int


COUNTED: Final = (*FLOWS, *(f"now_{status}" for status in (PROCESSING, *STATUSES)))
"""What a tally counts: `counters.COUNTERS`, and the payments whose outcome is unknown."""
_PLACES: Final = {name: 2 * number for number, name in enumerate(COUNTED)}


class Tally(msgspec.Struct, gc=False):
    """What happened to the payments of one currency, and one brand if asked by brand."""

    numbers: list[int | None]
    """For each of COUNTED its count and its amount in minor units, as a row of the database has
    them: None is zero. A year of days has hundreds of tallies, so nothing is made of them here."""
    decline_codes: dict[str, int]

    @property
    def counters(self) -> dict[str, Amounts]:
        """What was counted, by the names of COUNTED. Those at zero are absent."""
        pairs = zip(COUNTED, self.numbers[::2], self.numbers[1::2], strict=True)
        return {
            name: Amounts(count or 0, minor or 0) for name, count, minor in pairs if count or minor
        }

    def add(self, counter: str, count: int, minor: int) -> None:
        place = _PLACES[counter]
        self.numbers[place] = (self.numbers[place] or 0) + count
        self.numbers[place + 1] = (self.numbers[place + 1] or 0) + minor

    def add_decline(self, code: str, count: int) -> None:
        self.decline_codes[code] = self.decline_codes.get(code, 0) + count


def nothing() -> Tally:
    """Return a tally with zeros."""
    return Tally([None] * (2 * len(COUNTED)), {})


Group = tuple[str, str | None]
"""A currency, and a brand, or None if not asked by brand."""


class Bucket(msgspec.Struct):
    """A part of the stretch, and what happened in it."""

    since: datetime
    until: datetime
    tallies: dict[Group, Tally] = {}


class Statistics(msgspec.Struct):
    """The answer to a question."""

    time_zone: str
    buckets: list[Bucket]


# what is read ----------------------------------------------------------------------------------

# A look for events that are not numbered reads a block range index, never a whole month.
_KNOWN: Final = """
    SELECT z.*, CASE WHEN date_trunc('month', first.day::timestamp) = first.day THEN first_day
                     ELSE local_start((date_trunc('month', first.day::timestamp)
                                       + interval '1 month')::date, zone) END AS first_month,
           set_config('enable_seqscan', 'off', true) FROM (
        SELECT zone, ready, sealed,
               CASE WHEN local_start(local_day($2, zone), zone) = $2 THEN $2
                    ELSE local_start(local_day($2, zone) + 1, zone) END AS first_day,
               local_start(local_day(least($3, days_until), zone), zone) AS last_day,
               local_start(date_trunc('month', local_day(least($3, months_until), zone)::timestamp)
                           ::date, zone) AS last_month,
               CASE $4::text
               WHEN 'hour' THEN ARRAY(
                    SELECT t FROM generate_series(date_bin('15 minutes', $2, '2000-01-01Z'), $3,
                                                  interval '15 minutes') AS t
                     WHERE extract(minute FROM t AT TIME ZONE zone) = 0 AND t > $2 AND t < $3)
               WHEN 'none' THEN '{}'
               ELSE ARRAY(
                    SELECT DISTINCT local_start(d::date, zone)
                      FROM generate_series(date_trunc($4, local_day($2, zone)::timestamp),
                                           local_day($3, zone)::timestamp,
                                           ('1 ' || $4)::interval) AS d
                     WHERE local_start(d::date, zone) > $2 AND local_start(d::date, zone) < $3
                     ORDER BY 1) END AS starts
          FROM (SELECT m.time_zone AS zone, s.time_zone IS NOT DISTINCT FROM m.time_zone AS sealed,
                       s.days_until, s.months_until,
                       (SELECT h.caught_up AND h.last_seq - r.last_seq <= {far}
                               AND NOT EXISTS (
                               SELECT FROM feed_months WHERE read_below
                                    > pg_snapshot_xmax(pg_current_snapshot())::text::bigint)
                          FROM feed_head h, feed_readers r WHERE r.name = 'payments') AS ready
                  FROM merchants m
                  LEFT JOIN statistics_seals s ON s.merchant_id = m.merchant_id
                 WHERE m.merchant_id = $1) AS merchant
        OFFSET 0) AS z
     CROSS JOIN LATERAL (SELECT local_day(first_day, zone) OFFSET 0) AS first(day)
""".replace("{far}", str(FAR_BEHIND))
_NOT_FOLDED: Final = """
    SELECT f.event_id, f.payment_id
      FROM (SELECT stream, event_id, payment_id FROM feed
             WHERE seq > (SELECT last_seq FROM feed_readers WHERE name = 'payments')
            OFFSET 0) AS f
     WHERE f.stream = (SELECT stream FROM streams WHERE merchant_id = $1 AND mode = $2)
"""
# Nothing moves past OFFSET 0: what is new comes by its number, or from the block range index, never
# from all that the merchant has.
_NOT_NUMBERED: Final = """
    UNION ALL
    SELECT n.id, n.payment_id
      FROM (SELECT e.merchant_id, e.mode, e.id, e.payment_id FROM events_{month} e
             WHERE (e.written_by::text::bigint >= coalesce((
                        SELECT read_below FROM feed_months WHERE month = '{month}'), 0)
                    AND e.written_by::text::bigint < 1::bigint << 61)
                OR e.written_by::text::bigint = ANY (ARRAY(
                        SELECT unnest(still_open) FROM feed_months WHERE month = '{month}'))
            OFFSET 0) AS n
     WHERE n.merchant_id = $1 AND n.mode = $2
"""
_UNKNOWN: Final = """
    UNION ALL
    SELECT DISTINCT NULL::uuid, payment_id FROM unresolved_operations WHERE merchant_id = $1
"""
# LIMIT: a look-up by key for each payment, whatever the planner believes of a big merchant's rows.
_SEARCH_ROW: Final = """LEFT JOIN LATERAL (
               SELECT r.counted_status, r.counted_brand FROM payment_search r
                WHERE r.payment_id = p.id AND r.stream = (
                      SELECT stream FROM streams WHERE merchant_id = $1 AND mode = $2)
                LIMIT 1) AS s ON true"""
_DETAILS: Final = f"""
    SELECT e.id, p.id, e.created_at, {FLOW}, {FLOW_MINOR}, p.currency, {BRAND},
           CASE e.type WHEN 'payment.declined' THEN coalesce(p.decline_code, '') END,
           {COUNTED_STATUS}, s.counted_status, p.amount_minor
      FROM unnest($3::uuid[], $4::uuid[]) AS i(event_id, payment_id)
      JOIN {{events}} e ON e.merchant_id = $1 AND e.id = i.event_id
      JOIN {{payments}} p ON p.merchant_id = $1 AND p.mode = $2 AND p.id = i.payment_id
      {_SEARCH_ROW}
      {TOOK}
"""
_EDGE_EVENTS: Final = """
    SELECT id, payment_id FROM {events} e
     WHERE merchant_id = $1 AND mode = $2 AND id >= $3 AND id < $4
       AND created_at >= $5 AND created_at < $6
     LIMIT $7
"""
_PAYMENT: Final = f"""
    SELECT p.id, p.currency, {BRAND}, p.status, p.amount_minor FROM {{payments}} p
      {_SEARCH_ROW}
     WHERE p.merchant_id = $1 AND p.mode = $2
"""
_EDGE_PAYMENTS: Final = f"{_PAYMENT} AND p.id >= $3 AND p.id < $4 LIMIT $5"
_PAYMENTS: Final = f"{_PAYMENT} AND p.id = ANY ($3::uuid[])"

# OFFSET 0: each piece is a range of the primary key, whatever the planner believes.
_PIECES: Final = """
      FROM unnest($3::text[], $4::timestamptz[], $5::timestamptz[]) AS piece(grain, since, until)
     CROSS JOIN LATERAL (
           SELECT width_bucket(start, $6::timestamptz[]) - 1 AS bucket, * FROM {table} c
            WHERE c.merchant_id = $1 AND c.mode = $2 AND c.grain = piece.grain
              AND c.start >= piece.since AND c.start < piece.until
              AND ($7::text IS NULL OR c.currency = $7)
           OFFSET 0) AS c
"""


def _counts(wanted: Collection[str], *, by_brand: bool) -> str:
    """Return the statement that adds up these columns of payment_counts. Its numbers are those of
    a tally, with nulls for the others."""
    numbers = each_column(
        lambda column: f"sum_bigint(c.{column})" if column in wanted else "NULL::bigint",
        (column for name in COUNTED for column in (name, f"{name}_minor")),
    )
    return (
        f"SELECT c.bucket, c.currency, {'c.brand' if by_brand else 'NULL'}, {numbers}"
        f" {_PIECES.format(table='payment_counts')}"
        f" GROUP BY 1, 2, 3 LIMIT {MOST_TOTALS + 1}"
    )


_COUNTS: Final = {by_brand: _counts(COLUMNS, by_brand=by_brand) for by_brand in (False, True)}
_ONLY_STATUSES: Final = {
    by_brand: _counts({f"now_{status}" for status in STATUSES}, by_brand=by_brand)
    for by_brand in (False, True)
}
_DECLINES: Final = {
    by_brand: "SELECT c.bucket, c.currency, "
    + ("c.brand" if by_brand else "NULL")
    + ", c.code, sum_bigint(c.declines)"
    + _PIECES.format(table="decline_counts")
    + " GROUP BY 1, 2, 3, 4"
    for by_brand in (False, True)
}


class _Known(msgspec.Struct, frozen=True):
    """What a question needs to know of the merchant's time zone and seals."""

    zone: str
    first_day: datetime
    last_day: datetime | None
    """None, like `last_month`, if nothing is sealed in the time zone of today."""
    last_month: datetime | None
    starts: Sequence[datetime]
    first_month: datetime


# the answer ------------------------------------------------------------------------------------


async def of(pool: Runner, months: Months, question: Question) -> Statistics:
    """Answer a question. Reads one snapshot.

    Raises ValidationFailed if the answer has more than MOST_BUCKETS buckets or MOST_TOTALS totals,
    or if an end that lies within a quarter of an hour has too many payments; StatisticsNotReady
    while the fold is far behind.
    """
    _refuse_too_many(question)
    try:
        return await _of(pool, months, question)
    except asyncpg.UndefinedTableError:  # a month was taken out, and `months` still has it
        present = Months()
        async with pool.acquire() as connection:
            await present.load(connection)
        return await _of(pool, present, question)


async def _of(pool: Runner, months: Months, question: Question) -> Statistics:
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        return await answer(connection, months, question)


async def answer(connection: Any, months: Months, question: Question) -> Statistics:
    """Answer a question on a connection in a transaction whose statements all see the same."""
    known = await _know(connection, question)
    edges = [question.since, *known.starts, question.until]
    if len(edges) > MOST_BUCKETS + 1:
        raise _too_many(question)
    adding = _Answer(question, known, edges)
    await _add_counts(connection, adding)
    await _add_live(connection, months, adding)
    return adding.finished()


class _Answer:
    """Adds up an answer, bucket by bucket."""

    def __init__(self, question: Question, known: _Known, edges: Sequence[datetime]) -> None:
        self.question = question
        self.known = known
        self._edges = edges
        self._buckets = [Bucket(*pair) for pair in pairwise(edges)]
        self.whole_from = _next_quarter(question.since)
        self.whole_until = _quarter(question.until)
        """The counters serve the time between these two."""
        if self.whole_from > self.whole_until:
            self.ends = [(question.since, question.until)]
        else:
            pairs = (
                (question.since, self.whole_from),
                (self.whole_until, question.until),
            )
            self.ends = [pair for pair in pairs if pair[0] < pair[1]]

    def is_counted(self, at: datetime) -> bool:
        """Whether the counters serve this moment."""
        return self.whole_from <= at < self.whole_until

    def tally(self, at: datetime, currency: str, brand: str) -> Tally:
        """Return the tally of a moment within the stretch."""
        return self.tally_in(bisect_right(self._edges, at) - 1, currency, brand)

    def tally_in(self, bucket: int, currency: str, brand: str | None) -> Tally:
        group = (currency, brand if self.question.by_brand else None)
        tallies = self._buckets[bucket].tallies
        if group not in tallies:
            tallies[group] = nothing()
        return tallies[group]

    def put(self, bucket: int, currency: str, brand: str | None, numbers: list[int | None]) -> None:
        """Put a tally where none is."""
        self._buckets[bucket].tallies[currency, brand] = Tally(numbers, {})

    def pieces(self) -> list[tuple[str, datetime, datetime]]:
        """Return the stretches to read: grain, from, until. Each row lies in one bucket."""
        # An hour has no days, and a week no months.
        fit = {"hour": "q", "day": "qd", "week": "qd"}.get(self.question.interval, "qdm")
        return [
            (grain if self.question.by_brand or grain == "q" else grain.upper(), low, high)
            for grain, low, high in _split(self.whole_from, self.whole_until, self.known, fit)
        ]

    @property
    def starts(self) -> list[datetime]:
        """When the buckets begin."""
        return [bucket.since for bucket in self._buckets]

    def finished(self) -> Statistics:
        for bucket in self._buckets:
            for group, tally in list(bucket.tallies.items()):
                if not any(tally.numbers) or self.question.currency not in (None, group[0]):
                    del bucket.tallies[group]
        return Statistics(self.known.zone, self._buckets)


def _split(
    since: datetime, until: datetime, known: _Known, grains: str
) -> Iterable[tuple[str, datetime, datetime]]:
    """Yield the rows that add up to a stretch, the largest grains that fit: (grain, from, until).

    Days and months that are sealed are used where whole ones lie in the stretch.
    """
    inner: tuple[datetime, datetime] | None = None
    if "m" in grains:
        inner = _within(since, until, known.first_month, known.last_month)
        if inner is not None:
            yield ("m", *inner)
    for grain, low, high in (("d", known.first_day, known.last_day), ("q", since, until)):
        if grain not in grains:
            continue
        outer = _within(since, until, low, high)
        if outer is None:
            continue
        if inner is None:
            yield (grain, *outer)
        else:
            if outer[0] < inner[0]:
                yield (grain, outer[0], inner[0])
            if inner[1] < outer[1]:
                yield (grain, inner[1], outer[1])
        inner = outer if inner is None else (min(outer[0], inner[0]), max(outer[1], inner[1]))


def _within(
    since: datetime, until: datetime, low: datetime, high: datetime | None
) -> tuple[datetime, datetime] | None:
    """Return where two stretches overlap, if they do."""
    if high is None:
        return None
    overlap = max(since, low), min(until, high)
    return overlap if overlap[0] < overlap[1] else None


async def _know(connection: Any, question: Question) -> _Known:
    row = await connection.fetchrow(
        _KNOWN, question.merchant_id, question.since, question.until, question.interval
    )
    zone, ready, sealed, first_day, last_day, last_month, starts, first_month, _ = row
    if not ready:
        raise StatisticsNotReady.now()
    return _Known(
        zone,
        first_day,
        last_day if sealed else None,
        last_month if sealed else None,
        starts,
        first_month,
    )


async def _add_counts(connection: Any, answer: _Answer) -> None:
    """Add what the counters say, before anything else is added."""
    pieces = answer.pieces()
    if not pieces:
        return
    question = answer.question
    stretches = map(list, zip(*pieces, strict=True))
    who = question.merchant_id, question.mode
    arguments = (*who, *stretches, answer.starts, question.currency)
    counts = _ONLY_STATUSES if question.only_statuses else _COUNTS
    rows = await connection.fetch(counts[question.by_brand], *arguments)
    if len(rows) > MOST_TOTALS:
        raise _too_many_totals(question)
    for row in rows:
        answer.put(row[0], row[1], row[2], list(row[3:]))
    if question.only_statuses:
        return
    for row in await connection.fetch(_DECLINES[question.by_brand], *arguments):
        bucket, currency, brand, code, count = row
        answer.tally_in(bucket, currency, brand).add_decline(code, count)


async def _add_live(connection: Any, months: Months, answer: _Answer) -> None:
    """Add what the counters do not have yet, and what is never in them."""
    question = answer.question
    who = question.merchant_id, question.mode
    rows = await connection.fetch(_behind(months), *who)
    if len(rows) > FAR_BEHIND:
        raise StatisticsNotReady.now()
    events = {event: payment for event, payment in rows if event is not None}
    unknown = [payment for event, payment in rows if event is None]
    at_ends = await _events_at_the_ends(connection, months, answer)
    if events or at_ends:
        both = events | at_ends
        tables = tables_of(months, [*both, *both.values()])
        found = await connection.fetch(
            _DETAILS.format(**tables), *who, list(both), list(both.values())
        )
        _add_events(answer, found, not_folded=events.keys(), at_ends=at_ends.keys())
    for since, until in answer.ends:
        low, high = ids.lowest_id_at(since), ids.lowest_id_at(until)
        sql = _EDGE_PAYMENTS.format(**tables_of(months, [low, high]))
        rows = await connection.fetch(sql, *who, low, high, MOST_AT_THE_EDGES + 1)
        _refuse_busy(len(rows))
        _add_payments(answer, rows, lambda status: status not in (PROCESSING, "pending"))
    if unknown:
        sql = _PAYMENTS.format(**tables_of(months, unknown))
        rows = await connection.fetch(sql, *who, unknown)
        _add_payments(answer, rows, lambda status: status == PROCESSING)


def _add_events(answer: _Answer, rows: Sequence[Any], *, not_folded: Any, at_ends: Any) -> None:
    touched: dict[UUID, tuple[Any, ...]] = {}
    for row in rows:
        event, payment, at, flow, minor, currency, brand, code, becomes, was, amount = row
        if event in not_folded:
            touched[payment] = (currency, brand, becomes, was, amount)
        mine = event in at_ends or (event in not_folded and answer.is_counted(at))
        if flow is None or not mine:
            continue
        tally = answer.tally(at, currency, brand)
        tally.add(flow, 1, minor)
        if code is not None:
            tally.add_decline(code, 1)
    for payment, (currency, brand, becomes, was, amount) in touched.items():
        created = ids.moment_of(payment)
        if becomes == was or not answer.is_counted(created):
            continue
        tally = answer.tally(created, currency, brand)
        if becomes is not None:
            tally.add(f"now_{becomes}", 1, amount)
        if was is not None:
            tally.add(f"now_{was}", -1, -amount)


def _add_payments(answer: _Answer, rows: Sequence[Any], wanted: Callable[[str], bool]) -> None:
    for payment, currency, brand, status, amount in rows:
        created = ids.moment_of(payment)
        if wanted(status) and answer.question.since <= created < answer.question.until:
            answer.tally(created, currency, brand).add(f"now_{status}", 1, amount)


async def _events_at_the_ends(connection: Any, months: Months, answer: _Answer) -> dict[UUID, UUID]:
    """Return the events in what is left at the two ends, each with its payment."""
    found: dict[UUID, UUID] = {}
    question = answer.question
    for since, until in () if question.only_statuses else answer.ends:
        low = ids.lowest_id_at(since - _EDGE_MARGIN)
        high = ids.lowest_id_at(until + _EDGE_MARGIN)
        rows = await connection.fetch(
            _EDGE_EVENTS.format(**tables_of(months, [low, high])),
            *(question.merchant_id, question.mode, low, high, since, until),
            MOST_AT_THE_EDGES + 1,
        )
        _refuse_busy(len(rows))
        found |= {row[0]: row[1] for row in rows}
    return found


def _behind(months: Months) -> str:
    """Return the statement for events that are not folded and payments whose outcome is unknown.

    An event of a transaction that is not numbered yet lies in the present month, near its turn in
    the one beside it, or in no month.
    """
    now = clock.now()
    near = {months.of(ids.lowest_id_at(now + timedelta(days=days))) for days in (-1, 0, 1)}
    names = [*sorted(name.removeprefix("_") for name in near if name), "default"]
    events = _NOT_FOLDED + "".join(_NOT_NUMBERED.format(month=name) for name in names)
    return f"{events}{_UNKNOWN} LIMIT {FAR_BEHIND + 1}"


def tables_of(months: Months, named: Sequence[UUID]) -> dict[str, str]:
    """Return the tables that hold what has these ids: of a few months, or of all."""
    few = months.between(min(named), max(named))
    if few is None:
        return {"events": "events", "payments": "payments"}
    return {
        table: "(" + " UNION ALL ".join(f"SELECT * FROM {table}{month}" for month in few) + ")"
        for table in ("events", "payments")
    }


def _quarter(moment: datetime) -> datetime:
    return moment - (moment - _EPOCH) % _QUARTER


def _next_quarter(moment: datetime) -> datetime:
    return _quarter(moment + _QUARTER - timedelta(microseconds=1))


# what is refused -------------------------------------------------------------------------------


def _refuse_too_many(question: Question) -> None:
    shortest = _SHORTEST.get(question.interval)
    if shortest is not None and (question.until - question.since) / shortest > MOST_BUCKETS * 2.5:
        raise _too_many(question)


def _too_many(question: Question) -> ValidationFailed:
    return _refused(
        "interval",
        f"The answer would have more than {MOST_BUCKETS} parts. Use interval={_longer(question)},"
        " or ask for a shorter time.",
    )


def _too_many_totals(question: Question) -> ValidationFailed:
    return _refused(
        "interval",
        f"The answer would have more than {MOST_TOTALS} totals: one for each {question.interval}"
        f" and each currency and brand in it. Use interval={_longer(question)}, ask for one"
        " currency (currency=USD), or ask for a shorter time.",
    )


def _longer(question: Question) -> str:
    return {"hour": "day", "day": "week", "week": "month"}.get(question.interval, "none")


def _refuse_busy(found: int) -> None:
    if found > MOST_AT_THE_EDGES:
        raise _refused(
            "from",
            "Too many payments lie within the quarter of an hour in which from or to is. Use full"
            " quarters of an hour, such as 2026-11-24T10:15:00Z.",
        )


def _refused(parameter: str, detail: str) -> ValidationFailed:
    return ValidationFailed(
        f"query parameter {parameter}: {detail}",
        fields=(FieldError(f"?{parameter}", "invalid", detail),),
    )
