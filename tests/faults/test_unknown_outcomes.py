"""Requests without a clear reply: the outcome is never guessed, only proven.

Each case is a shop of its own whose processor login meets one fault, so all run at once.
"""

import asyncio
import itertools
import uuid
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from faults.driven_time import DrivenTime
from harness import (
    QUICK,
    WIRE_TYPE,
    Shop,
    Stack,
    audit,
    own_stack,
    until,
)

KINDS = ("sale", "authorize", "capture", "void", "refund")
DEADLINE_MS = 1000

DONE: dict[str, dict[str, Any]] = {
    "drop_reply": {},
    "late_reply": {"delay_ms": DEADLINE_MS + 300},
    "error_after": {},
    "truncate": {},
    "garbage": {},
}
LATE_S = 60
NOT_DONE = ("error_before", "busy", "reset_before")

AFTER = {
    # kind: the payment's status, captured and refunded amounts if it was done, and if not
    "sale": (("captured", 2500, 0), ("failed", 0, 0)),
    "authorize": (("authorized", 0, 0), ("failed", 0, 0)),
    "capture": (("captured", 2000, 0), ("authorized", 0, 0)),
    "void": (("voided", 0, 0), ("captured", 2500, 0)),
    "refund": (("captured", 2500, 900), ("captured", 2500, 0)),
}


patient = own_stack(**QUICK)


@dataclass
class Case:
    """A shop, a kind of operation, and the payment to do it to."""

    stack: Stack
    shop: Shop
    kind: str
    key: str
    payment_id: str | None = None

    async def ask(self, *, key: str | None = None) -> httpx.Response:
        """Send the operation, with the same key unless another is given."""
        return await self.shop.ask(self.kind, self.payment_id, key=key or self.key)

    @property
    def target(self) -> str:
        assert self.payment_id is not None
        return self.payment_id

    async def inject(self, fault: str, **more: Any) -> None:
        """Make the shop's next call of this kind meet the fault."""
        kind = WIRE_TYPE[self.kind]
        await self.stack.simulator.fault(fault, self.shop.login, transaction_type=kind, **more)

    async def operation(self) -> dict[str, Any]:
        """Return the operation under test from the API: the payment's first of its kind."""
        rows = await self.shop.all(f"/payments/{self.target}/operations")
        return next(row for row in rows if row["kind"] == self.kind)

    async def ends(self, within_s: float = 45) -> dict[str, Any]:
        """Wait until the outcome is known; return the operation."""

        async def ended() -> dict[str, Any] | None:
            found = await self.operation()
            return None if found["state"] in ("in_flight", "unknown", "not_sent") else found

        found: dict[str, Any] = await until(ended, within_s=within_s, what=f"{self.kind} ends")
        return found

    async def done(self, operation: dict[str, Any]) -> int:
        """Return how many times the processor did it."""
        rows = await self.stack.simulator.truth(
            login=self.shop.login, invoice_number=operation["reference"]
        )
        return len(rows)

    async def unresolved(self) -> int:
        """Return how many operations of this shop wait for an inquiry."""
        rows = await self.stack.fetch(
            "SELECT 1 FROM unresolved_operations WHERE merchant_id = $1", self.shop.merchant_id
        )
        return len(rows)

    async def waits_no_more(self) -> None:
        """The resolver takes an operation off its list after its outcome is known."""

        async def none_waits() -> bool:
            return await self.unresolved() == 0

        await until(none_waits, what="no operation waits for an inquiry")

    async def figures(self) -> tuple[str, int, int]:
        """Return the payment's status, captured and refunded amounts."""
        payment = await self.shop.payment(self.target)
        return payment["status"], payment["captured_amount"], payment["refunded_amount"]


