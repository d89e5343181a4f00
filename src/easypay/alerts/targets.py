"""The targets as counters: what is counted, and what of it missed the target. Pure.

`easypay slo` and the load test read the same figures by this table. Their limits can be changed in
a file (`--targets`); those here are the ones that come with EasyPay, and a test compares the two.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from easypay.alerts.model import Burn, Counts, Objective, Rule, Select, Severity

DURATION: Final = "http_server_request_duration_seconds"
OWN: Final = "easypay_own_time_seconds"
DATABASE: Final = "db_client_operation_duration_seconds"
PROCESSOR: Final = "easypay_processor_call_duration_seconds"

PROBES: Final = ("/livez", "/readyz", "/metrics")
"""Machines ask for these every few seconds, and they are fast: on a quiet site they would hide that
every payment is slow, or fails."""
_NO_PROBE: Final = ("http_route", "!~", "|".join(PROBES))


class Percentile(msgspec.Struct, frozen=True):
    """A target of a histogram: this share of its observations is below the limit."""

    key: str
    alert: str
    histogram: str
    share: float
    limit_s: float
    title: str
    look: str
    do: str
    pages: bool = False
    labels: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    """The values of labels that count."""


_REQUESTS_LOOK: Final = (
    "`easypay_own_time_seconds` against `easypay_processor_call_duration_seconds`: whose time "
    "is it? "
    "The slowest log lines show `begin_ms`, `processor_ms` and `record_ms`."
)
_REQUESTS_DO: Final = (
    "The processor: look at its status page. Our own time: see EasyPayOwnTimeBurn. Neither: "
    "requests "
    "wait for a connection; add a gateway."
)
_DATABASE_LOOK: Final = (
    "`db_client_operation_duration_seconds` by `db_query_summary`: all statements or one? "
    "`easypay db doctor` names locks, old transactions and settings."
)
_DATABASE_DO: Final = (
    "All: the disk of the server, or another tenant of it. One: look at its plan; a missing "
    "`ANALYZE` or index is what the doctor names."
)

PERCENTILES: Final[tuple[Percentile, ...]] = (
    Percentile(
        *("api_response_time.p50", "EasyPayMedianBurn", DURATION, 0.5, 0.1),
        *("answers within 100 ms", _REQUESTS_LOOK, _REQUESTS_DO),
    ),
    Percentile(
        *("api_response_time.p95", "EasyPaySlowBurn", DURATION, 0.95, 0.2),
        *("answers within 200 ms", _REQUESTS_LOOK, _REQUESTS_DO),
    ),
    Percentile(
        *("api_response_time.p99", "EasyPayVerySlowBurn", DURATION, 0.99, 0.5),
        *("answers within 500 ms", _REQUESTS_LOOK, _REQUESTS_DO),
        pages=True,
    ),
    Percentile(
        *("own_time.p99", "EasyPayOwnTimeBurn", OWN, 0.99, 0.01),
        "answers with less than 10 ms of our own time",
        "`easypay_event_loop_lag_seconds` and `db_client_operation_duration_seconds`.",
        "The lag climbs: too little CPU, add a process or a core. The statements climb: the "
        "database.",
    ),
    Percentile(
        *("database_queries.simple_queries", "EasyPaySimpleQueriesBurn", DATABASE, 0.95, 0.01),
        *("reads of one row within 10 ms", _DATABASE_LOOK, _DATABASE_DO),
        labels={"db_query_summary": ("read",)},
    ),
    Percentile(
        *("database_queries.complex_queries", "EasyPayListsBurn", DATABASE, 0.95, 0.05),
        *("lists within 50 ms", _DATABASE_LOOK, _DATABASE_DO),
        labels={
            "db_query_summary": ("SELECT payments", "SELECT operations", "SELECT events"),
        },
    ),
    Percentile(
        *("database_queries.batch_operations", "EasyPayCommitsBurn", DATABASE, 0.95, 0.1),
        *("commits within 100 ms", _DATABASE_LOOK, _DATABASE_DO),
        labels={"db_query_summary": ("begin", "follow-up", "record")},
    ),
    Percentile(
        *("external_api_calls.authorize_net", "EasyPayProcessorSlowBurn", PROCESSOR, 0.95, 0.3),
        "answers of Authorize.Net within 300 ms",
        "The processor's status page, and `easypay_processor_connections`: all `used` means "
        "that calls "
        "wait for a connection.",
        "Raise `EASYPAY_PROCESSOR_CONNECTIONS` if they wait. Do not lower "
        "`EASYPAY_PROCESSOR_DEADLINE_S` "
        "in a hurry: that only makes more unknown outcomes.",
        labels={"processor": ("authorize_net",)},
    ),
)

ERRORS: Final = Objective(
    key="errors.rate",
    alert="EasyPayErrorsBurn",
    title="answers without 5xx",
    bad=Counts(
        Select(f"{DURATION}_count", (("http_response_status_code", "=~", "5.."), _NO_PROBE))
    ),
    of=Counts(Select(f"{DURATION}_count", (_NO_PROBE,))),
    budget=0.001,
    pages=True,
    means="More than 1 in 1,000 requests fail with 5xx. Clients lose nothing: they repeat with "
    "the same "
    "key.",
    look="Which status: `http_server_request_duration_seconds_count` by "
    "`http_response_status_code`.",
    do="503: the database is away or overloaded, see [the database](#the-database). 502: the "
    "processor "
    "refuses an account, see [processor accounts](#processor-accounts). 500: a bug; the log has "
    "its "
    "traceback under `request … failed`.",
)


def where_of(each: Percentile) -> tuple[tuple[str, str, str], ...]:
    """Return the matchers of what counts."""
    named = tuple((label, "=~", "|".join(values)) for label, values in each.labels.items())
    return (_NO_PROBE, *named) if each.histogram == DURATION else named


def _objective(each: Percentile) -> Objective:
    where = where_of(each)
    all_of_it = Select(f"{each.histogram}_count", where)
    in_time = Select(f"{each.histogram}_bucket", (*where, ("le", "=", repr(each.limit_s))))
    return Objective(
        key=each.key,
        alert=each.alert,
        title=each.title,
        bad=Counts(all_of_it, in_time),
        of=Counts(all_of_it),
        budget=round(1 - each.share, 6),
        pages=each.pages,
        means=f"More than {100 - each.share * 100:g} in 100 miss the target: {each.title}.",
        look=each.look,
        do=each.do,
    )


OBJECTIVES: Final = (ERRORS, *map(_objective, PERCENTILES))

WINDOWS: Final[tuple[tuple[float, str, str, Severity], ...]] = (
    (14.4, "1h", "5m", "page"),
    (6, "6h", "30m", "page"),
    (3, "1d", "2h", "ticket"),
    (1, "3d", "6h", "ticket"),
)
"""As in the SRE workbook: 14.4 times the budget for an hour uses a fiftieth of a month's."""


def _speed(factor: float) -> str:
    return "faster than" if factor == 1 else f"{factor:g} times as fast as"


def burns() -> tuple[Rule, ...]:
    """Return the rules of every target, one for each window in which its budget can burn."""
    return tuple(
        Rule(
            name=each.alert,
            severity=severity if each.pages else "ticket",
            when=Burn(each, factor, long, short),
            summary=f"{each.title}: the month's budget is used {_speed(factor)} planned",
            means=each.means,
            look=each.look,
            do=each.do,
            over=f"in the last {short} less than {factor * each.budget * 100:g} % "
            "missed the target.",
        )
        for each in OBJECTIVES
        for factor, long, short, severity in WINDOWS
        if factor * each.budget < 1
    )
