"""Tallies can be packed, sent and added; percentiles are those of the sorted list."""

import math
from time import perf_counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from easypay_bench.loadtest.histograms import SHARES, Histogram, Tally, decode

durations = st.lists(st.floats(min_value=1e-6, max_value=60), max_size=40)
calls = st.lists(
    st.tuples(
        st.sampled_from(["create", "get"]), st.floats(1e-6, 10), st.floats(0, 5), st.booleans()
    ),
    max_size=30,
)


def tally_of(requests: list[tuple[str, float, float, bool]]) -> Tally:
    tally = Tally()
    for name, took_s, at_s, good in requests:
        tally.due += 1
        tally.second(at_s).due += 1
        tally.lateness.record(took_s / 10)
        if good:
            tally.answered(name, took_s, at_s)
            tally.statuses["201"] += 1
            tally.payments["create"] += 1
            tally.in_time += 1
            tally.ended += 1
            tally.own.record(took_s / 2)
        else:
            tally.failed("status 500", at_s)
            tally.dropped += 1
            tally.second(at_s).dropped += 1
    tally.cpu_s = float(len(requests))
    return tally


def seen(tally: Tally) -> dict[str, object]:
    """Return everything that can be read from a tally."""
    return {
        "calls": {name: (each.count, each.spread()) for name, each in tally.calls.items()},
        "own": (tally.own.count, tally.own.spread()),
        "lateness": (tally.lateness.count, tally.lateness.spread()),
        "counts": (tally.due, tally.dropped, tally.ended, tally.in_time, tally.cpu_s),
        "counters": (tally.statuses, tally.wrong, tally.payments),
        "seconds": [(n, msgspec.structs.astuple(each)) for n, each in tally.by_second()],
        "recent": tally.recent(),
    }


@given(calls)
def test_a_tally_arrives_as_it_was_sent(requests: list[tuple[str, float, float, bool]]) -> None:
    tally = tally_of(requests)
    sent = msgspec.msgpack.encode(tally.encode())
    assert seen(decode(msgspec.msgpack.decode(sent))) == seen(tally)


@given(calls, calls)
def test_the_sum_of_two_tallies_counts_both(
    one: list[tuple[str, float, float, bool]], other: list[tuple[str, float, float, bool]]
) -> None:
    both = decode(msgspec.msgpack.decode(msgspec.msgpack.encode(tally_of(one).encode())))
    both.add(tally_of(other))
    assert seen(both) == seen(tally_of(one + other))


@given(durations)
def test_percentiles_are_those_of_the_sorted_list(took_s: list[float]) -> None:
    histogram = Histogram()
    for each in took_s:
        histogram.record(each)
    assert histogram.count == len(took_s)
    if not took_s:
        assert histogram.spread() == {}
        assert math.isnan(histogram.ms(50))
        return
    in_order = sorted(took_s)
    for name, share in SHARES.items():
        exact_s = in_order[max(0, math.ceil(len(in_order) * share / 100) - 1)]
        found_ms = histogram.spread()[name]
        assert found_ms == pytest.approx(exact_s * 1000, rel=0.001, abs=0.0011)


def test_no_time_is_too_short_or_too_long_to_count() -> None:
    histogram = Histogram()
    for seconds in (-0.001, 0.0, 3600.0):
        histogram.record(seconds)
    assert histogram.count == 3
    assert histogram.ms(0) == 0.001
    assert histogram.ms(100) == pytest.approx(3_600_000, rel=0.001)


def test_a_percentile_on_a_boundary_is_the_value_below_it() -> None:
    histogram = Histogram()
    for number in range(1, 1001):
        histogram.record(number / 1e6)
    assert [histogram.ms(share) for share in (50, 99, 99.9, 100)] == [0.5, 0.99, 0.999, 1.0]


def test_reading_the_last_seconds_does_not_delay_the_generator() -> None:
    """It runs twice a second between two requests, and its time is added to their latency. 20,000
    answers spread over a second are far more distinct than real ones. The bound allows for a busy
    machine; the real cost is a tenth of it."""
    tally = Tally()
    for number in range(20_000):
        tally.answered("create", 0.001 + number / 20_000, number / 7_000)
    costs = []
    for _ in range(5):
        began = perf_counter()
        tally.recent()
        costs.append(perf_counter() - began)
    assert min(costs) < 0.02