async def prepared(stack: Stack, kinds: list[str]) -> list[Case]:
    """Return a case for each of `kinds`, with the payment it needs; equal kinds are adjacent."""
    gateway = stack.only_gateway

    async def one(kind: str) -> Case:
        shop = await stack.shop(gateway)
        case = Case(stack, shop, kind, f"{kind}-{uuid.uuid4()}")
        if kind not in ("sale", "authorize"):
            capture = "manual" if kind == "capture" else "automatic"
            case.payment_id = (await shop.paid(capture=capture))["id"]
        return case

    first = [await one(kind) for kind in kinds if kind == "refund"]
    if first:
        await stack.simulator.post("/settle")
    rest = [await one(kind) for kind in kinds if kind != "refund"]
    return first + rest


def assert_accepted(case: Case, answer: httpx.Response) -> None:
    """The response is 202 with everything that a merchant needs to learn the outcome."""
    assert answer.status_code == 202, answer.text
    body = answer.json()
    if case.kind == "refund":
        assert body["status"] == "processing"
        location = f"/api/v1/refunds/{body['id']}"
    else:
        case.payment_id = body["id"]
        location = f"/api/v1/payments/{body['id']}"
    if case.kind in ("sale", "authorize"):
        assert body["status"] == "processing"
    assert answer.headers["location"] == location
    assert int(answer.headers["retry-after"]) >= 1
    assert "idempotency-replayed" not in answer.headers


async def assert_replays(case: Case, first: httpx.Response) -> None:
    """The key gives the same response, byte for byte, and the processor is not called again."""
    again = await case.ask()
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers.get("location") == first.headers.get("location")
    assert again.headers.get("retry-after") == first.headers.get("retry-after")


async def assert_unclear(case: Case, fault: str) -> httpx.Response:
    """The fault's reply leaves the outcome unknown, and the key gives the same response again."""
    await case.inject(fault, **DONE.get(fault, {"delay_ms": LATE_S * 1000, "by_clock": True}))
    answer = await case.ask()
    assert_accepted(case, answer)
    assert (await case.operation())["evidence"]["finding"], (case.kind, fault)
    await assert_replays(case, answer)
    return answer


async def assert_found(case: Case, fault: str, answer: httpx.Response) -> dict[str, Any]:
    """An inquiry finds that it was done, once. Returns what the operation says about it."""
    operation = await case.ends()
    assert operation["state"] == "approved", (case.kind, fault, operation)
    evidence: dict[str, Any] = operation["evidence"]
    assert evidence["source"] == "inquiry"
    assert evidence["finding"].startswith("found: ")
    assert operation["processor"]["transaction_id"] in evidence["finding"]
    assert await case.done(operation) == 1, (case.kind, fault)
    assert await case.figures() == AFTER[case.kind][0]
    await assert_replays(case, answer)
    await case.waits_no_more()
    assert await audit(case.stack, case.shop) == []
    return evidence


async def test_an_operation_that_was_done_without_a_clear_reply_is_found(patient: Stack) -> None:
    async def one(case: Case, fault: str) -> None:
        await assert_found(case, fault, await assert_unclear(case, fault))

    cases = await prepared(patient, [kind for kind in KINDS for _ in DONE])
    await asyncio.gather(*map(one, cases, itertools.cycle(DONE)))


async def test_what_is_done_after_the_first_inquiry_is_found_by_a_later_one(
    driven_stack: Stack, driven_time: DrivenTime
) -> None:
    """The first inquiry finds nothing, since the charge has not come yet. That is no absence."""
    fault = "late_charge"
    cases = await prepared(driven_stack, list(KINDS))
    answers = [await assert_unclear(case, fault) for case in cases]
    await driven_time.advance(10)
    await driven_time.settles()
    early = [await case.operation() for case in cases]
    assert [each["state"] for each in early] == ["unknown"] * len(KINDS)
    inquired = await driven_stack.fetch("SELECT inquiries FROM unresolved_operations")
    assert len(inquired) == len(KINDS)
    assert all(row["inquiries"] >= 1 for row in inquired)
    assert [await case.done(each) for case, each in zip(cases, early, strict=True)] == [0] * 5

    async def all_done() -> bool:
        return all([await case.done(each) for case, each in zip(cases, early, strict=True)])

    await driven_time.advance(LATE_S, once=all_done)
    for case, answer in zip(cases, answers, strict=True):
        assert (await assert_found(case, fault, answer))["inquiries"] >= 2


