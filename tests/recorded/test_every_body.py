"""Every recorded body, played to a whole gateway as the answer to each kind of operation.

The table says what each body proves; the payment, its operation, events and replay, and the
processor's records must agree. A body that proves nothing gives 202; an inquiry decides later.
"""

import asyncio
import itertools
import uuid
from dataclasses import dataclass
from typing import Final, NamedTuple

import httpx
import pytest

from breadth import TIMES
from easypay.problem_table import PROBLEMS
from harness import (
    VISA,
    Gateway,
    Shop,
    Stack,
    all_known,
    audit,
    http_client,
    mint_token,
    payment_uuid,
)
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
"""Numbers the orders; a body is scripted for each order."""

TYPE: Final = dict(zip(KINDS, (SALE, AUTHORIZATION, CAPTURE, VOID, REFUND), strict=True))
DONE: Final = {
    # kind: the payment's status, captured and refunded amounts if it is done, and if not
    "sale": (("captured", 2500, 0), ("failed", 0, 0)),
    "authorize": (("authorized", 0, 0), ("failed", 0, 0)),
    "capture": (("captured", 2000, 0), ("authorized", 0, 0)),
    "void": (("voided", 0, 0), ("captured", 2500, 0)),
    "refund": (("captured", 2500, 900), ("captured", 2500, 0)),
}
IN_PART: Final = ("partial", "partial_open")
"""Partial approvals, which are voided and then reported as declines."""
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
"""By decline code; any other is processor_rejected."""
OPEN: Final = {
    "sale": "processing",
    "authorize": "processing",
    "capture": "authorized",
    "void": "captured",
    "refund": "processing",
}
"""The status of the payment, or of the refund, while the outcome is unknown."""


@dataclass
class Case:
    """One operation that is answered with one body."""

    player: Player
    shop: Shop
    line: Line
    done: bool
    """Whether the processor executes it, whatever it answers."""
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
        """Send the request, which gets the body as its answer."""
        about = self.transaction_id or f"order-{self.number}"
        self.player.script(about, self.line.body, done=self.done, kind=TYPE[self.line.kind])
        return await self.ask()

    async def answered(self) -> httpx.Response:
        """The same, and remember the payment it creates."""
        answer = await self.answered_once()
        if not self.payment_id:
            self.payment_id = answer.json().get("payment_id") or answer.json()["id"]
        return answer

    async def figures(self) -> tuple[str, int, int]:
        payment = await self.shop.payment(self.payment_id)
        return payment["status"], payment["captured_amount"], payment["refunded_amount"]

    def moves(self, reference: str) -> list[str]:
        """Return the kinds of request that could move money for this operation."""
        return [a.kind for a in self.player.moves(self.shop.login) if a.invoice == reference]


async def prepared(player: Player, shop: Shop, wanted: list[tuple[Line, bool]]) -> list[Case]:
    """Return a case for each, with the payment it needs, which has settled for a refund."""

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


class Stored(NamedTuple):
    """An operation's row, and the types of its events."""

    reference: str
    state: str
    code: str | None
    decline_code: str | None
    finding: str | None
    events: list[str]


async def stored(stack: Stack, shop: Shop) -> dict[tuple[uuid.UUID, str], Stored]:
    """Return the stored operations of a shop, by payment and kind."""
    rows = await stack.fetch(
        "SELECT o.payment_id, o.kind, o.reference, o.state, o.processor_code, o.decline_code,"
        "       o.evidence->>'finding',"
        "       array(SELECT e.type FROM events e WHERE e.merchant_id = o.merchant_id"
        "              AND e.operation_id = o.id ORDER BY e.id)"
        "  FROM operations o WHERE o.merchant_id = $1",
        shop.merchant_id,
    )
    return {(row[0], row[1]): Stored(*row[2:]) for row in map(tuple, rows)}


def test_every_answer_to_a_money_request_is_in_the_table() -> None:
    answers = {
        name
        for name, text in bodies.TEXT.items()
        if not text.startswith("{") or "transactionResponse" in text or '"E0' in text
    }
    others = {"review_approved", "released", "unknown_id"}  # for reviews and inquiries
    known = {line.body for line in LINES} | others
    assert answers <= known, answers - known
    assert {line.body for line in LINES} - {LOST} <= set(bodies.TEXT)
    assert all(bodies.SOURCES.values())


def expected(line: Line) -> tuple[int, str, str, str]:
    """Return the HTTP status, the status of the payment or refund (or the problem's code), the
    payment's status afterwards, and the event."""
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
        case "declined" | "refused":
            event = "payment.failed" if creates else f"{line.kind}.failed"
            problem = PROBLEM.get(line.decline_code or "", "processor_rejected")
            return PROBLEMS[problem].status, problem, status, event
    raise AssertionError(f"{line} leaves the outcome open")


