"""Saved results beside each other: a change is told, and what only scatters is not called one."""

import json
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from easypay_bench import __main__ as bench
from easypay_bench.history import regular, report, results
from easypay_bench.history.change_points import change_points
from easypay_bench.history.compare import change, change_in_pairs
from easypay_bench.history.results import Figure
from easypay_bench.instructions import Instructions, parsed
from easypay_bench.load import LoadFailed
from easypay_bench.work.ordinary import Cost, Pair

SAVED = Path(__file__).parents[2] / "bench" / "results"


def around(middle: float, count: int, seed: int, scatter: float = 0.03) -> list[float]:
    draw = random.Random(seed)
    return [middle * draw.gauss(1, scatter) for _ in range(count)]


def saved(folder: Path, number: int, *, commit: str = "", cpu: str = "AMD", **more: Any) -> Path:
    """Save a result of `make bench`, made on the given day."""
    machine = {
        "at": f"2026-11-{number + 1:02}T08:00:00+00:00", "commit": commit or f"c0ffee{number:06}",
        "modified": False, "cpu": cpu, "cores": 2, "python": "3.11.2",
    }  # fmt: skip
    path = folder / f"202611{number + 1:02}T080000Z-{machine['commit']}.json"
    path.write_text(json.dumps({"machine": machine, "bars": [{"figure": 1.0}], **more}))
    return path


def runs(per_s: Sequence[float], statements: float = 2.0) -> dict[str, Any]:
    return {
        "runs": [{"payments_per_s": each, "load": {"connections": 64}} for each in per_s],
        "counters": {"statements_per_payment": statements},
    }


@pytest.mark.parametrize(
    ("figure", "before", "after", "verdict"),
    [
        ("payments_per_s", around(3000, 7, 1), around(3000, 7, 2), "the same"),
        ("payments_per_s", around(3000, 7, 1), around(2500, 7, 2), "worse"),
        ("payments_per_s", around(3000, 7, 1), around(3600, 7, 2), "better"),
        ("gateway_us", around(200, 7, 1), around(240, 7, 2), "worse"),
        ("gateway_us", [200.0], [400.0], "unsure"),
        ("statements_per_payment", [2.0], [2.05], "worse"),
        ("statements_per_payment", [2.0], [2.0], "the same"),
        ("wal_bytes", [4000.0], [3000.0], "better"),
        ("wrong", [0.0], [3.0], "worse"),
        ("wrong", [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], "the same"),
    ],
)
def test_a_change_is_told_from_scatter(
    figure: str, before: list[float], after: list[float], verdict: str
) -> None:
    assert change(Figure(figure, tuple(before)), Figure(figure, tuple(after))).verdict == verdict


def test_the_interval_holds_the_true_ratio_in_most_of_many_comparisons() -> None:
    held = 0
    for seed in range(100):
        found = change(
            Figure("per_s", tuple(around(3000, 9, seed))),
            Figure("per_s", tuple(around(3300, 9, 1000 + seed))),
        )
        assert found.lowest is not None
        assert found.highest is not None
        held += found.lowest <= 1.1 <= found.highest
    assert held >= 85, "of 100; 95 are promised for many repeats, nine scatter more"


def test_a_new_level_is_found_and_scatter_is_none() -> None:
    steps = [around(100, 12, 2 * n, 0.02) + around(110, 12, 2 * n + 1, 0.02) for n in range(10)]
    assert all(any(abs(cut - 12) <= 1 for cut in change_points(each)) for each in steps)
    level = [change_points(around(100, 24, 100 + n)) for n in range(30)]
    assert sum(map(bool, level)) <= 2, "one in a hundred is called one by chance"
    twice = [*around(10, 10, 1), *around(20, 10, 2), *around(10, 10, 3)]
    assert change_points(twice) == [10, 20]
    assert change_points([]) == change_points([1.0] * 30) == []


def test_every_saved_result_can_be_read() -> None:
    found = results.read_all([SAVED])
    assert {"bench", "find", "cache"} <= {each.kind for each in found}
    newest = {each.kind: each for each in found}
    rounds = newest["cache"].figures["setups: alone.rounds.livez.per_s"]
    assert (len(rounds.values), rounds.unit, rounds.better) == (7, "/s", "more")
    wal = newest["bench"].figures["counters.wal_bytes"]
    assert (wal.counted, wal.better) == (True, "less")
    assert not any("rows:" in name or "machine" in name for name in newest["find"].figures)


def test_entries_that_differ_are_figures_and_others_are_repeats(tmp_path: Path) -> None:
    read = results.read(
        saved(
            tmp_path, 0,
            grid=[{"connections": 1, "per_s": 5}, {"connections": 64, "per_s": 9}],
            rounds=[{"connections": 64, "per_s": 7}, {"connections": 64, "per_s": 8}],
            steps=[{"seconds": [[0, {"p99_ms": 3.0}], [1, {"p99_ms": 4.0}]]}],
        )
    ).figures  # fmt: skip
    assert read["grid: 1 connections.per_s"].values == (5.0,)
    assert read["grid: 64 connections.per_s"].values == (9.0,)
    assert read["rounds.per_s"].values == (7.0, 8.0)
    assert read["steps.seconds.p99_ms"].values == (3.0, 4.0)