async def test_an_operation_that_was_not_done_ends_by_proof_of_absence(patient: Stack) -> None:
    """HTTP 500, E00053 and a reset prove nothing. Absence does, found twice and late enough."""

    async def one(case: Case, fault: str) -> None:
        await case.inject(fault)
        answer = await case.ask()
        assert_accepted(case, answer)
        before = await case.operation()
        assert before["state"] == "unknown"
        assert before["evidence"]["source"] == "reply"
        await assert_replays(case, answer)

        operation = await case.ends()
        assert operation["state"] == "absent", (case.kind, fault, operation)
        evidence = operation["evidence"]
        assert evidence["source"] == "inquiry"
        assert evidence["finding"].startswith("absent: ")
        assert evidence["inquiries"] >= 2
        assert await case.done(operation) == 0
        assert await case.figures() == AFTER[case.kind][1]
        await assert_replays(case, answer)
        await case.waits_no_more()
        assert await audit(patient, case.shop) == []

        again = await case.ask(key="once more")
        assert again.status_code == 201, (case.kind, fault, again.text)
        case.payment_id = case.payment_id if case.kind == "refund" else again.json()["id"]
        assert await case.figures() == AFTER[case.kind][0]
        assert await audit(patient, case.shop) == []

    cases = await prepared(patient, [kind for kind in KINDS for _ in NOT_DONE])
    await asyncio.gather(*map(one, cases, itertools.cycle(NOT_DONE)))


async def test_a_slow_reply_within_the_deadline_counts(patient: Stack) -> None:
    async def one(case: Case) -> None:
        await case.inject("late_reply", delay_ms=DEADLINE_MS * 0.4)
        answer = await case.ask()
        assert answer.status_code == 201, answer.text
        await case.waits_no_more()
        assert await audit(patient, case.shop) == []

    await asyncio.gather(*map(one, await prepared(patient, list(KINDS))))


async def test_an_unsent_operation_can_be_repeated_and_is_done_once(stack: Stack) -> None:
    """The connection is refused, so it was not sent. Its key tries again, or it ends as absent once
    the time for that is over."""
    await stack.gateway(**QUICK | {"not_sent_ends_after_s": "600"})
    cases = await prepared(stack, [kind for kind in KINDS for _ in range(2)])
    async with stack.refusing():
        answers = await asyncio.gather(*(case.ask() for case in cases))
    for case, answer in zip(cases, answers, strict=True):
        assert answer.status_code == 503, answer.text
        assert answer.json()["code"] == "processor_unavailable"
        assert int(answer.headers["retry-after"]) >= 1
        if case.payment_id is None:
            use = await case.shop.client.get(f"/idempotency-keys/{case.key}")
            assert (use.json()["state"], use.json()["reply_status"]) == ("not_sent", None)
            case.payment_id = use.json()["payment_id"]
        assert await case.done(await case.operation()) == 0

    async def repeated(case: Case) -> None:
        crowd = await asyncio.gather(*(case.ask() for _ in range(8)))
        assert {answer.status_code for answer in crowd} <= {201, 409}, case.kind
        answer = await case.ask()
        assert answer.status_code == 201, (case.kind, answer.text)
        bodies = {each.content for each in crowd if each.status_code == 201}
        assert bodies == {answer.content}
        operation = await case.operation()
        assert (operation["state"], operation["attempt"]) == ("approved", 2)
        assert await case.done(operation) == 1
        assert await case.figures() == AFTER[case.kind][0]

    async def given_up(case: Case) -> None:
        operation = await case.ends()
        assert operation["state"] == "absent"
        assert operation["evidence"]["finding"].startswith("absent: nothing")
        assert await case.done(operation) == 0
        assert await case.figures() == AFTER[case.kind][1]
        answer = await case.ask()
        if case.kind in ("capture", "void"):
            assert (answer.status_code, answer.json()["code"]) == (409, "not_executed")
        else:
            assert (answer.status_code, answer.json()["status"]) == (201, "failed")

    twos = {kind: [case for case in cases if case.kind == kind] for kind in KINDS}
    await asyncio.gather(*(repeated(pair[0]) for pair in twos.values()))
    await stack.move_clock(601)
    await asyncio.gather(*(given_up(pair[1]) for pair in twos.values()))

    async def listed() -> bool:
        # A repeated case stays on the list until the resolver next looks at it.
        return not any([await case.unresolved() for case in cases])

    await until(listed, within_s=40, what="nothing waits for an inquiry")
    for case in cases:
        assert await audit(stack, case.shop) == []


