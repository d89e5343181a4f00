"""Every recorded body, played to a whole gateway as the answer to whatever it may answer.

The table says what each proves; the payment, its operation, its events, its replay and the
processor's books must all say the same. What proves nothing is answered 202 and ends by proof.
"""

import asyncio
import itertools
import uuid
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import httpx
import pytest

from easypay.problem_table import PROBLEMS
from harness import VISA, Gateway, Shop, Stack, audit, mint_token, payment_uuid, until
from recorded import bodies
from recorded.expected_outcomes import KINDS, LINES, Line
from recorded.player import Player
from recorded.scenarios import (
    AUTHORIZATION,
    CAPTURE,
    LOST,
    REFUND,
    SALE,
    VOID,
)

pytestmark = pytest.mark.over("recorded")

NUMBERS: Final = itertools.count(1)
"""Of the orders: the player is told what to say to each."""

TYPE: Final = dict(zip(KINDS, (SALE, AUTHORIZATION, CAPTURE, VOID, REFUND), strict=True))
DONE: Final = {
    # kind: the payment's status, captured and refunded amounts when it is done, and when not
    "sale": (("captured", 2500, 0), ("failed", 0, 0)),
    "authorize": (("authorized", 0, 0), ("failed", 0, 0)),
    "capture": (("captured", 2000, 0), ("authorized", 0, 0)),
    "void": (("voided", 0, 0), ("captured", 2500, 0)),
    "refund": (("captured", 2500, 900), ("captured", 2500, 0)),
}
IN_PART: Final = ("partial", "partial_open")
"""Approved for less than was asked, which is voided before it is called a decline."""
STATE: Final = {
    "done": "approved",
    "declined": "declined",
    "refused": "rejected",
    "held": "held",
    "unknown": "unknown",
}
OPEN_STATES: Final = ("unknown", "not_sent")
PROBLEM: Final = {
    "transaction_not_found": "processor_invalid_state",
    "not_refundable": "processor_invalid_state",
    "not_voidable": "processor_invalid_state",
    "account_not_set_up": "processor_not_set_up",
    "processor_unavailable": "processor_not_ready",
}
"""By decline code, where it is not processor_rejected."""
OPEN: Final = {
    "sale": "processing",
    "authorize": "processing",
    "capture": "authorized",
    "void": "captured",
    "refund": "processing",
}
"""The status that is answered while the outcome is unknown: the payment's, or the refund's."""


@dataclass
class Case:
    """One operation that is answered with one body."""

    player: Player
    shop: Shop
    line: Line
    done: bool
    """Whether the processor does it, whatever it says."""
    number: int
    payment_id: str = ""
    transaction_id: str = ""

    @property
    def key(self) -> str:
        return f"{self.line.body}-{self.number}"

    async def ask(self) -> httpx.Response:
        kind, creates = self.line.kind, self.line.kind in ("sale", "authorize")
        over = {"order_reference": f"order-{self.number}"} if creates else {}
        return await self.shop.ask(kind, self.payment_id, key=self.key, **over)

    async def answered_once(self) -> httpx.Response:
        """Ask, and get the body."""
        about = self.transaction_id or f"order-{self.number}"
        self.player.tell(about, self.line.body, done=self.done, kind=TYPE[self.line.kind])
        return await self.ask()

    async def answered(self) -> httpx.Response:
        """The same, where a payment is made of it."""
        answer = await self.answered_once()
        if not self.payment_id:
            self.payment_id = answer.json().get("payment_id") or answer.json()["id"]
        return answer

    async def figures(self) -> tuple[str, int, int]:
        payment = await self.shop.payment(self.payment_id)
        return payment["status"], payment["captured_amount"], payment["refunded_amount"]

    def moves(self, reference: str) -> list[str]:
        """What the processor was asked for this operation that can move money."""
        return [a.kind for a in self.player.moves(self.shop.login) if a.invoice == reference]