def test_two_commits_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = saved(tmp_path, 0, **runs(around(3000, 7, 1)))
    after = saved(tmp_path, 1, **runs(around(2400, 7, 2), statements=3.0))
    with pytest.raises(SystemExit) as ended:
        bench.main(["compare", str(before), str(after), "--json"])
    assert ended.value.code == 1
    told = json.loads(capsys.readouterr().out)
    assert told["before"]["commit"] == "c0ffee000000"
    worse = {each["name"]: each for each in told["changes"] if each["verdict"] == "worse"}
    assert set(worse) == {"runs.payments_per_s", "counters.statements_per_payment"}
    assert worse["counters.statements_per_payment"]["ratio"] == 1.5
    assert worse["runs.payments_per_s"]["highest"] < 0.9

    with pytest.raises(SystemExit) as ended:
        bench.main(["compare", str(after), str(after)])
    assert ended.value.code == 0
    assert "0 worse, 0 better" in capsys.readouterr().out


def test_another_machine_and_another_kind_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = saved(tmp_path, 0, **runs([1.0])), saved(tmp_path, 1, cpu="ARM", **runs([2.0]))
    with pytest.raises(SystemExit):
        bench.main(["compare", str(here), str(there)])
    assert "The machines differ: only the counts can be compared." in capsys.readouterr().out
    other = saved(tmp_path, 2, caching=True)
    for given, why in (
        ([str(here), str(other)], "measure different things"),
        (["beef", str(here)], "no result of it"),
        ([str(here), str(tmp_path / "none.json")], "there is no such file"),
    ):
        with pytest.raises(SystemExit) as ended:
            bench.main(["compare", *given])
        assert ended.value.code == 2
        assert why in capsys.readouterr().err
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ValueError, match="no saved result"):
        results.read(tmp_path / "list.json")


def test_the_history_is_one_page_with_its_new_levels_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    for number in range(20):
        level = 3000 if number < 10 else 2500
        saved(folder, number, **runs(around(level, 3, number)))
    saved(folder, 20, cpu="ARM", **runs([9000.0]))
    bench.main(["history", str(folder), "--html", str(tmp_path / "h.html")])
    printed = capsys.readouterr().out
    assert "since 2026-11-11 08:00 c0ffee000010" in " ".join(printed.split())
    page = (tmp_path / "h.html").read_text()
    assert page.count("<svg") == 2, "the rate on one machine, and the counted statements"
    assert page.count('class="mark"') == 1
    assert "http" not in page
    counted = next(
        each for each in report.series(results.read_all([folder])) if "statements" in each.name
    )
    assert len(counted.values) == 21, "a count is the same on every machine"


def test_a_version_that_costs_more_than_the_release_is_told() -> None:
    def cost(per_s: float, statements: float) -> Cost:
        return Cost(per_s, 1e6 / per_s, 80.0, 4000.0, statements)

    pairs = [
        Pair(cost(before, 2.0), cost(now, 2.5))
        for before, now in zip(around(3000, 7, 1), around(2950, 7, 2), strict=True)
    ]
    verdicts = {each.name: each.verdict for each in regular.beside(pairs)}
    assert verdicts["statements"] == "worse", "a count needs no luck"
    assert verdicts["per_s"] == "the same", "two percent are within the scatter"
    assert verdicts["wal_bytes"] == "the same"


def test_what_disturbs_both_of_a_pair_hides_no_change() -> None:
    """The machine is half as fast in every other pair; this version takes four percent more."""
    before = tuple(400.0 * (1 + number % 2) for number in range(8))
    after = tuple(value * 1.04 for value in before)
    figures = [Figure("gateway_us", values) for values in (before, after)]
    assert change(*figures).verdict == "the same"
    found = change_in_pairs(*figures)
    assert found.verdict == "worse"
    assert (found.ratio, found.lowest, found.highest) == pytest.approx((1.04, 1.04, 1.04))


def test_a_version_that_does_not_start_says_why(tmp_path: Path) -> None:
    package = tmp_path / "src" / "easypay_bench"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    with (
        pytest.raises(LoadFailed, match=r"(?s)did not start.*easypay_bench\.stack"),
        regular.ordinary._started(tmp_path / "src", tmp_path),
    ):
        pass


def test_without_a_release_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(regular.ordinary, "ROOT", tmp_path)
    with pytest.raises(LoadFailed, match="name a commit with --base"):
        regular.last_release()


@pytest.mark.parametrize(
    ("told", "count"),
    [
        ("123456,,instructions:u,9000,100.00,,\n", 123456),
        ("<not supported>,,instructions:u,0,100.00,,\n", None),
        ("<not counted>,,instructions:u,0,0.00,,\n", None),
        ("Error: No permission to enable instructions:u event.\n", None),
        ("", None),
    ],
)
def test_instructions_are_counted_or_left_out(told: str, count: int | None) -> None:
    assert parsed(told) == count


def test_whatever_perf_can_do_here_a_count_is_positive_or_absent() -> None:
    with Instructions([os.getpid()]) as counted:
        sum(range(1_000_000))
    assert counted.total is None or counted.total > 1_000_000
    with Instructions([]) as nobody:
        pass
    assert nobody.total is None