async def test_a_later_operation_first_inquires_about_the_open_one(stack: Stack) -> None:
    """No inquiry is scheduled here, so only the later request can have made one."""
    await stack.gateway(**QUICK | {"unknown_first_inquiry_s": "600"})

    async def lost(case: Case) -> str:
        await case.inject("drop_reply")
        answer = await case.ask()
        assert_accepted(case, answer)
        return case.target

    async def void_after(case: Case) -> None:
        answer = await case.shop.void(await lost(case))
        assert (answer.status_code, answer.json()["status"]) == (201, "voided"), answer.text

    async def capture_after_authorize(case: Case) -> None:
        answer = await case.shop.capture(await lost(case), 700)
        assert (answer.status_code, answer.json()["captured_amount"]) == (201, 700), answer.text

    async def capture_after_capture(case: Case) -> None:
        answer = await case.shop.capture(await lost(case), 700)
        assert (answer.status_code, answer.json()["code"]) == (409, "invalid_state"), answer.text
        assert await case.figures() == ("captured", 2000, 0)

    async def refund_after_void(case: Case) -> None:
        answer = await case.shop.refund(await lost(case))
        assert (answer.status_code, answer.json()["code"]) == (409, "invalid_state"), answer.text
        assert await case.figures() == ("voided", 0, 0)

    async def refund_after_refund(case: Case) -> None:
        """900 of 2500 were refunded without a reply: 1601 more is refused, and 1600 is not."""
        await lost(case)
        answer = await case.shop.refund(case.target, 1601)
        assert answer.json()["code"] == "amount_exceeds_captured", answer.text
        assert await case.figures() == ("captured", 2500, 900)
        rest = await case.shop.refund(case.target)
        assert (rest.status_code, rest.json()["amount"]) == (201, 1600), rest.text

    plan = {
        "refund": [refund_after_refund],
        "sale": [void_after],
        "authorize": [void_after, capture_after_authorize],
        "capture": [void_after, capture_after_capture],
        "void": [refund_after_void],
    }
    cases = await prepared(stack, [kind for kind, steps in plan.items() for _ in steps])
    steps = [step for steps in plan.values() for step in steps]
    await asyncio.gather(*(step(case) for step, case in zip(steps, cases, strict=True)))

    # A refund needs a settled capture, and settling affects all cases, so it runs alone.
    (late,) = await prepared(stack, ["capture"])
    payment_id = await lost(late)
    await stack.simulator.post("/settle")
    refund = await late.shop.refund(payment_id, 900)
    assert (refund.status_code, refund.json()["status"]) == (201, "succeeded"), refund.text

    for case in [*cases, late]:
        assert await audit(stack, case.shop) == []


