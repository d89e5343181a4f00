"""Answers questions about any stretch of time, exact to the last committed payment.

Everything is read in one snapshot: the counters, the few events that are not folded yet, and the
payments whose outcome is unknown. Months and days that are sealed have rows of their own, so a
question about ten years reads about as many rows as one about a day.

`of` splits the stretch into buckets, and each bucket into months, days and quarters of an hour.
What remains at the two ends is less than a quarter of an hour: it is counted from the rows.

    look     time zone, seals, what is not folded or unknown, events of the ends    always
    sums     counters, payments of the ends, unknown outcomes                       always
    changes  events that are not folded                                             if there are any
    changes  events of the ends, those of one month at a time                       if there are any

Everything is added up by the database, so an answer costs Python by its totals.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Container, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg
import msgspec

from easypay import clock, ids
from easypay.db.partitions import Months
from easypay.db.pooler import through_pooler
from easypay.errors import FieldError, StatisticsNotReady, ValidationFailed
from easypay.mode import Mode
from easypay.payments import statistics_sql
from easypay.payments.counters import QUARTER_S, STATUSES
from easypay.payments.seals import FAR_BEHIND
from easypay.payments.statistics_sql import ALL, CODES, COUNTED, MOST_AT_THE_EDGES
from easypay.payments.store import earliest_child

Runner = Any
Interval = Literal["none", "hour", "day", "week", "month"]

MOST_BUCKETS: Final = 400
MOST_TOTALS: Final = 800
"""Totals of one answer: one for each bucket, currency and brand. Each costs about 10 µs."""
_SHORTEST: Final = {
    "hour": timedelta(minutes=30),  # when Lord Howe Island puts its clocks forward
    "day": timedelta(hours=22),
    "week": timedelta(days=6, hours=22),
    "month": timedelta(days=27, hours=22),
}
_EDGE_MARGIN: Final = timedelta(minutes=5)
"""An event's id is made within this of its time."""
_QUARTER: Final = timedelta(seconds=QUARTER_S)
_DAY: Final = timedelta(days=1)
_JUST_BELOW_A_MILLISECOND: Final = timedelta(microseconds=999)
_MANY: Final = 24
"""So many months are named in a statement, at most."""
_BEGIN: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {}"
_OF_THE_ENDS: Final = frozenset(f"now_{status}" for status in STATUSES)
_KNOWN: Final = 8
"""Columns of the first statement that are about the merchant."""
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)


class Question(msgspec.Struct, frozen=True):
    """What is asked about one merchant and mode: `since <= time < until`, both in UTC."""

    merchant_id: UUID
    mode: Mode
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


# what is looked at first -----------------------------------------------------------------------


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
    async with snapshot(pool) as connection:
        return await answer(connection, months, question)


@asynccontextmanager
async def snapshot(pool: Runner) -> AsyncIterator[Any]:
    """Give a block a connection in a transaction whose statements all see the same, and are planned
    once (`statistics_sql.SETTINGS`). It begins with one round trip."""
    async with pool.acquire() as connection:
        pooled = through_pooler(connection)
        settings = statistics_sql.PLANNED_ANEW if pooled else statistics_sql.SETTINGS
        try:
            await connection.execute(_BEGIN.format(settings))
            yield connection
        except BaseException:
            if connection.is_in_transaction():
                await connection.execute("ROLLBACK")
            raise
        await connection.execute("COMMIT")


async def answer(connection: Any, months: Months, question: Question) -> Statistics:
    """Answer a question on a connection in a transaction whose statements all see the same."""
    asked = _Asked(months, question)
    look = await connection.fetchrow(*asked.look())
    known = _known(look)
    if len(known.starts) >= MOST_BUCKETS:
        raise _too_many(question)
    not_folded, unknown, at_the_ends = _found(look)
    _refuse_busy(len(at_the_ends))
    adding = _Answer(question, known)
    rows = await connection.fetch(*asked.sums(adding, unknown))
    if sum(row[0] == ALL for row in rows) > MOST_TOTALS:
        raise _too_many_totals(question)
    _refuse_busy(sum(row[5][0] for row in rows if row[0] in _OF_THE_ENDS))
    adding.add(rows)
    for events in asked.together(not_folded, at_the_ends):
        adding.add(await connection.fetch(*asked.changes(adding, events, not_folded)))
    return adding.finished()