async def prepared(player: Player, shop: Shop, wanted: list[tuple[Line, bool]]) -> list[Case]:
    """A case for each, with the payment it needs; those of a refund have settled."""

    async def one(line: Line, done: bool) -> Case:
        case = Case(player, shop, line, done, next(NUMBERS))
        if line.kind not in ("sale", "authorize"):
            capture = "manual" if line.kind == "capture" else "automatic"
            payment = await shop.paid(capture=capture)
            case.payment_id = payment["id"]
            case.transaction_id = payment["processor"]["transaction_id"]
        return case

    cases = [await one(line, done) for line, done in wanted if line.kind == "refund"]
    if cases:
        await player.post("/settle")
    return cases + [await one(line, done) for line, done in wanted if line.kind != "refund"]


class Kept(NamedTuple):
    """An operation's row, and the types of its events."""

    reference: str
    state: str
    code: str | None
    decline_code: str | None
    finding: str | None
    events: list[str]


async def kept(stack: Stack, shop: Shop) -> dict[tuple[uuid.UUID, str], Kept]:
    """What the database keeps of every operation of a shop, by payment and kind."""
    rows = await stack.fetch(
        "SELECT o.payment_id, o.kind, o.reference, o.state, o.processor_code, o.decline_code,"
        "       o.evidence->>'finding',"
        "       array(SELECT e.type FROM events e WHERE e.merchant_id = o.merchant_id"
        "              AND e.operation_id = o.id ORDER BY e.id)"
        "  FROM operations o WHERE o.merchant_id = $1",
        shop.merchant_id,
    )
    return {(row[0], row[1]): Kept(*row[2:]) for row in map(tuple, rows)}


def test_every_answer_to_what_moves_money_is_in_the_table() -> None:
    answers = {
        name
        for name, text in bodies.TEXT.items()
        if not text.startswith("{") or "transactionResponse" in text or '"E0' in text
    }
    others = {"review_approved", "released", "unknown_id"}  # to a review, and to an inquiry
    known = {line.body for line in LINES} | others
    assert answers <= known, answers - known
    assert {line.body for line in LINES} - {LOST} <= set(bodies.TEXT)
    assert all(bodies.SOURCES.values())


def expected(line: Line) -> tuple[int, str, str, str]:
    """By what is proven of which kind: the answer's status, what it says (the status of the
    payment or refund, or the problem's code), the payment's status afterwards, and the event."""
    status = DONE[line.kind][line.proves != "done"][0]
    creates, refund = line.kind in ("sale", "authorize"), line.kind == "refund"
    match line.proves:
        case "done":
            word = "succeeded" if refund else status
            return 201, word, status, "refund.succeeded" if refund else f"payment.{status}"
        case "held":
            return 201, "in_review", "in_review", "payment.in_review"
        case "declined" if creates:
            return 201, "declined", "declined", "payment.declined"
        case "declined" if refund:
            return 201, "failed", status, "refund.failed"
        case _:
            event = "payment.failed" if creates else f"{line.kind}.failed"
            problem = PROBLEM.get(line.decline_code or "", "processor_rejected")
            return PROBLEMS[problem].status, problem, status, event


