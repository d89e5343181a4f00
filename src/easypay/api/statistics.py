"""Statistics over HTTP: read the question, answer with counts, amounts and rates."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, get_args

import msgspec
from msgspec import Meta

from easypay import clock
from easypay.api.auth import caller_of
from easypay.api.http import Request, Response, encode, invalid_query
from easypay.api.paging import moment_of
from easypay.clock import rfc3339
from easypay.db.partitions import Months
from easypay.merchants.directory import Directory
from easypay.payments import statistics
from easypay.payments.counters import FLOWS, PROCESSING, STATUSES
from easypay.payments.statistics import Amounts, Bucket, Group, Interval, Question, Tally

INTERVALS: Final = get_args(Interval)
BY: Final = ("currency", "brand")
_DEFAULT: Final = timedelta(days=30)
_QUARTER: Final = timedelta(minutes=15)


class CountView(msgspec.Struct, frozen=True):
    """How many, and how much in the currency's minor units."""

    count: int
    amount: int


class RatesView(msgspec.Struct, frozen=True):
    """Shares with four digits, from `0.0000`. Null if there is nothing to take a share of."""

    approval: Annotated[
        str | None, Meta(description="Sold and authorized, of all that the issuer decided.")
    ]
    decline: Annotated[str | None, Meta(description="Declined, of all that the issuer decided.")]
    refund: Annotated[
        str | None, Meta(description="The amount given back, of the amount captured.")
    ]


class TotalView(msgspec.Struct, frozen=True):
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

    def __init__(self, *, directory: Directory, pool: Any, months: Months) -> None:
        self._directory = directory
        self._pool = pool
        self._months = months

    async def read(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, "payments:read")
        query = request.query("from", "to", "interval", "by")
        since, until = _stretch(query)
        question = Question(
            caller.merchant_id,
            caller.mode,
            since,
            until,
            _choice(query, "interval", INTERVALS, "none"),
            by_brand=_choice(query, "by", BY, "currency") == "brand",
        )
        found = await statistics.of(self._pool, self._months, question)
        response = Response(200, encode(statistics_view(question, found)))
        response.cache_control = b"private, no-cache"
        return response


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
    return f"{ten_thousandths // 10_000}.{ten_thousandths % 10_000:04d}"


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
    found: dict[Group, Tally] = {}
    for bucket in buckets:
        for group, tally in bucket.tallies.items():
            into = found.setdefault(group, Tally())
            for name, each in tally.counters.items():
                into.add(name, each.count, each.minor)
            for code, count in tally.decline_codes.items():
                into.add_decline(code, count)
    return found


def _totals(tallies: dict[Group, Tally]) -> list[TotalView]:
    return [
        _total(currency, brand or None, tally)
        for (currency, brand), tally in sorted(
            tallies.items(), key=lambda item: (item[0][0], item[0][1] or "")
        )
    ]


def _total(currency: str, brand: str | None, tally: Tally) -> TotalView:
    def of(*names: str) -> Amounts:
        found = Amounts()
        for name in names:
            each = tally.counters.get(name, Amounts())
            found.add(each.count, each.minor)
        return found

    def shown(names: Iterable[str], prefix: str = "") -> dict[str, CountView]:
        each = {name: tally.counters.get(prefix + name) for name in names}
        return {name: CountView(a.count, a.minor) for name, a in each.items() if a is not None}

    approved, declined = of("sold", "authorized").count, of("declined").count
    return TotalView(
        currency=currency,
        brand=brand,
        flows=shown(FLOWS),
        statuses=shown((PROCESSING, *STATUSES), "now_"),
        rates=RatesView(
            approval=rate(approved, approved + declined),
            decline=rate(declined, approved + declined),
            refund=rate(of("refunded", "undone").minor, of("sold", "captured").minor),
        ),
        decline_codes={
            code or "unknown": count for code, count in sorted(tally.decline_codes.items()) if count
        },
    )
