"""An event's payment is rebuilt from the events up to it: the last one leaves what the row says."""

from typing import Any

import msgspec

from easypay import clock, ids
from easypay.db.embedded import Cluster
from easypay.db.pool import open_pool
from easypay.events.pages import FeedEvent
from easypay.payments.event_objects import (
    _LATER,
    Answer,
    Happened,
    objects_of,
    views_after,
)
from easypay.payments.model import EDGES, STATUS, Status
from easypay.payments.views import PAYMENT_VIEW_COLUMNS, ProcessorView, listed_payment_views
from easypay.seeding.plan import Plan
from harness import new_database, seeded_with

LATEST = """
    SELECT DISTINCT ON (e.payment_id) 0, e.merchant_id, e.mode, e.id, e.payment_id,
           e.operation_id, e.type, e.status, e.amount_minor, e.currency, e.created_at
      FROM events e
      JOIN (SELECT merchant_id, payment_id FROM events TABLESAMPLE SYSTEM (30) REPEATABLE (7)
             LIMIT 3000) AS sampled USING (merchant_id, payment_id)
     ORDER BY e.payment_id, e.id DESC
"""
ROWS = f"SELECT {PAYMENT_VIEW_COLUMNS} FROM payments WHERE id = ANY($1)"
NAME = "authorize_net"
HELD = Answer(
    None,
    ProcessorView(NAME, "601", "A1", "Y", "M", "4", "Held", "match", "match", None, None),
)


async def test_the_last_event_of_a_payment_leaves_it_as_its_row_says(
    cluster: Cluster, template: str
) -> None:
    """For more than a thousand payments over 12 months, each by a few statements of a group."""
    dsn = await new_database(cluster.dsn, template)
    await seeded_with(dsn, Plan(6_000, 12, 200, 1, clock.now()), processes=1)
    pool = await open_pool(dsn, size=1)
    try:
        events = [FeedEvent(*row) for row in await pool.fetch(LATEST)]
        rows = await pool.fetch(ROWS, [event.payment_id for event in events])
        present = {view.id: view for view in listed_payment_views(rows)}
        assert len(events) > 1000
        for at in range(0, len(events), 500):
            for seen in await objects_of(pool, events[at : at + 500]):
                assert seen.data == present[seen.payment_id]
    finally:
        await pool.close()


def happened(*steps: tuple[str, str, int, str]) -> list[Happened]:
    """Events by type, status, amount and the letter of their operation."""
    operations: dict[str, Any] = {}
    return [
        Happened(
            ids.new_id(),
            operations.setdefault(letter, ids.new_id()),
            word,
            status,
            amount,
            f"2026-11-30T12:00:{n:02}Z",
        )
        for n, (word, status, amount, letter) in enumerate(steps)
    ]


def payment(version: int, status: str, captured: int, message: str, refunded: int = 0) -> Any:
    """A payment as it is now."""
    id_, merchant_time = ids.new_id(), ids.moment_of(ids.new_id())
    row = {
        "id": id_, "status": status, "amount_minor": 2500, "currency": "USD",
        "captured_minor": captured, "refunded_minor": refunded, "capture": "automatic",
        "mode": "test", "version": version, "created_at": merchant_time,
        "updated_at": merchant_time, "method_type": "card", "processor": NAME,
        "transaction_id": "601", "processor_message": message,
    }  # fmt: skip
    values = [row.get(name) for name in PAYMENT_VIEW_COLUMNS.split(", ")]
    (view,) = listed_payment_views([values])
    return view


def test_a_hold_shows_the_answer_it_came_with_or_only_its_transaction() -> None:
    history = happened(
        ("payment.in_review", "in_review", 2500, "create"),
        ("approve.failed", "in_review", 2500, "approve"),
        ("payment.captured", "captured", 2500, "again"),
        ("refund.succeeded", "captured", 900, "refund"),
    )
    now = payment(6, "captured", 2500, "Approved", refunded=900)
    for replies, expected in (({history[0].operation_id: HELD}, HELD.processor), ({}, None)):
        views = list(views_after(now, history, replies).values())
        assert [view.version for view in views] == [3, 4, 5, 6], "it was begun twice"
        assert [view.captured_amount for view in views] == [0, 0, 2500, 2500]
        assert [view.refunded_amount for view in views] == [0, 0, 0, 900]
        held = views[0].processor
        if expected is None:
            assert (held.transaction_id, held.message, held.code) == ("601", None, None)
        else:
            assert held == expected
        assert views[1].processor == held
        assert views[2].processor == views[3].processor == now.processor


def test_a_payment_that_was_found_charged_had_failed_because_no_charge_was_found() -> None:
    history = happened(
        ("payment.failed", "failed", 2500, "create"),
        ("late_charge.found", "failed", 2500, "create"),
        ("payment.captured", "captured", 2500, "create"),
    )
    views = list(views_after(payment(3, "captured", 2500, "Approved"), history, {}).values())
    assert [(view.status, view.version, view.captured_amount) for view in views] == [
        ("failed", 2, 0),
        ("failed", 2, 0),
        ("captured", 3, 2500),
    ]
    assert views[0].processor.message == "No charge was found at the processor."
    assert views[0].processor.transaction_id is None
    assert views[2].processor.message == "Approved"


def test_clocks_that_differ_change_nothing() -> None:
    """The hosts that made the events had clocks so wrong that the ids are in the wrong order."""
    right = happened(
        ("payment.pending", "pending", 2500, "create"),
        ("payment.processing", "processing", 2500, "create"),
        ("payment.in_review", "in_review", 2500, "create"),
        ("payment.authorized", "authorized", 2500, "approve"),
        ("payment.captured", "captured", 2000, "capture"),
        ("refund.succeeded", "voided", 2000, "refund"),
    )
    now = payment(6, "voided", 0, "Approved")
    expected = list(views_after(now, right, {}).values())
    assert [view.status for view in expected] == [each.status for each in right]
    assert [view.version for view in expected] == [1, 2, 3, 4, 5, 6]
    wrong = [
        msgspec.structs.replace(each, id=other.id)
        for each, other in zip(right, reversed(right), strict=True)
    ]
    assert list(views_after(now, wrong[::-1], {}).values()) == expected


def test_every_change_of_a_status_goes_forward() -> None:
    assert set(_LATER) == set(Status)
    for before, after in EDGES:
        assert _LATER[STATUS[before]] < _LATER[after]


def test_a_void_by_the_merchant_leaves_the_answer_of_the_hold() -> None:
    history = happened(
        ("payment.in_review", "in_review", 2500, "create"),
        ("payment.voided", "voided", 2500, "void"),
    )
    views = list(views_after(payment(3, "voided", 0, "Held"), history, {}).values())
    assert [view.processor.message for view in views] == ["Held", "Held"]
