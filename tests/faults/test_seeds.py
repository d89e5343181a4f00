"""Five seeds in the suite; `make faults SEEDS=1000` runs any number."""

import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from faults.seeds import mutations
from faults.seeds.plan import Plan, plan
from faults.seeds.run import run_seeds
from harness import one_done_of_two

SEEDS = (15, 398, 1126, 3619, 3622)
"""Together they ask for everything and break everything that a seed can."""
SOURCE = Path(__file__).parents[2] / "src"


@pytest.mark.timeout(300)
async def test_truth_rows_events_and_responses_agree_whatever_breaks(tmp_path: Path) -> None:
    results: list[dict[str, Any]] = []
    begun = time.monotonic()
    await run_seeds(SEEDS, jobs=1, folder=tmp_path, on_result=results.append)
    found = {each["seed"]: each["found"] for each in results if each["found"]}
    assert not found, f"{found}; plans, stories and logs are in {tmp_path}"
    assert [each["seed"] for each in results] == list(SEEDS)
    assert time.monotonic() - begun < 240


def test_a_seed_always_gives_the_same_plan() -> None:
    for seed in range(200):
        assert plan(seed) == plan(seed)
    assert len({str(plan(seed).bursts) for seed in range(200)}) == 200


def kinds(the_plan: Plan) -> set[tuple[str, ...]]:
    """Return each kind of request, fault and break in a plan."""
    found = {("failover",)} if the_plan.has_failover else set()
    for burst in the_plan.bursts:
        found |= {("asks", each.kind) for each in burst.requests}
        for each in burst.breaks:
            words = [
                str(each.args[name]) for name in ("which", "how", "point") if name in each.args
            ]
            fault = [each.args["kind"]] if each.kind == "fault" else []
            found |= {(each.kind, word) for word in [*words, *fault]} or {(each.kind,)}
    return found


def test_the_seeds_of_the_suite_break_everything_that_a_seed_can_break() -> None:
    everything = set().union(*(kinds(plan(seed)) for seed in range(500)))
    assert len(everything) > 40
    assert set().union(*(kinds(plan(seed)) for seed in SEEDS)) == everything


def operation(kind: str, state: str, **over: Any) -> dict[str, Any]:
    row = {"id": uuid.uuid4(), "kind": kind, "state": state, "reference": f"the {kind}"}
    row |= {"parent_transaction_id": "7", "amount_minor": 900, "voided": kind == "refund"}
    return row | {"evidence": None, "processor_code": None} | over


def test_the_judge_knows_two_requests_with_one_effect() -> None:
    """A void comes late, just before a full refund, which is told that all is voided already."""
    truth = [{"invoice_number": "the void", "response_code": "1", "type": "voidTransaction"}]
    void, told = operation("void", "absent"), operation("refund", "approved", processor_code="310")
    asked = operation("refund", "approved", evidence='{"source": "inquiry"}')
    for refund in (told, asked):
        assert one_done_of_two(truth, [void, refund]) == {"the void": "the refund"}
    unexplained = operation("refund", "approved", processor_code="1")
    assert one_done_of_two(truth, [void, unexplained]) == {}
    assert one_done_of_two(truth, [operation("void", "approved"), told]) == {}


@pytest.mark.parametrize("name", sorted(mutations.BY_NAME))
def test_the_text_that_a_mutation_replaces_exists(name: str) -> None:
    """Otherwise a mutation would silently change nothing; finding it takes a run of its own."""
    mutation = mutations.BY_NAME[name]
    assert (SOURCE / mutation.file).read_text().count(mutation.old) == 1


def test_a_mutation_is_in_the_copy_and_not_in_the_source() -> None:
    mutation = mutations.MUTATIONS[0]
    with mutations.mutated(SOURCE, mutation.name) as source:
        assert mutation.new in (source / mutation.file).read_text()
    assert mutation.new not in (SOURCE / mutation.file).read_text()


def test_a_shifted_clock_shifts_ids_too_and_follows_its_file(tmp_path: Path) -> None:
    """In a process of its own, because the shift cannot be undone."""
    script = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from easypay import clock, failpoints, ids

file = Path(sys.argv[1])
def off_by() -> tuple[float, float]:
    real = datetime.now(UTC)
    return ((clock.now() - real).total_seconds(),
            (ids.moment_of(ids.new_id()) - real).total_seconds())

assert all(abs(off) < 5 for off in off_by())
failpoints.shift_clock(file)
for seconds in (7200, -90, 0):
    with file.open("r+b") as opened:
        opened.write((seconds * 1000).to_bytes(8, "little", signed=True))
    assert all(abs(off - seconds) < 5 for off in off_by()), off_by()
assert len({ids.new_id() for _ in range(1000)}) == 1000
"""
    file = tmp_path / "clock"
    file.write_bytes(bytes(8))
    subprocess.run([sys.executable, "-c", script, str(file)], check=True, timeout=60)
