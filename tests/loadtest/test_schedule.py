"""However many processes share a schedule, requests are due evenly, completely, in time."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easypay_bench.loadtest.schedule import Schedule, due

rates = st.floats(min_value=0.5, max_value=400)
lengths = st.floats(min_value=0.1, max_value=5)
shares = st.integers(min_value=1, max_value=5)


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    rate = draw(rates)
    model = draw(st.sampled_from(["constant", "ramp"]))
    to = rate + draw(rates) if model == "ramp" else 0.0
    return Schedule(model=model, seconds=draw(lengths), rate=rate, to=to)  # type: ignore[arg-type]


def merged(schedule: Schedule, processes: int) -> list[float]:
    parts = [list(due(schedule, index=n, processes=processes)) for n in range(processes)]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1, "the work is shared evenly"
    return sorted(moment for part in parts for moment in part)


@given(schedules(), shares)
def test_processes_share_one_schedule(schedule: Schedule, processes: int) -> None:
    assert merged(schedule, processes) == list(due(schedule, index=0, processes=1))


@given(schedules(), shares)
def test_nothing_is_due_before_the_start_or_after_the_end(
    schedule: Schedule, processes: int
) -> None:
    moments = merged(schedule, processes)
    assert moments[0] == 0
    assert all(0 <= moment < schedule.seconds for moment in moments)
    assert all(one < other for one, other in pairwise(moments))


@given(schedules())
def test_the_number_due_is_the_integral_of_the_rate(schedule: Schedule) -> None:
    slope = (schedule.to - schedule.rate) / schedule.seconds if schedule.model == "ramp" else 0.0
    moments = merged(schedule, 1)
    for number, at in enumerate(moments):
        assert schedule.rate * at + slope * at * at / 2 == pytest.approx(number, abs=1e-6)
    mean = (schedule.rate + schedule.to) / 2 if schedule.model == "ramp" else schedule.rate
    assert len(moments) == pytest.approx(mean * schedule.seconds, abs=1.000001)


@given(rates, st.floats(0.5, 200), st.integers(0, 12))
def test_steps_rise_to_the_last_rate_and_never_above(rate: float, step: float, more: int) -> None:
    schedule = Schedule(model="steps", seconds=1, rate=rate, to=rate + more * step, step=step)
    assert len(schedule.steps) == more + 1
    assert schedule.steps[0] == rate
    assert schedule.steps[-1] <= schedule.to * (1 + 1e-9)


def test_a_closed_model_has_no_due_times() -> None:
    assert list(due(Schedule(model="closed", seconds=1), index=0, processes=1)) == []


@pytest.mark.parametrize(
    ("schedule", "named"),
    [
        (Schedule(model="constant", seconds=0, rate=1), "--duration"),
        (Schedule(model="constant", seconds=math.nan, rate=1), "--duration"),
        (Schedule(model="constant", seconds=1, rate=0), "--rate"),
        (Schedule(model="constant", seconds=1, rate=math.inf), "--rate"),
        (Schedule(model="constant", seconds=1, rate=math.nan), "--rate"),
        (Schedule(model="ramp", seconds=1, rate=10, to=5), "--to"),
        (Schedule(model="steps", seconds=1, rate=10, to=math.inf, step=1), "--to"),
        (Schedule(model="steps", seconds=1, rate=10, to=20, step=0), "--step"),
    ],
)
def test_a_schedule_that_never_begins_or_ends_is_refused(schedule: Schedule, named: str) -> None:
    problem = schedule.problem()
    assert problem is not None
    assert named in problem
