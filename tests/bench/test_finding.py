"""`make bench-find` measures everything that it names. No time is checked."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from easypay_bench import performance_page
from easypay_bench.finding import __main__ as command
from easypay_bench.finding.questions import DEEP, PAGES, STRETCHES


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a small run writes."""
    folder = tmp_path_factory.mktemp("find")
    result = folder / "20261130T101500Z-abc-find.json"
    command.main(["--quick", "--payments", "2000", "--json", str(result)])
    return folder, json.loads(result.read_text())


def test_every_question_has_its_figures(written: Any) -> None:
    _, found = written
    assert [each["name"] for each in found["questions"]] == [*PAGES, DEEP, *STRETCHES]
    for each in found["questions"]:
        answers = each["answers"]
        assert 0 < answers["p50_ms"] <= answers["p99_ms"] <= answers["max_ms"], each["name"]
        assert 0 < answers["buffers"] <= answers["most_buffers"], each["name"]
        assert all([each["by_months"], each["pages_by_months"]]), each["name"]
        by_rows = [each["by_rows"], each["pages_by_rows"]]
        assert all(by_rows) if each["is_page"] else not any(by_rows), each["name"]


def test_every_bar_has_a_verdict(written: Any) -> None:
    _, found = written
    verdicts = {row["name"]: row["verdict"] for row in found["rows"]}
    assert set(verdicts.values()) <= {"ok", "missed", "not measured", "not reached"}
    assert len(verdicts) == len(found["rows"])
    assert verdicts["first page: p99"] in ("ok", "missed")
    assert verdicts["duplicate check off"] == "ok"
    assert found["behind"]["payments_per_s"] > 0
    assert found["exported"]["rows"] > 0
    assert len(found["exported"]["payments_beside"]) == 1
    assert [each["wanted"]["payments"] for each in found["databases"]] == [2000, 200, 200, 200]
    assert "password" not in json.dumps(found)


def test_the_page_of_figures_shows_the_newest_run_that_was_not_small(written: Any) -> None:
    folder, found = written
    assert performance_page._found(folder) == []
    (folder / "20261130T101600Z-abd-find.json").write_text(json.dumps({**found, "quick": False}))
    section = "\n".join(performance_page._found(folder))
    assert "2,000 payments over 2 months" in section
    for each in found["questions"]:
        assert re.search(rf"^\| {re.escape(each['name'])} \| [0-9]", section, re.MULTILINE)


def test_a_directory_that_was_there_is_not_removed(tmp_path: Path) -> None:
    for keep in (True, False):
        with command._directory(tmp_path, keep=keep):
            pass
        assert tmp_path.exists()
    with command._directory(tmp_path / "new", keep=False) as made:
        assert made.exists()
    assert not made.exists()