class _Asked:
    """The statements of one question, each with its arguments."""

    def __init__(self, months: Months, question: Question) -> None:
        self._months = months
        self._question = question
        self._who = question.merchant_id, question.mode

    def look(self) -> tuple[Any, ...]:
        """Return the first statement.

        An event of a transaction that is not numbered yet lies in the present month, near its turn
        in the one beside it, or in no month.
        """
        question, now = self._question, clock.now()
        near = {self._months.of(ids.lowest_id_at(now + _DAY * days)) for days in (-1, 0, 1)}
        names = (*sorted(name.removeprefix("_") for name in near if name), "default")
        stretch = question.since, question.until
        ends = [] if question.only_statuses else _ends(question)
        bounds: list[UUID | datetime] = []
        for since, until in ends:
            low, high = _first_id(since - _EDGE_MARGIN), _first_id(until + _EDGE_MARGIN)
            bounds += [low, high, since, until]
        return (
            statistics_sql.look(names, len(ends)),
            *(*self._who, *stretch, question.interval, *map(_first_id, stretch), *bounds),
        )

    def together(
        self, not_folded: dict[UUID, UUID], at_the_ends: dict[UUID, UUID]
    ) -> Iterator[dict[UUID, UUID]]:
        """Yield the events that one statement reads, each with its payment: all that are not
        folded, because a payment's status changes only once; and of the others those of one month,
        so that the months between the two ends are not opened."""
        if not_folded:
            yield not_folded
        of_month: defaultdict[str, dict[UUID, UUID]] = defaultdict(dict)
        for event, payment in at_the_ends.items():
            if event not in not_folded:
                of_month[self._months.of(event)][event] = payment
        yield from of_month.values()

    def sums(self, adding: "_Answer", unknown: Collection[UUID]) -> tuple[Any, ...]:
        """Return the statement that adds up."""
        question = self._question
        pieces = [list(column) for column in zip(*adding.pieces(), strict=True)] or [[], [], []]
        bounds = [_first_id(moment) for end in adding.ends for moment in end]
        in_months = _by_month(self._months, unknown)
        sql = statistics_sql.sums(
            by_brand=question.by_brand,
            only_statuses=question.only_statuses,
            ends=len(adding.ends),
            unknown=tuple(in_months),
        )
        common = *self._who, adding.starts, question.currency, *pieces, MOST_TOTALS + 1
        return sql, *common, *bounds, *in_months.values()

    def changes(
        self, adding: "_Answer", read: dict[UUID, UUID], not_folded: Container[UUID]
    ) -> tuple[Any, ...]:
        """Return the statement for events that are not counted, each with its payment."""
        question, payments = self._question, read.values()
        latest = _first_id(ids.moment_of(max(read)) + _EDGE_MARGIN)
        return (
            statistics_sql.changes(by_brand=question.by_brand),
            *(*self._who, adding.starts, question.currency, question.since, question.until),
            *([*read], [*payments], [event in not_folded for event in read]),
            *(min(read), latest, earliest_child(min(payments)), max(payments)),
        )


def _known(look: Any) -> _Known:
    zone, ready, sealed, first_day, last_day, last_month, starts, first_month, *_ = look
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


def _found(look: Any) -> tuple[dict[UUID, UUID], Sequence[UUID], dict[UUID, UUID]]:
    """Return the events that are not folded, each with its payment; the payments whose outcome is
    unknown; and the events of the ends, each with its payment."""
    events, payments, unknown, at_the_ends, their_payments = look[_KNOWN:]
    if max(len(events or ()), len(unknown or ())) > FAR_BEHIND:
        raise StatisticsNotReady.now()
    return (
        dict(zip(events or (), payments or (), strict=True)),
        unknown or (),
        dict(zip(at_the_ends or (), their_payments or (), strict=True)),
    )


def _ends(question: Question) -> list[tuple[datetime, datetime]]:
    """Return what the counters do not serve: less than a quarter of an hour at each end."""
    since, until = _next_quarter(question.since), _quarter(question.until)
    if since > until:
        return [(question.since, question.until)]
    pairs = ((question.since, since), (until, question.until))
    return [pair for pair in pairs if pair[0] < pair[1]]


# what is added up ------------------------------------------------------------------------------


class _Answer:
    """Adds up an answer, bucket by bucket."""

    def __init__(self, question: Question, known: _Known) -> None:
        self.question = question
        self.known = known
        self.starts = [question.since, *known.starts]
        """When the buckets begin."""
        self._buckets = [Bucket(*pair) for pair in pairwise((*self.starts, question.until))]
        self.ends = _ends(question)

    def add(self, rows: Sequence[Any]) -> None:
        """Add what a statement has counted. The rows of all counters come first."""
        for counter, bucket, currency, brand, codes, numbers in rows:
            tallies = self._buckets[bucket].tallies
            tally = tallies.get((currency, brand))
            if tally is None:
                tally = tallies[currency, brand] = nothing()
            if counter == ALL:
                tally.numbers = numbers
            elif counter == CODES:
                tally.decline_codes = dict(zip(codes, numbers, strict=True))
            else:
                tally.add(counter, *numbers)
                for code in codes or ():
                    tally.add_decline(code, numbers[0])

    def pieces(self) -> list[tuple[str, datetime, datetime]]:
        """Return the stretches to read: grain, from, until. Each row lies in one bucket."""
        since, until = _next_quarter(self.question.since), _quarter(self.question.until)
        # An hour has no days, and a week no months.
        fit = {"hour": "q", "day": "qd", "week": "qd"}.get(self.question.interval, "qdm")
        return [
            (grain if self.question.by_brand or grain == "q" else grain.upper(), low, high)
            for grain, low, high in _split(since, until, self.known, fit)
        ]

    def finished(self) -> Statistics:
        for bucket in self._buckets:
            for group, tally in list(bucket.tallies.items()):
                if not any(tally.numbers):
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


# months ----------------------------------------------------------------------------------------


def tables_of(months: Months, named: Sequence[UUID]) -> dict[str, str]:
    """Return the tables that hold what has these ids: of a few months, or of all."""
    few = months.between(min(named), max(named))
    if few is None:
        return {"events": "events", "payments": "payments"}
    return {
        table: "(" + " UNION ALL ".join(f"SELECT * FROM {table}{month}" for month in few) + ")"
        for table in ("events", "payments")
    }


def _by_month(months: Months, named: Iterable[UUID]) -> dict[str, list[UUID]]:
    """Return the ids of each month. If there are more months than _MANY, all ids are those of the
    parent table, whose month is empty."""
    found: dict[str, list[UUID]] = defaultdict(list)
    for each in named:
        found[months.of(each)].append(each)
    if "" in found or len(found) > _MANY:
        return {"": [each for month in found.values() for each in month]}
    return dict(sorted(found.items()))


def _first_id(moment: datetime) -> UUID:
    """Return the bound of the ids that were made at this moment or later."""
    return ids.lowest_id_at(moment + _JUST_BELOW_A_MILLISECOND)


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