@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_body_proves_is_what_everybody_is_told(
    player: Player, shared_stack: Stack, shop: Shop, kind: str
) -> None:
    """Once each, and the same again for the same key."""
    wanted = [line for line in LINES if line.kind == kind and line.proves not in OPEN_STATES]
    takes = {line: line.proves in ("done", "held") or line.body in IN_PART for line in wanted}
    cases = await prepared(player, shop, list(takes.items()))
    answers = [await case.answered() for case in cases]
    rows = await kept(shared_stack, shop)
    for case, answer in zip(cases, answers, strict=True):
        line, said = case.line, answer.json()
        where = (line, answer.text)
        http_status, word, status, event = expected(line)
        assert answer.status_code == http_status, where
        assert said["code" if http_status >= 400 else "status"] == word, where
        assert await case.figures() == (status, *DONE[kind][line.proves != "done"][1:]), where
        row = rows[payment_uuid(case.payment_id), kind]
        assert (row.state, row.events) == (STATE[line.proves], [event]), where
        assert (row.code, row.decline_code) == (line.code, line.decline_code), where
        if http_status >= 400:
            shown = (said["processor_code"], said["decline_code"])
            assert shown == (line.code, line.decline_code), where
        elif kind == "refund" or line.proves != "done":
            shown = (said["processor"]["code"], said["decline_code"])
            assert shown == (line.code, line.decline_code), where

        asked = case.moves(row.reference)
        assert asked == [TYPE[kind], *([VOID] if line.body in IN_PART else [])], where
        again = await case.ask()
        assert (again.status_code, again.content) == (http_status, answer.content), where
        assert again.headers["idempotency-replayed"] == "true"
        assert case.moves(row.reference) == asked, where
    assert await audit(shared_stack, shop) == []


async def test_a_refused_account_keeps_nothing_and_the_same_key_is_taken_up_again(
    player: Player, shared_stack: Stack, shop: Shop
) -> None:
    """502 to each kind of operation; once the account is right the key does it, once."""
    lines = [line for line in LINES if line.proves == "not_sent"]
    cases = await prepared(player, shop, [(line, False) for line in lines])
    for case in cases:
        answer = await case.answered_once()
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (502, "processor_account_refused"), case
        assert int(answer.headers["retry-after"]) == 30
        assert "idempotency-replayed" not in answer.headers
        key = await shop.client.get(f"/idempotency-keys/{case.key}")
        assert (key.json()["state"], key.json()["reply_status"]) == ("not_sent", None)
        again = await case.ask()
        assert again.status_code == 201, (case.line, again.text)
        case.payment_id = case.payment_id or again.json()["id"]
        assert await case.figures() == DONE[case.line.kind][0], case.line
    assert await audit(shared_stack, shop) == []
    log = shared_stack.processes[0].logs()
    assert f"the processor refuses the test account of merchant mer_{shop.merchant_id.hex}" in log
    assert shop.login not in log


@pytest.mark.parametrize("done", [True, False], ids=["done", "never-done"])
async def test_what_proves_nothing_is_left_open_and_ends_by_proof(
    player: Player, shared_stack: Stack, shop: Shop, done: bool
) -> None:
    """All at once: each is 202, is asked about, and ends as the processor's books have it."""
    wanted: dict[str, list[Line]] = {}
    for line in LINES:
        if line.proves == "unknown":
            wanted.setdefault(line.body, []).append(line)
    if not done:  # each inquiry is made many times until absence is believed: each body once
        wanted = {b: [each[n % len(each)]] for n, (b, each) in enumerate(wanted.items())}
    lines = list(itertools.chain.from_iterable(wanted.values()))
    cases = await prepared(player, shop, [(line, done) for line in lines])
    answers = await asyncio.gather(*(case.answered() for case in cases))
    for case, answer in zip(cases, answers, strict=True):
        assert answer.status_code == 202, (case.line, answer.text)
        assert answer.json()["status"] == OPEN[case.line.kind], case.line

    left: list[Any] = []

    async def ended() -> bool:
        left[:] = await shared_stack.fetch(
            "SELECT o.kind, u.last_finding FROM unresolved_operations u"
            "  JOIN operations o ON o.merchant_id = u.merchant_id AND o.id = u.operation_id"
            " WHERE u.merchant_id = $1",
            shop.merchant_id,
        )
        return not left

    try:
        await until(ended, what="everything is known")
    except AssertionError as error:
        raise AssertionError(f"{error}: {left}") from None
    rows = await kept(shared_stack, shop)
    for case, answer in zip(cases, answers, strict=True):
        kind = case.line.kind
        row = rows[payment_uuid(case.payment_id), kind]
        where = (case.line, row)
        assert row.state == ("approved" if done else "absent"), where
        assert row.finding is not None, where
        assert row.finding.startswith("found: " if done else "absent: "), where
        assert len(row.events) == 1, where
        assert await case.figures() == DONE[kind][not done], where
        again = await case.ask()
        assert (again.status_code, again.content) == (202, answer.content), where
        assert case.moves(row.reference) == [TYPE[kind]], where
    assert await audit(shared_stack, shop) == []


