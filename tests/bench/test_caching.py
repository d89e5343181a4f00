"""`make bench-cache` measures everything that it names. No time is checked."""

import json
from typing import Any

import pytest

from easypay_bench import performance_page
from easypay_bench.caching import __main__ as command
from easypay_bench.caching.bars import interval


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a small run writes."""
    folder = tmp_path_factory.mktemp("cache")
    result = folder / "20261130T101500Z-abc-cache.json"
    command.main(["--quick", "--json", str(result)])
    return folder, json.loads(result.read_text())


def test_every_kind_of_reads_is_answered(written: Any) -> None:
    _, found = written
    (setup,) = found["setups"]
    assert len(setup["rounds"]) == 8
    for kind, rounds in setup["rounds"].items():
        (only,) = rounds
        assert only["per_s"] > 0, kind
        assert only["gateway_us"] > 0, kind
        assert only["wrong"] == 0, kind


def test_every_bar_has_a_figure(written: Any) -> None:
    _, found = written
    assert len(found["rows"]) == 6
    for row in found["rows"]:
        assert 0 < row["lowest"] <= row["figure"] <= row["highest"], row


def test_the_page_of_figures_shows_the_newest_run_that_was_not_small(written: Any) -> None:
    folder, found = written
    assert performance_page._cached(folder) == []
    (folder / "20261130T101600Z-abd-cache.json").write_text(json.dumps({**found, "quick": False}))
    section = "\n".join(performance_page._cached(folder))
    for row in found["rows"]:
        assert f"| {row['name']} | {row['wanted']} |" in section


@pytest.mark.parametrize(
    ("count", "left_out"), [(1, 0), (5, 0), (6, 0), (7, 0), (8, 0), (9, 1), (20, 5)]
)
def test_the_interval_leaves_out_as_many_values_as_the_sign_test_allows(
    count: int, left_out: int
) -> None:
    values = [float(n) for n in range(count)]
    assert interval(values[::-1]) == (left_out, count - 1 - left_out)
