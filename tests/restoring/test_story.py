"""What a transaction of the books was here: pure rules."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from easypay import ids
from easypay.mode import Mode
from easypay.payments.model import Kind, Payment, Status
from easypay.processors.base import (
    Approved,
    Declined,
    Found,
    Inconclusive,
    ProcessorAnswer,
    Rejected,
)
from easypay.processors.books import BookedTransaction, BookLine
from easypay.restoring import story
from easypay.restoring.story import Owner

OPERATION = story.operation_id_of(ids.reference(ids.new_id()))
OWNER = Owner(ids.new_id(), Mode.TEST, ids.new_id())


def booked(asked: str, meaning: str, amount: int = 2500) -> BookedTransaction:
    assert OPERATION is not None
    at = datetime(2026, 11, 30, tzinfo=UTC)
    line = BookLine(
        *("600", "theirs", meaning, None, ids.reference(OPERATION), amount, "USD"),  # type: ignore[arg-type]
        *("visa", "1111", at),
    )
    answer = ProcessorAnswer(transaction_id="600", auth_code="ABC123")
    kind: Any = asked
    return BookedTransaction(
        line, "theirs", kind, "card", "order-1", 2500, answer, None, None, None, ()
    )


def payment(**over: Any) -> Payment:
    assert OPERATION is not None
    made, _ = story.lost_payment(OWNER, "authorize_net", OPERATION, booked("sale", "captured"))
    return replace(made, **{"active_operation": None, **over})


@pytest.mark.parametrize("text", [None, "", "order-1", "0" * 20, "98765432109876543210"])
def test_another_programs_invoice_number_is_no_reference(text: str | None) -> None:
    assert story.operation_id_of(text) is None


def test_only_what_was_begun_in_the_lost_time_is_lost() -> None:
    now = datetime.now(UTC)
    hour = timedelta(hours=1)
    for at, is_lost in ((now, True), (now - 2 * hour, False), (now + 2 * hour, False)):
        made = ids.lowest_id_at(at)
        assert story.was_begun_between(made, now - hour, now + hour) == is_lost
    of_another_age = UUID("fffffffffffe70008000000000000000")
    assert not story.was_begun_between(of_another_age, now - hour, now + hour)


def test_a_lost_operation_gets_the_same_ids_each_time_and_they_are_of_its_moment() -> None:
    made = ids.new_id()
    found = story.operation_id_of(ids.reference(made))
    assert found is not None
    assert ids.reference(found) == ids.reference(made)
    again, other = story.payment_id_of(found), story.payment_id_of(ids.new_id())
    assert story.payment_id_of(found) == again != other
    assert (again.version, again.variant) == (7, found.variant)
    assert ids.moment_of(again) == ids.moment_of(made)


def test_a_voided_charge_was_approved_first() -> None:
    gone = Found(outcome=Rejected(code="voided", message="no money moves"), evidence="voided")
    found = story.outcome_of(booked("sale", "voided"), gone)
    assert isinstance(found, Found)
    assert found.outcome == Approved(transaction_id="600", auth_code="ABC123")
    assert story.outcome_of(booked("refund", "voided"), gone) is gone
    assert story.outcome_of(booked("sale", "declined"), gone) is gone
    unclear = Inconclusive(reason="this status proves nothing")
    found = story.outcome_of(booked("sale", "failed"), unclear)
    assert isinstance(found, Found), "it could not be settled, and was approved"
    assert story.outcome_of(booked("sale", "unclear"), unclear) is unclear
    assert story.outcome_of(booked("sale", "captured"), unclear) is unclear
    held = Found(
        outcome=Declined(decline_code="review", code="254", message="ended"), evidence="voided"
    )
    assert story.outcome_of(booked("sale", "voided"), held) is held


@pytest.mark.parametrize(
    ("status", "meaning", "step"),
    [
        (Status.AUTHORIZED, "authorized", None),
        (Status.AUTHORIZED, "captured", (Kind.CAPTURE, 2000)),
        (Status.AUTHORIZED, "settled", (Kind.CAPTURE, 2000)),
        (Status.AUTHORIZED, "charged_back", (Kind.CAPTURE, 2000)),
        (Status.AUTHORIZED, "voided", (Kind.VOID, 2500)),
        (Status.AUTHORIZED, "expired", None),
        (Status.AUTHORIZED, "unclear", None),
        (Status.CAPTURED, "captured", None),
        (Status.CAPTURED, "settled", None),
        (Status.CAPTURED, "voided", (Kind.VOID, 2500)),
        (Status.VOIDED, "voided", None),
        (Status.PROCESSING, "captured", None),
        (Status.FAILED, "captured", None),
        (Status.IN_REVIEW, "voided", None),
    ],
)
def test_a_payment_lacks_what_its_charge_shows(
    status: Status, meaning: str, step: tuple[Kind, int] | None
) -> None:
    line = booked("sale", meaning, amount=2000).line
    assert story.next_step(payment(status=status), line) == step
    busy = payment(status=status, active_operation=ids.new_id())
    assert story.next_step(busy, line) is None, "what is open will tell"