@pytest.mark.parametrize("kind", KINDS)
async def test_answers_rows_and_events_say_what_the_body_proves(
    player: Player, shared_stack: Stack, shop: Shop, kind: str
) -> None:
    """Each once; a repeat with the same key gets the same answer."""
    wanted = [line for line in LINES if line.kind == kind and line.proves not in OPEN_STATES]
    takes = {line: line.proves in ("done", "held") or line.body in IN_PART for line in wanted}
    cases = await prepared(player, shop, list(takes.items()))
    answers = [await case.answered() for case in cases]
    rows = await stored(shared_stack, shop)
    for case, answer in zip(cases, answers, strict=True):
        line, reply = case.line, answer.json()
        where = (line, answer.text)
        http_status, word, status, event = expected(line)
        assert answer.status_code == http_status, where
        assert reply["code" if http_status >= 400 else "status"] == word, where
        assert await case.figures() == (status, *DONE[kind][line.proves != "done"][1:]), where
        row = rows[payment_uuid(case.payment_id), kind]
        assert (row.state, row.events) == (STATE[line.proves], [event]), where
        assert (row.code, row.decline_code) == (line.code, line.decline_code), where
        if http_status >= 400:
            shown = (reply["processor_code"], reply["decline_code"])
            assert shown == (line.code, line.decline_code), where
        elif kind == "refund" or line.proves != "done":
            shown = (reply["processor"]["code"], reply["decline_code"])
            assert shown == (line.code, line.decline_code), where

        asked = case.moves(row.reference)
        assert asked == [TYPE[kind], *([VOID] if line.body in IN_PART else [])], where
        again = await case.ask()
        assert (again.status_code, again.content) == (http_status, answer.content), where
        assert again.headers["idempotency-replayed"] == "true"
        assert case.moves(row.reference) == asked, where
    assert await audit(shared_stack, shop) == []


async def test_a_refused_account_leaves_the_key_free_for_a_repeat(
    player: Player, shared_stack: Stack, shop: Shop
) -> None:
    """Each kind of operation gets 502; once the account works, the same key executes it once."""
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


@pytest.mark.breadth
@pytest.mark.parametrize("done", [True, False], ids=["done", "never-done"])
async def test_a_body_that_proves_nothing_leaves_the_outcome_to_inquiries(
    player: Player, shared_stack: Stack, shop: Shop, done: bool
) -> None:
    """All at once: each gets 202, is inquired about, and ends as the processor's records say. Each
    body is the answer to one kind of operation, to another one if it is done; in `make breadth` to
    every kind. That the client takes it for unknown is tested for every kind
    (processors/test_recorded_bodies.py)."""
    wanted: dict[str, list[Line]] = {}
    for line in LINES:
        if line.proves == "unknown":
            wanted.setdefault(line.body, []).append(line)
    if not (done and TIMES):  # proving absence takes many inquiries: each body once, even there
        wanted = {
            body: [each[(n + 2 * done) % len(each)]]
            for n, (body, each) in enumerate(wanted.items())
        }
    lines = list(itertools.chain.from_iterable(wanted.values()))
    cases = await prepared(player, shop, [(line, done) for line in lines])
    answers = await asyncio.gather(*(case.answered() for case in cases))
    for case, answer in zip(cases, answers, strict=True):
        assert answer.status_code == 202, (case.line, answer.text)
        assert answer.json()["status"] == OPEN[case.line.kind], case.line
    await all_known(shared_stack, shop)
    rows = await stored(shared_stack, shop)
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
    *((method, body) for method in (DETAILS, LIST) for body in ("html_500", "busy", LOST)),
    *((method, body) for method in (DETAILS, LIST) for body in ("truncated", "elsewhere")),
]
SILENT: Final = 12
"""So many inquiries take longer than the two absences that count as proof."""


async def test_a_report_that_proves_nothing_leaves_the_outcome_unknown(
    player: Player, shared_stack: Stack, gateway: Gateway
) -> None:
    """It lasts longer than proving absence takes. The API reference shows two reports inside their
    XML roots: such a report proves neither the payment nor its absence."""

    async def one(method: str, body: str) -> None:
        shop = await shared_stack.shop(gateway)
        for _ in range(SILENT):
            player.script(f"{shop.login} {method}", body)
        order = f"order-{next(NUMBERS)}"
        player.script(order, LOST, done=True)
        first = await shop.pay(order_reference=order)
        assert (first.status_code, first.json()["status"]) == (202, "processing")
        after = await shop.becomes(first.json()["id"], "captured", "failed")
        assert (after["status"], after["captured_amount"]) == ("captured", 2500), (method, body)
        (operation,) = await shop.all(f"/payments/{after['id']}/operations")
        assert operation["evidence"]["inquiries"] == SILENT + 1, (method, body)
        reports = [a.body for a in player.requests if (a.login, a.method) == (shop.login, method)]
        assert reports[:SILENT] == [body] * SILENT
        assert [asked.kind for asked in player.moves(shop.login)] == [SALE], (method, body)
        assert await audit(shared_stack, shop) == []

    await asyncio.gather(*(one(*each) for each in NO_REPORT))


async def test_both_spellings_of_a_brand_are_known(
    player: Player, shared_stack: Stack, shop: Shop
) -> None:
    """Only the answer shows a token's card brand. The API reference writes Mastercard, the schema
    MasterCard."""
    for body in ("authorized_mastercard", "captured_plain"):
        token = await mint_token(player, shop.login)
        player.script(body, body, done=True)
        method = {"type": "accept_token", "accept_token": token}
        payment = await shop.paid(payment_method=method, order_reference=body)
        shown = payment["payment_method"]
        assert (shown["brand"], shown["last4"]) == ("mastercard", "0015")
    assert await audit(shared_stack, shop) == []


async def test_the_player_reports_a_repeated_money_request(player: Player, shop: Shop) -> None:
    """The tests here rely on this check."""
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
    async with http_client() as client:
        for wrong in ([], [f"A: {SALE} after {SALE}: approved"]):
            answer = await client.post(player.wire, json=body)
            assert b"This transaction has been approved." in answer.content
            assert player.broken_rules(f"{shop.login}-twice") == wrong
