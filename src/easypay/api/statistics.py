"""Statistics over HTTP: read the question, answer with counts, amounts and rates."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Annotated, Any, Final, get_args

import msgspec
from msgspec import Meta

from easypay import clock
from easypay.api.auth import caller_of
from easypay.api.conditional import PRIVATE
from easypay.api.http import Request, Response, encode, invalid_query
from easypay.api.paging import moment_of
from easypay.api.payment_filters import currency_of
from easypay.api.read_from import read_from
from easypay.clock import rfc3339
from easypay.db.partitions import Months
from easypay.merchants.directory import Directory
from easypay.payments import statistics
from easypay.payments.counters import FLOWS, PROCESSING, STATUSES
from easypay.payments.read_places import ReadPlace, ReadPlaces
from easypay.payments.statistics import Bucket, Group, Interval, Question, Tally

INTERVALS: Final = get_args(Interval)
BY: Final = ("currency", "brand")
_DEFAULT: Final = timedelta(days=30)
_QUARTER: Final = timedelta(minutes=15)


class CountView(msgspec.Struct, frozen=True, gc=False):
    """How many, and how much in the currency's minor units."""

    count: int
    amount: int


class RatesView(msgspec.Struct, frozen=True, gc=False):
    """Shares with four digits, from `0.0000`. Null if there is nothing to take a share of."""

    approval: Annotated[
        str | None, Meta(description="Sold and authorized, of all that the issuer decided.")
    ]
    decline: Annotated[str | None, Meta(description="Declined, of all that the issuer decided.")]
    refund: Annotated[
        str | None, Meta(description="The amount given back, of the amount captured.")
    ]


class TotalView(msgspec.Struct, frozen=True, gc=False):
    """What happened in one currency, and with one brand if asked by brand."""

    currency: str
    brand: Annotated[
        str | None, Meta(description="The card's brand, or null: not asked by brand, or unknown.")
    ]
    flows: Annotated[
        dict[str, CountView],
        Meta(description="What happened in that time. What never happened is left out."),
    ]
    statuses: Annotated[
        dict[str, CountView],
        Meta(description="What the payments that were created in that time are now."),
    ]
    rates: RatesView
    decline_codes: Annotated[dict[str, int], Meta(description="Declines by their code.")]


class BucketView(msgspec.Struct, frozen=True, rename={"since": "from", "until": "to"}):
    """A part of the time that was asked for."""

    since: str
    until: str
    totals: list[TotalView]


class StatisticsView(msgspec.Struct, frozen=True, rename={"since": "from", "until": "to"}):
    """Statistics of a merchant and mode, exact when they were read."""

    since: str
    until: str
    time_zone: str
    interval: str
    totals: Annotated[list[TotalView], Meta(description="Over all of the time.")]
    buckets: Annotated[
        list[BucketView], Meta(description="For each interval; empty without an interval.")
    ]


class StatisticsApi:
    """The handler for statistics."""

    def __init__(self, *, directory: Directory, places: ReadPlaces, months: Months) -> None:
        self._directory = directory
        self._places = places
        self._months = months

    async def read(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, "payments:read")
        query = request.query("from", "to", "interval", "by", "currency")
        since, until = _stretch(query)
        question = Question(
            caller.merchant_id,
            caller.mode,
            since,
            until,
            _choice(query, "interval", INTERVALS, "none"),
            by_brand=_choice(query, "by", BY, "currency") == "brand",
            currency=currency_of(query),
        )

        async def ask(place: ReadPlace) -> Response:
            found = await statistics.of(place.questions, self._months, question)
            response = Response(200, encode(statistics_view(question, found)))
            response.cache_control = PRIVATE
            return response

        return await read_from(self._places, request, ask)


def statistics_view(question: Question, found: statistics.Statistics) -> StatisticsView:
    """Return an answer as the API shows it."""
    return StatisticsView(
        since=rfc3339(question.since),
        until=rfc3339(question.until),
        time_zone=found.time_zone,
        interval=question.interval,
        totals=_totals(_sum(found.buckets)),
        buckets=[]
        if question.interval == "none"
        else [
            BucketView(rfc3339(each.since), rfc3339(each.until), _totals(each.tallies))
            for each in found.buckets
        ],
    )


