"""Five rounds in the suite; `make kills ROUNDS=100` runs any number."""

from pathlib import Path
from typing import Any

import pytest

from faults.kills import stopped
from faults.kills.breaks import BREAKS as DONE_BY
from faults.kills.plan import BREAKS, orders, plan
from faults.kills.run import JOB
from faults.seeds.run import run_seeds

ROUNDS = range(5)


@pytest.mark.timeout(180)
async def test_what_was_accepted_happens_once_whatever_is_killed(tmp_path: Path) -> None:
    results: list[dict[str, Any]] = []
    await run_seeds(ROUNDS, jobs=1, folder=tmp_path, on_result=results.append, module=JOB)
    found = {each["seed"]: each["found"] for each in results if each["found"]}
    assert not found, f"{found}; plans, stories and logs are in {tmp_path}"
    assert [each["seed"] for each in results] == list(ROUNDS)


@pytest.mark.timeout(120)
async def test_workers_that_were_stopped_at_any_point_charge_and_record_nothing_twice(
    tmp_path: Path,
) -> None:
    """`make kills` stops them for a minute, until the leases end by themselves."""
    assert await stopped.run(tmp_path, 2.0) == []


def test_a_round_always_has_the_same_plan_and_the_same_orders() -> None:
    for number in range(200):
        assert plan(number) == plan(number)
        assert [next(orders(number, 1)) for _ in range(3)] == [next(orders(number, 1))] * 3
    assert len({str(plan(number)) for number in range(200)}) == 200
    kinds = {each.kind for number in range(200) for each in plan(number).breaks}
    assert kinds == set(DONE_BY) == {kind for kind, _ in BREAKS}
