"""`make bench-work` measures everything that it names. No time is checked."""

import json
from typing import Any

import pytest

from easypay_bench import performance_page
from easypay_bench.work import __main__ as command
from easypay_bench.work.bars import (
    STATEMENTS,
    Findings,
    Snapshot,
    at_equal_statements,
    beside,
    rows,
)
from easypay_bench.work.bars import Burst as Emptied
from easypay_bench.work.ordinary import Cost, Pair
from easypay_bench.work.sender import Order, Sender, SlowAnswer
from easypay_bench.work.slow_answers import Series, Watch
from easypay_bench.work.stored import Pair as OfStored
from easypay_bench.work.stored import Spent


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a small run writes."""
    folder = tmp_path_factory.mktemp("work")
    result = folder / "20261130T101500Z-abc-work.json"
    command.main(["--quick", "--only", "stored", "feed", "webhooks", "--json", str(result)])
    return folder, json.loads(result.read_text())


def test_every_event_is_seen_and_every_webhook_comes(written: Any) -> None:
    _, found = written
    for who, run in found["feed"].items():
        assert run["events"] == 40, who
        assert run["looks"] > 0, who
        assert run["late_ms"]["p50"] > 0, who
    beside_statements = found["feed"][STATEMENTS]
    assert beside_statements["cores"]["postgres"] > 0
    assert [told["deliveries"] for told in found["fast"]] == [60]
    assert [told["deliveries"] for told in found["at_rate"]] == [40]
    (hung,) = found["one_hangs"]
    assert 26 < hung["deliveries"] <= 40, "those of the other endpoints, and some that hang"


def test_every_bar_has_a_figure(written: Any) -> None:
    _, found = written
    rows = {row["name"]: row for row in found["rows"]}
    assert len(rows) == 6
    for row in rows.values():
        assert row["lowest"] <= row["figure"] <= row["highest"], row
    for name in ("gateway CPU of a stored method, more than of a card", "the same, of a card's"):
        del rows[name]  # it may be less
    assert all(row["lowest"] > 0 for row in rows.values())


def test_the_page_of_figures_shows_the_newest_run_that_was_not_small(written: Any) -> None:
    folder, found = written
    assert performance_page._worked(folder) == []
    (folder / "20261130T101600Z-abd-work.json").write_text(json.dumps({**found, "quick": False}))
    section = "\n".join(performance_page._worked(folder))
    for row in found["rows"]:
        assert f"| {row['name']} | {row['wanted']} |" in section


def test_what_is_compared_is_compared_the_right_way_round() -> None:
    before, now = Cost(1000, 100, 50, 4000, 2), Cost(900, 105, 50, 4000, 2)
    found = Findings(
        machine={},
        quick=True,
        ordinary=[Pair(before, now)],
        snapshot=Snapshot(
            60,
            before=[Emptied(1000, 2400, 1, 2, 3, 4)],
            beside=[Emptied(1045, 1000, 1, 2, 3, 4)],
            after=[Emptied(1200, 1600, 1, 2, 3, 4)],
        ),
    )
    figures = {row.name: (row.figure, row.met) for row in rows(found)}
    assert figures == {
        "a snapshot held for 60 s costs queued payments": (pytest.approx(5), True),
        "a snapshot held for 60 s costs webhooks": (50, False),
        "payments/s, times before": (0.9, False),
        "gateway CPU of a payment, times before": (1.05, False),
        "PostgreSQL CPU of a payment, times before": (1.0, True),
        "WAL of a payment, times before": (1.0, True),
    }


def test_of_a_slow_answer_it_is_told_what_it_waited_for() -> None:
    order = Order(host="", port=0, api_keys=[], count=2, rate=500)
    sender = Sender(order)
    head = b"HTTP/1.1 202 Accepted\r\nserver-timing: auth;dur=0.1, total;dur=%b\r\n\r\n"
    sender.answered(head % b"3", 100.0, 0.004)
    sender.answered(head % b"24", 100.0, 0.030)
    assert sender.slow == [SlowAnswer(100.0, 0.030, 0.024)], "the first one was quick"

    watch = Watch([])
    loop, backend = watch.loops.setdefault(1, Series()), watch.backends.setdefault(2, Series())
    # From 99.99 on, the loop ran for a fifth of the time, and half of it waited for a core.
    loop.add(99.99, 5.0, 1.0)
    loop.add(100.09, 5.02, 1.05)
    backend.add(100.01, 0.5, 0.0)  # it was found late
    backend.add(100.09, 0.5, 0.08)
    found = watch.explain(2, sender.slow)
    (slow,) = found.slow
    assert (slow.took, slow.in_gateway) == pytest.approx((30, 24))
    assert (slow.loop_ran, slow.loop_waited) == pytest.approx((6, 15))
    assert (slow.backends_ran, slow.backends_waited) == pytest.approx((0, 20))
    assert slow.no_core == 30, "no more than it took"
    assert "1 of 2 answers were slow: 30 ms, 24 of them in the gateway" in found.summary()
    assert "100% of their time was for want of a core" in found.summary()


def test_a_stored_method_is_compared_where_as_many_statements_were_needed() -> None:
    """A statement that fewer payments share costs 400 µs of each; the method itself costs 12."""
    pairs = [
        OfStored(Spent(180, 90, 0.1), Spent(192 + 400 * more, 95, 0.1 + more))
        for more in (n / 100 for n in range(10))
    ]
    figures = {row.name: row for row in rows(Findings(machine={}, quick=True, stored=pairs))}
    gateway = figures["gateway CPU of a stored method, more than of a card"]
    assert gateway.figure == pytest.approx(30), "the median: with 0.045 statements more"
    assert figures["the same, of a card's"].figure == pytest.approx(100 * 30 / 180)
    assert beside(pairs, lambda spent: spent.postgres_us)[:3] == (90, 95, 5)
    assert at_equal_statements(pairs) == pytest.approx(12)
    assert at_equal_statements(pairs[:9]) is None
