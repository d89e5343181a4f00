"""The benchmark's arithmetic: a wrong percentile would make a slow gateway look fast."""

import math
import os
import subprocess
import sys

import pytest

from easypay_bench import cpu
from easypay_bench.counters import Totals, hot_ratio
from easypay_bench.performance_bars import Bar, bars, median_of, per_payment_us, percentile, spread
from easypay_bench.tracing_cost import more_than_off


def test_a_percentile_is_a_value_that_was_measured() -> None:
    hundred = [float(value) for value in range(1, 101)]

    assert percentile(hundred, 0.50) == 50
    assert percentile(hundred, 0.99) == 99
    assert percentile(hundred, 0.999) == 100
    assert percentile(hundred, 0) == 1
    assert percentile([7.0], 0.5) == 7


def test_a_percentile_is_not_moved_by_a_rounding_error() -> None:
    hundred = [float(value) for value in range(1, 101)]

    assert percentile(hundred, 0.07) == 7  # though 0.07 * 100 is 7.000000000000001


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 1.1), ([1.0], -0.1)])
def test_an_invalid_percentile_is_refused(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match=r"percentile|share"):
        percentile(values, share)


def test_a_spread_sorts_its_values_and_may_be_empty() -> None:
    assert spread([3.0, 1.0, 2.0])["p50"] == 2
    assert spread([3.0, 1.0, 2.0])["max"] == 3
    assert spread([]) == {}


def test_cpu_seconds_become_microseconds_per_payment() -> None:
    assert per_payment_us(2.5, 10_000) == pytest.approx(250)
    assert math.isnan(per_payment_us(1.0, 0))


def test_the_median_run_is_one_of_the_runs() -> None:
    assert median_of([10.0, 30.0, 20.0]) == 2
    assert median_of([10.0, 20.0]) == 0
    assert median_of([5.0]) == 0


def test_a_target_is_met_at_its_limit_and_missed_without_a_figure() -> None:
    assert Bar("rate", 2500, "/s", 2500, at_least=True).met
    assert not Bar("rate", 2499, "/s", 2500, at_least=True).met
    assert Bar("CPU", 250, "µs", 250).met
    assert not Bar("CPU", 251, "µs", 250).met
    assert not Bar("CPU", math.nan, "µs", 250).met
    assert Bar("CPU", 1, "µs", 250).wanted == "at most 250 µs"


def test_every_target_is_checked() -> None:
    held = bars(
        payments_per_s=3100, gateway_us=251, postgres_us=130, simulator_us=90, own_p50_ms=2.1,
        metrics_us=4.9,
    )  # fmt: skip

    assert [bar.met for bar in held] == [True, False, True, True, False, True]


def test_a_process_with_brackets_in_its_name_is_read_correctly() -> None:
    line = "42 (post) gres: (x) S 7 42 42 0 -1 4194304 1 2 3 4 150 50 30 20 20 0 1 0 99 1 2"

    assert cpu.parse_stat(line) == cpu.Stat(parent=7, own_ticks=200, ended_children_ticks=50)


def test_time_between_two_readings_is_never_negative() -> None:
    before = {"gateway": 1.0, "machine": 5.0}

    assert cpu.spent(before, {"gateway": 1.5, "machine": 4.9}) == {"gateway": 0.5, "machine": 0.0}


def test_the_cpu_time_read_for_this_process_is_its_own() -> None:
    used = os.times()
    assert cpu.process_s(os.getpid()) == pytest.approx(used.user + used.system, abs=0.1)


def test_a_process_that_has_ended_counts_as_zero() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()

    assert cpu.process_s(ended.pid) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere psutil cannot know")
def test_children_that_have_ended_still_count() -> None:
    before = cpu.family_s(os.getpid())
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-c", busy], check=True)

    assert cpu.family_s(os.getpid()) - before >= 0.28


def test_the_share_of_heap_only_updates() -> None:
    before = Totals(wal_bytes=0, updates=100, hot_updates=100)
    after = Totals(wal_bytes=0, updates=300, hot_updates=250)

    assert hot_ratio(before, after) == pytest.approx(0.75)
    assert math.isnan(hot_ratio(after, after))


def test_what_traces_cost_is_the_difference_within_a_round() -> None:
    """The second round met a slower machine: that says nothing of traces."""
    costs = {"off": [400.0, 500.0, 410.0], "10%": [409.0, 508.0, 417.0]}

    assert more_than_off(costs) == {"10%": (8.0, 7.0, 9.0)}