DETAILS: Final = "getTransactionDetailsRequest"
LIST: Final = "getUnsettledTransactionListRequest"
NO_REPORT: Final = [
    (DETAILS, "details_wrapped"),
    (DETAILS, "unknown_id"),
    (LIST, "listed_wrapped"),
    *((method, said) for method in (DETAILS, LIST) for said in ("html_500", "busy", LOST)),
    *((method, said) for method in (DETAILS, LIST) for said in ("truncated", "elsewhere")),
]
SILENT: Final = 12
"""So many inquiries take longer than the gateway needs to take two absences for proof."""


async def test_a_report_that_says_nothing_ends_nothing(
    player: Player, shared_stack: Stack, gateway: Gateway
) -> None:
    """For longer than it takes to believe in absence. The reference shows two reports inside their
    XML roots: were one to come so, it is neither the payment nor its absence."""

    async def one(method: str, said: str) -> None:
        shop = await shared_stack.shop(gateway)
        for _ in range(SILENT):
            player.tell(f"{shop.login} {method}", said)
        order = f"order-{next(NUMBERS)}"
        player.tell(order, LOST, done=True)
        first = await shop.pay(order_reference=order)
        assert (first.status_code, first.json()["status"]) == (202, "processing")
        after = await shop.becomes(first.json()["id"], "captured", "failed")
        assert (after["status"], after["captured_amount"]) == ("captured", 2500), (method, said)
        (operation,) = await shop.all(f"/payments/{after['id']}/operations")
        assert operation["evidence"]["inquiries"] == SILENT + 1, (method, said)
        reports = [a.said for a in player.asked if (a.login, a.method) == (shop.login, method)]
        assert reports[:SILENT] == [said] * SILENT
        assert [asked.kind for asked in player.moves(shop.login)] == [SALE], (method, said)
        assert await audit(shared_stack, shop) == []

    await asyncio.gather(*(one(*each) for each in NO_REPORT))


async def test_the_brand_is_known_in_either_spelling(
    player: Player, shared_stack: Stack, shop: Shop
) -> None:
    """A token does not show its card; the answer does, and the reference writes Mastercard where
    the schema has MasterCard."""
    for body in ("authorized_mastercard", "captured_plain"):
        token = await mint_token(player, shop.login)
        player.tell(body, body, done=True)
        method = {"type": "accept_token", "accept_token": token}
        payment = await shop.paid(payment_method=method, order_reference=body)
        shown = payment["payment_method"]
        assert (shown["brand"], shown["last4"]) == ("mastercard", "0015")
    assert await audit(shared_stack, shop) == []


async def test_the_player_tells_of_whoever_asks_twice(player: Player, shop: Shop) -> None:
    """What every test here relies on when it is silent."""
    sale = {
        "transactionType": SALE,
        "amount": "25.00",
        "currencyCode": "USD",
        "payment": {"creditCard": {"cardNumber": VISA, "expirationDate": "2035-12"}},
        "order": {"invoiceNumber": "A"},
    }
    body = {
        "createTransactionRequest": {
            "merchantAuthentication": {"name": f"{shop.login}-twice", "transactionKey": "key"},
            "refId": "A",
            "transactionRequest": sale,
        }
    }
    await player.post("/accounts", login=f"{shop.login}-twice", currencies=["USD"])
    async with httpx.AsyncClient() as client:
        for wrong in ([], [f"A: {SALE} after {SALE}: approved"]):
            answer = await client.post(player.wire, json=body)
            assert b"This transaction has been approved." in answer.content
            assert player.broken_rules(f"{shop.login}-twice") == wrong
