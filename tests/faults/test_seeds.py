"""Twenty seeds in the suite; `make faults SEEDS=1000` runs as many as one likes."""

import time
from pathlib import Path
from typing import Any

import pytest

from faults.seeds import mutations
from faults.seeds.plan import plan
from faults.seeds.run import run_seeds

SEEDS = range(1000, 1020)
SOURCE = Path(__file__).parents[2] / "src"


@pytest.mark.timeout(300)
async def test_whatever_breaks_truth_rows_events_and_what_shops_were_told_agree(
    tmp_path: Path,
) -> None:
    results: list[dict[str, Any]] = []
    begun = time.monotonic()
    await run_seeds(SEEDS, jobs=2, folder=tmp_path, on_result=results.append)
    found = {each["seed"]: each["found"] for each in results if each["found"]}
    assert not found, f"{found}; plans, stories and logs are in {tmp_path}"
    assert sorted(each["seed"] for each in results) == list(SEEDS)
    assert time.monotonic() - begun < 240


def test_a_seed_plans_the_same_every_time() -> None:
    for seed in range(200):
        assert plan(seed) == plan(seed)
    assert len({str(plan(seed).bursts) for seed in range(200)}) == 200


@pytest.mark.parametrize("name", sorted(mutations.BY_NAME))
def test_a_mending_that_a_mutation_takes_out_is_there(name: str) -> None:
    """So that a mutation never silently takes nothing out; what finds it is a run of its own."""
    with mutations.mutated(SOURCE, name) as source:
        mutation = mutations.BY_NAME[name]
        assert mutation.new in (source / mutation.file).read_text()