def rate(part: int, whole: int) -> str | None:
    """Return a share with four digits, rounded to the nearest: `0.9167`. None of nothing."""
    if whole == 0:
        return None
    ten_thousandths = (2 * 10_000 * part + whole) // (2 * whole)
    if 0 <= ten_thousandths <= 10_000:
        return _SHARES[ten_thousandths]
    return _share(ten_thousandths)


def _share(ten_thousandths: int) -> str:
    return f"{ten_thousandths // 10_000}.{ten_thousandths % 10_000:04d}"


_SHARES: Final = tuple(map(_share, range(10_001)))
"""Every share up to the whole."""


def _stretch(query: dict[str, str]) -> tuple[datetime, datetime]:
    """Return from and to; by default the last 30 days, up to the end of this quarter of an hour."""
    until = moment_of(query, "to")
    if until is None:
        now = clock.now()
        until = now.replace(minute=now.minute // 15 * 15, second=0, microsecond=0) + _QUARTER
    since = moment_of(query, "from") or until - _DEFAULT
    if since >= until:
        raise invalid_query("from", "It must be before to.")
    return since, until


def _choice(query: dict[str, str], name: str, choices: tuple[str, ...], default: str) -> Any:
    text = query.get(name, default)
    if text not in choices:
        raise invalid_query(name, f"Use one of: {', '.join(choices)}.")
    return text


def _sum(buckets: Iterable[Bucket]) -> dict[Group, Tally]:
    each: dict[Group, list[Tally]] = defaultdict(list)
    for bucket in buckets:
        for group, tally in bucket.tallies.items():
            each[group].append(tally)
    found = {}
    for group, tallies in each.items():
        columns = zip(*(tally.numbers for tally in tallies), strict=True)
        found[group] = whole = Tally([sum(filter(None, column)) for column in columns], {})
        for tally in tallies:
            for code, count in tally.decline_codes.items():
                whole.add_decline(code, count)
    return found


def _totals(tallies: dict[Group, Tally]) -> list[TotalView]:
    return [
        _total(currency, brand or None, tally)
        for (currency, brand), tally in sorted(tallies.items(), key=_by_name)
    ]


def _by_name(item: tuple[Group, Tally]) -> tuple[str, str]:
    (currency, brand), _ = item
    return currency, brand or ""


_STATUSES: Final = (PROCESSING, *STATUSES)
_FIRST_STATUS: Final = 2 * len(FLOWS)
_COUNTS: Final = itemgetter(*(2 * FLOWS.index(n) for n in ("sold", "authorized", "declined")))
_MINORS: Final = itemgetter(
    *(2 * FLOWS.index(n) + 1 for n in ("refunded", "undone", "sold", "captured"))
)


def _total(currency: str, brand: str | None, tally: Tally) -> TotalView:
    """Return a tally as it is shown. This runs for hundreds of them, so it does little for each."""
    numbers, codes = tally.numbers, tally.decline_codes
    sold, authorized, declined = _COUNTS(numbers)
    refunded, undone, at_once, captured = _MINORS(numbers)
    approved = (sold or 0) + (authorized or 0)
    decided = approved + (declined or 0)
    return TotalView(
        currency,
        brand,
        _shown(FLOWS, numbers[:_FIRST_STATUS:2], numbers[1:_FIRST_STATUS:2]),
        _shown(_STATUSES, numbers[_FIRST_STATUS::2], numbers[_FIRST_STATUS + 1 :: 2]),
        RatesView(
            rate(approved, decided),
            rate(declined or 0, decided),
            rate((refunded or 0) + (undone or 0), (at_once or 0) + (captured or 0)),
        ),
        {code or "unknown": count for code, count in sorted(codes.items()) if count},
    )


def _shown(
    names: Sequence[str], counts: list[int | None], minors: list[int | None]
) -> dict[str, CountView]:
    """Return the counters that are not zero."""
    return {
        name: CountView(count or 0, minor or 0)
        for name, count, minor in zip(names, counts, minors, strict=True)
        if count or minor
    }
