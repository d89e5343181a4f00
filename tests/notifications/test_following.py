"""Whatever comes of notifications, and in whatever order, everything ends as it would without them;
only sooner. In this stack nothing is asked by schedule for an hour: only notifications make it due.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from itertools import permutations
from typing import Any

import httpx
import msgspec
import pytest

from easypay import ids
from easypay.notifications import store
from harness import (
    QUICK,
    Shop,
    Stack,
    all_known,
    audit,
    http_client,
    own_stack,
    payment_uuid,
    until,
)
from notifications.notified import KEY, Notified, event, notified

SLOW = QUICK | {
    "unknown_first_inquiry_s": "3600",
    "unknown_interval_s": "3600",
    "unknown_absent_after_s": "3600",
    "review_interval_s": "3600",
    "resolver_poll_s": "0.3",
    "processor_deadline_s": "10.0",
}
slow = own_stack(**SLOW)


@pytest.fixture(scope="module")
async def following(slow: Stack) -> Stack:
    """A stack with a worker, in which nothing is asked by schedule."""
    await slow.worker(processor_deadline_s=SLOW["processor_deadline_s"]).logged("working on")
    return slow


@pytest.fixture
async def told(following: Stack) -> AsyncIterator[Notified]:
    made = await notified(following, following.only_gateway)
    yield made
    await following.simulator.clear_faults()
    await made.close()


async def as_person(stack: Stack, login: str, root: str, **body: Any) -> dict[str, Any]:
    """Send a request to the processor, as a person does there; return its reply."""
    authentication = {"name": login, "transactionKey": KEY}
    async with http_client() as client:
        answer = await client.post(
            stack.simulator.wire, json={root: {"merchantAuthentication": authentication, **body}}
        )
    assert b'"resultCode":"Ok"' in answer.content, answer.text
    found: dict[str, Any] = msgspec.json.decode(answer.content.decode("utf-8-sig"))
    return found


async def hold_large_charges(stack: Stack, login: str) -> None:
    await stack.simulator.post(
        "/settings", login=login, held_above="10.00", held_action="authAndHold"
    )


async def decide(stack: Stack, login: str, payment: dict[str, Any], action: str) -> None:
    held = {"action": action, "refTransId": payment["processor"]["transaction_id"]}
    await as_person(stack, login, "updateHeldTransactionRequest", heldTransactionRequest=held)


async def types_of(shop: Shop, payment_id: str) -> list[str]:
    return [each["type"] for each in await shop.all(f"/payments/{payment_id}/events")]


async def test_a_reference_of_a_far_year_finds_nothing(following: Stack) -> None:
    async with following.sessions.session() as connection:
        far = "ZZZZZZZZZXZZZFZZZZZZ"
        assert await store.find(connection, b"", far, abandoned_after_s=60.0) is None


# one payment --------------------------------------------------------------------------------------


async def test_a_lost_reply_is_known_as_soon_as_the_processor_tells(told: Notified) -> None:
    await told.listen()
    shop, simulator = told.shop, told.stack.simulator
    await simulator.fault("webhook_duplicate", shop.login)
    await simulator.fault("drop_reply", shop.login, transaction_type="authCaptureTransaction")
    payment = (await shop.pay()).json()
    assert payment["status"] == "processing"
    await shop.becomes(payment["id"], "captured")
    await told.followed()
    assert await types_of(shop, payment["id"]) == ["payment.captured"]
    (operation,) = await shop.all(f"/payments/{payment['id']}/operations")
    assert operation["evidence"]["source"] == "inquiry", "the processor was asked"
    assert len(await told.rows()) == 1
    assert not await told.wants_books()
    assert await audit(told.stack, shop) == []


async def test_a_notification_before_the_reply_changes_nothing(told: Notified) -> None:
    """The reply comes first, however long the notification has been here; the approval counts
    once."""
    await told.listen()
    shop = told.shop
    await told.stack.simulator.slow(shop.login, ms=300)
    paying = asyncio.create_task(shop.pay())

    async def arrived() -> bool:
        return len(await told.rows()) == 1

    await until(arrived)
    payment = (await paying).json()
    assert payment["status"] == "captured"
    await told.followed()
    assert await types_of(shop, payment["id"]) == ["payment.captured"]
    (operation,) = await shop.all(f"/payments/{payment['id']}/operations")
    assert operation["evidence"] is None, "its reply was the proof"
    assert not await told.wants_books()
    assert await audit(told.stack, shop) == []


@pytest.mark.parametrize(("action", "status"), [("approve", "captured"), ("decline", "declined")])
async def test_a_review_ends_here_when_it_ends_there(
    told: Notified, action: str, status: str
) -> None:
    await told.listen()
    shop = told.shop
    await hold_large_charges(told.stack, shop.login)
    payment = await shop.paid(2500)
    assert payment["status"] == "in_review"
    await told.followed()
    assert (await shop.payment(payment["id"]))["status"] == "in_review"
    await decide(told.stack, shop.login, payment, action)
    await shop.becomes(payment["id"], status)
    await told.followed()
    assert await types_of(shop, payment["id"]) == ["payment.in_review", f"payment.{status}"]
    assert await audit(told.stack, shop) == []


async def test_a_void_at_the_portal_is_for_the_books(told: Notified) -> None:
    """No operation of ours did it, so a person has to see it: the payment stays as it is."""
    await told.listen()
    shop = told.shop
    payment = await shop.paid()
    await told.followed()
    assert not await told.wants_books()
    void = {
        "transactionType": "voidTransaction",
        "refTransId": payment["processor"]["transaction_id"],
    }
    await as_person(told.stack, shop.login, "createTransactionRequest", transactionRequest=void)

    async def seen() -> bool:
        return await told.wants_books()

    await until(seen)
    await told.followed()
    assert (await shop.payment(payment["id"]))["status"] == "captured"


async def test_a_late_charge_is_found_and_given_back_at_once(told: Notified) -> None:
    """The operation was called absent, and would be looked for tomorrow."""
    shop, stack = told.shop, told.stack
    await stack.simulator.fault("drop_reply", shop.login, transaction_type="authCaptureTransaction")
    payment = (await shop.pay()).json()
    of = (shop.merchant_id, payment_uuid(payment["id"]))
    for sql in (
        "UPDATE operations SET state = 'absent', finished_at = db_now()"
        " WHERE merchant_id = $1 AND payment_id = $2",
        "UPDATE payments SET status = 'failed', active_operation = NULL"
        " WHERE merchant_id = $1 AND id = $2",
        "DELETE FROM unresolved_operations WHERE merchant_id = $1 AND payment_id = $2",
    ):
        await stack.fetch(sql, *of)
    await stack.fetch(
        "INSERT INTO watched_operations (merchant_id, operation_id, payment_id, account, purpose,"
        " since, until, next_look_at)"
        " SELECT merchant_id, id, payment_id, $3, 'absent', db_now(), db_now() + interval '3 days',"
        " db_now() + interval '1 day' FROM operations WHERE merchant_id = $1 AND payment_id = $2",
        *(*of, told.account),
    )
    own = "SELECT reference FROM operations WHERE merchant_id = $1 AND payment_id = $2"
    reference = await stack.value(own, *of)
    await told.tell(event(reference=reference, invoice=reference))

    async def returned() -> bool:
        states = "SELECT state FROM late_charges WHERE merchant_id = $1 AND payment_id = $2"
        return [row["state"] for row in await stack.fetch(states, *of)] == ["returned"]

    await until(returned)
    assert {row["status"] for row in await stack.simulator.truth(login=shop.login)} == {"voided"}
    assert await told.wants_books()


async def test_what_no_operation_explains_is_for_the_books(told: Notified) -> None:
    reference = ids.reference(ids.new_id())
    assert (await told.tell(event(reference=reference, invoice=reference))).status_code == 200
    await until(told.wants_books)
    await told.followed()
    assert len(await told.rows()) == 1
    assert await told.shop.all("/payments") == []


async def test_what_a_notification_says_is_not_believed(told: Notified) -> None:
    """They are signed, and still nothing moves: the processor says otherwise."""
    shop = told.shop
    await hold_large_charges(told.stack, shop.login)
    held = await shop.paid(2500)
    authorized = await shop.paid(900, capture="manual")
    references = {
        row["payment_id"].hex: row["reference"]
        for row in await told.stack.fetch(
            "SELECT payment_id, reference FROM operations WHERE merchant_id = $1", shop.merchant_id
        )
    }
    for payment, happened in (
        (held, "fraud.approved"),
        (held, "authcapture.created"),
        (held, "void.created"),
        (authorized, "priorAuthCapture.created"),
        (authorized, "void.created"),
        (authorized, "refund.created"),
    ):
        reference = references[payment["id"].removeprefix("pay_")]
        body = event(happened, invoice=reference, authAmount=1.0)
        assert (await told.tell(body)).status_code == 200

    async def all_looked_at() -> bool:
        tries = "SELECT coalesce(min(attempt), 2) FROM notification_work WHERE account = $1"
        return bool(await told.stack.value(tries, told.account) >= 2)

    await until(all_looked_at)
    for payment in (held, authorized):
        assert await shop.payment(payment["id"]) == payment
    assert await audit(told.stack, shop) == []


# many orders --------------------------------------------------------------------------------------


async def test_all_orders_of_five_end_in_the_same_state(following: Stack) -> None:
    """Of a sale whose reply was lost; of a capture, a refund and a void of it that nobody made; and
    of a charge that nobody knows: a payment for each of the 120 orders."""
    told = await notified(following, following.only_gateway)
    shop, orders = told.shop, list(permutations(range(5)))
    await following.simulator.fault(
        "drop_reply", shop.login, transaction_type="authCaptureTransaction", count=len(orders)
    )
    room = asyncio.Semaphore(8)

    async def pay_and_tell(order: tuple[int, ...]) -> None:
        async with room:
            payment = (await shop.pay(2500)).json()
            assert payment["status"] == "processing"
            of = "SELECT reference FROM operations WHERE merchant_id = $1 AND payment_id = $2"
            own = await following.value(of, shop.merchant_id, payment_uuid(payment["id"]))
            things = (
                ("authcapture.created", own),
                ("priorAuthCapture.created", own),
                ("refund.created", own),
                ("void.created", own),
                ("authcapture.created", ids.reference(ids.new_id())),
            )
            for nth in order:
                happened, reference = things[nth]
                body = event(happened, reference=reference, invoice=reference)
                assert (await told.tell(body)).status_code == 200

    await asyncio.gather(*map(pay_and_tell, orders))
    await all_known(following, shop, within_s=60)
    payments = await shop.all("/payments")
    assert len(payments) == len(orders)
    assert {(each["status"], each["refunded_amount"]) for each in payments} == {("captured", 0)}
    types = Counter(
        row["type"]
        for row in await following.fetch(
            "SELECT type FROM events WHERE merchant_id = $1", shop.merchant_id
        )
    )
    assert types == {"payment.captured": len(orders)}, "each approval counts once"
    assert await told.wants_books(), "of what nobody here has done"
    assert len(await told.rows()) == 5 * len(orders)
    assert await audit(following, shop) == []
    await told.close()


async def test_whoever_gets_none_ends_in_the_same_state(
    told: Notified, shared_stack: Stack, shop: Shop
) -> None:
    """The same story twice: with notifications, twice each and in reverse; and with none of them
    but the usual schedule."""
    await told.listen()
    for kind, count in (("webhook_reorder", 2), ("webhook_duplicate", 4)):
        await told.stack.simulator.fault(kind, told.shop.login, count=count)

    async def story(stack: Stack, of: Shop) -> Any:
        await hold_large_charges(stack, of.login)
        held = await of.paid(2500)
        await stack.simulator.fault("drop_reply", of.login, transaction_type="authOnlyTransaction")
        lost = (await of.pay(900, capture="manual")).json()
        await decide(stack, of.login, held, "approve")
        await of.becomes(held["id"], "captured")
        await of.becomes(lost["id"], "authorized")
        await stack.simulator.fault("drop_reply", of.login, transaction_type="voidTransaction")
        assert (await of.void(lost["id"])).status_code == 202
        await of.becomes(lost["id"], "voided")
        await all_known(stack, of)
        assert await audit(stack, of) == []
        payments = await of.all("/payments")
        return [
            (each["status"], each["captured_amount"], await types_of(of, each["id"]))
            for each in payments
        ]

    assert await story(told.stack, told.shop) == await story(shared_stack, shop)
    await told.followed()


async def test_nobody_is_asked_before_the_answer(told: Notified) -> None:
    """So a processor that hangs delays no answer; and what we do not know is not asked about."""
    references = [ids.reference(ids.new_id()) for _ in range(50)]
    answers: list[httpx.Response] = await asyncio.gather(
        *(told.tell(event(invoice=reference)) for reference in references)
    )
    assert {answer.status_code for answer in answers} == {200}
    assert len(await told.rows()) == 50
    called = await told.stack.simulator.client.get("/calls", params={"login": told.shop.login})
    assert called.json()["calls"] == []
    await told.stack.fetch("DELETE FROM notification_work WHERE account = $1", told.account)