async def test_a_refund_with_an_open_outcome_keeps_its_amount_reserved(stack: Stack) -> None:
    """Open and new refunds never sum to more than was captured, whatever became of them."""
    await stack.gateway(**QUICK | {"unknown_first_inquiry_s": "600"})
    cases = await prepared(stack, ["refund", "refund"])

    async def reserved(case: Case) -> int:
        sql = "SELECT refund_reserved_minor FROM payments WHERE merchant_id = $1"
        return int(await stack.value(sql, case.shop.merchant_id))

    # Whether the refund was done is unknown here, so both cases must look the same.
    for case, fault in zip(cases, ("reset_before", "drop_reply"), strict=True):
        await case.inject(fault)
        assert_accepted(case, await case.ask())
        assert await reserved(case) == 900
        assert await audit(stack, case.shop, settled=False) == []

    for case in cases:
        answers = await asyncio.gather(*(case.shop.refund(case.target, 400) for _ in range(10)))
        given = sum(answer.status_code == 201 for answer in answers)
        assert given == 4, "\n".join(answer.text for answer in answers)
        assert {answer.status_code for answer in answers} == {201, 409}
    truth = [
        [row["amount"] for row in await stack.simulator.truth(login=case.shop.login)][1:]
        for case in cases
    ]
    assert truth == [["4.00"] * 4, ["9.00"] + ["4.00"] * 4]

    # The absent one releases its reservation; the other one becomes a refund.
    await stack.fetch("UPDATE unresolved_operations SET next_inquiry_at = now()")
    for case, (state, refunded) in zip(cases, (("absent", 1600), ("approved", 2500)), strict=True):
        assert (await case.ends())["state"] == state
        assert await reserved(case) == 0
        assert await case.figures() == ("captured", 2500, refunded)
        assert await audit(stack, case.shop) == []


async def test_many_unknown_outcomes_at_once_are_all_resolved(patient: Stack) -> None:
    """Each of three faults meets a fifth of the calls, so about half get no clear reply."""
    gateway = patient.only_gateway
    shop = await patient.shop(gateway)
    for fault in ("drop_reply", "error_after", "reset_before"):
        await patient.simulator.post("/faults", kind=fault, probability=0.2, login=shop.login,
                                     method="createTransactionRequest")  # fmt: skip
    answers = await asyncio.gather(
        *(shop.pay(100 + number, key=f"many-{number}") for number in range(80))
    )
    assert {answer.status_code for answer in answers} == {201, 202}
    for answer in answers:
        await shop.becomes(answer.json()["id"], "captured", "failed")
    ended = [(await shop.payment(answer.json()["id"]))["status"] for answer in answers]
    truth = await patient.simulator.truth(login=shop.login)
    assert ended.count("captured") == len(truth)
    assert await audit(patient, shop) == []


async def test_another_refund_first_inquires_about_an_unknown_one(stack: Stack) -> None:
    """There is room for both; nevertheless the inquiry comes before the next refund is sent."""
    gateway = await stack.gateway(**{**QUICK, "unknown_first_inquiry_s": "600"})
    shop = await stack.shop(gateway)
    payment = await shop.paid(5000)
    await stack.simulator.post("/settle")
    await stack.simulator.fault("drop_reply", shop.login, method="createTransactionRequest")
    unknown = await shop.refund(payment["id"], 1000)
    assert (unknown.status_code, unknown.json()["status"]) == (202, "processing")
    second = await shop.refund(payment["id"], 2000)
    assert (second.status_code, second.json()["status"]) == (201, "succeeded")
    refunds = await shop.all(f"/payments/{payment['id']}/refunds")
    assert [refund["status"] for refund in refunds] == ["succeeded", "succeeded"]
    assert await audit(stack, shop) == []


@pytest.mark.parametrize(("fault", "first"), [("drop_reply", ["9.00"]), ("reset_before", [])])
async def test_a_refund_of_the_rest_leaves_out_an_open_refund(
    stack: Stack, fault: str, first: list[str]
) -> None:
    """900 of 2500 may have been refunded: the rest is 1600, never 2500."""
    await stack.gateway(**QUICK | {"unknown_first_inquiry_s": "600"})
    (case,) = await prepared(stack, ["refund"])
    await case.inject(fault)
    assert_accepted(case, await case.ask())
    rest = await case.shop.refund(case.target)
    assert (rest.status_code, rest.json()["amount"]) == (201, 1600), rest.text
    truth = await stack.simulator.truth(login=case.shop.login)
    assert [row["amount"] for row in truth][1:] == [*first, "16.00"]
    await stack.fetch("UPDATE unresolved_operations SET next_inquiry_at = now()")
    assert (await case.ends())["state"] == ("approved" if first else "absent")
    assert await case.figures() == ("captured", 2500, 2500 if first else 1600)
    assert await audit(stack, case.shop) == []
