"""What a notification makes due, for every state of what it names."""

from itertools import product
from typing import get_args

import pytest

from easypay import ids
from easypay.notifications.model import Known, Step, step_for
from easypay.payments.model import Kind, State, Status
from easypay.processors.notifications import Happened

CALLS: dict[Happened, Kind] = {
    "charge": Kind.SALE,
    "held": Kind.AUTHORIZE,
    "review": Kind.APPROVE,
    "capture": Kind.CAPTURE,
    "refund": Kind.REFUND,
    "void": Kind.VOID,
}


def known(
    kind: Kind = Kind.SALE,
    state: State = State.APPROVED,
    status: Status = Status.CAPTURED,
    *,
    captured: int = 0,
    busy: bool = False,
    abandoned: bool = False,
    voided: bool = False,
) -> Known:
    return Known(
        merchant_id=ids.new_id(),
        operation_id=ids.new_id(),
        payment_id=ids.new_id(),
        kind=kind,
        state=state,
        voided=voided,
        status=status,
        captured_minor=captured,
        active_operation=ids.new_id() if busy else None,
        abandoned=abandoned,
    )


@pytest.mark.parametrize(("happened", "kind"), CALLS.items())
@pytest.mark.parametrize(
    ("state", "step"),
    [
        (State.APPROVED, Step.DONE),
        (State.UNKNOWN, Step.ASK),
        (State.IN_FLIGHT, Step.WAIT),
        (State.ABSENT, Step.LOOK_AGAIN),
        (State.NOT_SENT, Step.READ_BOOKS),
        (State.DECLINED, Step.READ_BOOKS),
        (State.REJECTED, Step.READ_BOOKS),
        (State.CANCELLED, Step.READ_BOOKS),
        (State.QUEUED, Step.READ_BOOKS),
    ],
)
def test_it_tells_of_our_own_call(happened: Happened, kind: Kind, state: State, step: Step) -> None:
    assert step_for(known(kind, state), happened) is step


def test_a_call_that_nobody_waits_for_any_more_is_asked_about() -> None:
    assert step_for(known(state=State.IN_FLIGHT, abandoned=True), "charge") is Step.ASK


@pytest.mark.parametrize(
    ("happened", "charge", "step"),
    [
        # a review
        ("held", known(state=State.HELD, status=Status.IN_REVIEW), Step.DONE),
        ("review", known(state=State.HELD, status=Status.IN_REVIEW), Step.ASK),
        ("void", known(state=State.HELD, status=Status.IN_REVIEW), Step.ASK),
        ("capture", known(state=State.HELD, status=Status.IN_REVIEW), Step.ASK),
        ("review", known(status=Status.CAPTURED), Step.DONE),
        ("review", known(state=State.DECLINED, status=Status.DECLINED), Step.DONE),
        # done elsewhere
        ("capture", known(Kind.AUTHORIZE, status=Status.AUTHORIZED), Step.READ_BOOKS),
        ("capture", known(Kind.AUTHORIZE, status=Status.CAPTURED, captured=1), Step.DONE),
        ("capture", known(Kind.AUTHORIZE, status=Status.VOIDED), Step.DONE),
        ("void", known(Kind.AUTHORIZE, status=Status.AUTHORIZED), Step.READ_BOOKS),
        ("void", known(status=Status.CAPTURED, captured=1), Step.READ_BOOKS),
        ("void", known(status=Status.VOIDED), Step.DONE),
        ("void", known(state=State.DECLINED, status=Status.DECLINED), Step.DONE),
        ("refund", known(status=Status.CAPTURED, captured=1), Step.READ_BOOKS),
        # an operation of ours goes first
        ("void", known(busy=True), Step.WAIT),
        ("void", known(state=State.UNKNOWN, status=Status.PROCESSING, busy=True), Step.ASK),
        ("refund", known(state=State.IN_FLIGHT, status=Status.PROCESSING), Step.WAIT),
        # a refund before settlement may be made as a void
        ("void", known(Kind.REFUND, State.UNKNOWN, captured=1), Step.ASK),
        ("void", known(Kind.REFUND, status=Status.VOIDED, voided=True), Step.DONE),
        ("void", known(Kind.REFUND, captured=1), Step.READ_BOOKS),
    ],
)
def test_it_tells_of_what_happened_to_a_charge(
    happened: Happened, charge: Known, step: Step
) -> None:
    assert step_for(charge, happened) is step


def test_every_case_has_a_step_and_nothing_open_is_called_done() -> None:
    for happened, kind, state, status in product(get_args(Happened), Kind, State, Status):
        step = step_for(known(kind, state, status), happened)
        if state in (State.IN_FLIGHT, State.UNKNOWN):
            assert step in (Step.ASK, Step.WAIT)
