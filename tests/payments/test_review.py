"""What a fraud filter holds: it waits, is followed, and ends however it ends at the processor."""

import asyncio
from typing import Any

import asyncpg
import httpx
import pytest

from harness import QUICK, Gateway, Shop, Simulator, Stack, audit, payment_uuid, until

pytestmark = pytest.mark.over("simulated", "recorded")


async def suspicious(stack: Stack, shop: Shop, *, action: str = "authAndHold") -> None:
    """From now on, what this shop charges above 10.00 is held."""
    await stack.simulator.post(
        "/settings", login=shop.login, held_above="10.00", held_action=action
    )


async def at_the_processor(stack: Stack, shop: Shop, root: str, **body: Any) -> None:
    """A person at the processor does something with the shop's account."""
    request = {
        root: {
            "merchantAuthentication": {"name": shop.login, "transactionKey": "simulated-key-1"},
            **body,
        }
    }
    async with httpx.AsyncClient() as client:
        answer = await client.post(stack.simulator.wire, json=request)
    assert b'"resultCode":"Ok"' in answer.content, answer.text


async def decides(stack: Stack, shop: Shop, payment: dict[str, Any], action: str) -> None:
    """The reviewer at the processor decides."""
    held = {"action": action, "refTransId": payment["processor"]["transaction_id"]}
    await at_the_processor(stack, shop, "updateHeldTransactionRequest", heldTransactionRequest=held)


async def listed(stack: Stack, shop: Shop) -> list[bool]:
    """Whether each of the shop's rows on the resolver's list is held."""
    rows = await stack.fetch(
        "SELECT held FROM unresolved_operations WHERE merchant_id = $1", shop.merchant_id
    )
    return [row["held"] for row in rows]


async def told(shop: Shop, payment: dict[str, Any]) -> list[str]:
    """The types of a payment's events."""
    return [event["type"] for event in await shop.all(f"/payments/{payment['id']}/events")]


async def ended(stack: Stack, shop: Shop) -> None:
    """Nothing is asked about any more, and the books agree."""

    async def empty() -> bool:
        return not await listed(stack, shop)

    await until(empty, what="the review is off the list")
    assert await audit(stack, shop) == []


@pytest.mark.parametrize(
    ("capture", "action", "status", "captured"),
    [
        ("automatic", "approve", "captured", 2500),
        ("manual", "approve", "authorized", 0),
        ("automatic", "decline", "declined", 0),
        ("manual", "decline", "declined", 0),
    ],
)
async def test_a_reviewer_decides(
    shared_stack: Stack, shop: Shop, capture: str, action: str, status: str, captured: int
) -> None:
    await suspicious(shared_stack, shop)
    first = await shop.pay(2500, capture=capture, key="held")
    payment = first.json()
    assert (first.status_code, payment["status"]) == (201, "in_review"), first.text
    assert payment["processor"]["transaction_id"]
    assert await listed(shared_stack, shop) == [True], "followed, and not as an unknown"
    assert await audit(shared_stack, shop) == []

    await decides(shared_stack, shop, payment, action)
    after = await shop.becomes(payment["id"], "captured", "authorized", "declined")
    assert (after["status"], after["captured_amount"]) == (status, captured)
    for kept in ("transaction_id", "avs_result", "avs"):
        assert after["processor"][kept] == payment["processor"][kept]
    assert await told(shop, payment) == ["payment.in_review", f"payment.{status}"]
    (operation,) = await shop.all(f"/payments/{payment['id']}/operations")
    assert operation["evidence"]["source"] == "inquiry"
    again = await shop.pay(2500, capture=capture, key="held")
    assert (again.status_code, again.content) == (201, first.content)
    await ended(shared_stack, shop)
    if status == "authorized":
        assert (await shop.capture(payment["id"])).status_code == 201
    if status == "captured":
        assert (await shop.refund(payment["id"])).json()["method"] == "void"
    assert await audit(shared_stack, shop) == []


async def test_a_merchant_voids_what_is_in_review(shared_stack: Stack, shop: Shop) -> None:
    await suspicious(shared_stack, shop)
    payment = await shop.paid(2500)
    for refused in (await shop.refund(payment["id"]), await shop.capture(payment["id"])):
        assert (refused.status_code, refused.json()["code"]) == (409, "invalid_state")
    voided = await shop.void(payment["id"])
    assert (voided.status_code, voided.json()["status"]) == (201, "voided"), voided.text
    truth = await shared_stack.simulator.truth(login=shop.login)
    assert [row["status"] for row in truth] == ["voided", "voided"]
    assert await told(shop, payment) == ["payment.in_review", "payment.voided"]
    await ended(shared_stack, shop)


async def test_voided_at_the_processor_it_is_voided(shared_stack: Stack, shop: Shop) -> None:
    await suspicious(shared_stack, shop)
    payment = await shop.paid(2500)
    void = {
        "transactionType": "voidTransaction",
        "refTransId": payment["processor"]["transaction_id"],
    }
    (sale,) = await shared_stack.simulator.truth(login=shop.login)
    await at_the_processor(
        shared_stack,
        shop,
        "createTransactionRequest",
        transactionRequest={**void, "order": {"invoiceNumber": sale["invoice_number"]}},
    )
    after = await shop.becomes(payment["id"], "voided")
    assert after["processor"]["transaction_id"] == payment["processor"]["transaction_id"]
    await ended(shared_stack, shop)


async def test_nobody_decides_and_it_runs_out(stack: Stack) -> None:
    """Its own simulator, whose clock may jump."""
    stack.simulator = await Simulator(stack.folder).ready()
    stack.processes.append(stack.simulator)
    gateway = await stack.gateway(review_interval_s="0.3", resolver_poll_s="0.1")
    ends = {"hold": "expired", "authAndHold": "voided"}  # an authorized one is let go by a void
    shops = [await stack.shop(gateway) for _ in ends]
    payments = []
    for shop, action in zip(shops, ends, strict=True):
        await suspicious(stack, shop, action=action)
        payments.append(await shop.paid(2500, capture="manual"))
    assert [payment["status"] for payment in payments] == ["in_review", "in_review"]
    await stack.simulator.post("/clock", advance_s=6 * 86_400)
    for shop, payment, status in zip(shops, payments, ends.values(), strict=True):
        after = await shop.becomes(payment["id"], "expired", "voided", "declined")
        assert after["status"] == status
        assert await told(shop, payment) == ["payment.in_review", f"payment.{status}"]
        await ended(stack, shop)


async def test_held_though_its_answer_was_lost_it_is_followed_all_the_same(
    shared_stack: Stack, shop: Shop
) -> None:
    await suspicious(shared_stack, shop, action="hold")
    await shared_stack.simulator.post("/faults", kind="drop_reply", count=1, login=shop.login)
    answer = await shop.pay(2500)
    assert (answer.status_code, answer.json()["status"]) == (202, "processing")
    payment = await shop.becomes(answer.json()["id"], "in_review")
    assert await listed(shared_stack, shop) == [True]
    await decides(shared_stack, shop, payment, "approve")
    await shop.becomes(payment["id"], "captured")
    await ended(shared_stack, shop)


@pytest.mark.over("simulated")  # the list is ours: it matters little who the processor is
async def test_what_an_older_gateway_dropped_from_the_list_is_listed_again(
    shared_stack: Stack, shop: Shop
) -> None:
    await suspicious(shared_stack, shop)
    payment = await shop.paid(2500)
    await shared_stack.fetch(
        "DELETE FROM unresolved_operations WHERE merchant_id = $1", shop.merchant_id
    )
    await decides(shared_stack, shop, payment, "approve")
    successor = await shared_stack.gateway(review_interval_s="0.3", resolver_poll_s="0.1")
    try:
        await shop.becomes(payment["id"], "captured")
        await ended(shared_stack, shop)
    finally:
        successor.kill()


async def test_a_look_back_that_another_process_prevents_is_made_up_for(stack: Stack) -> None:
    """Only one looks back at a time. Whoever finds that another does must not wait ten minutes
    for its own turn: the other may be an older gateway, which does not know of reviews."""
    first = await stack.gateway(**QUICK)
    shop = await stack.shop(first)
    await suspicious(stack, shop)
    dropped, kept = [await shop.paid(2500) for _ in range(2)]
    first.kill()
    for payment in (dropped, kept):
        await decides(stack, shop, payment, "approve")
    await stack.fetch(
        "DELETE FROM unresolved_operations WHERE payment_id = $1", payment_uuid(dropped["id"])
    )
    other = await asyncpg.connect(stack.dsn)
    async with other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock(hashtext('easypay sweep'))")
        successor = await stack.gateway(**QUICK)
        shop = shop.at(successor.url)
        await shop.becomes(kept["id"], "captured")  # which it asks about after it tried to look
    await other.close()
    await shop.becomes(dropped["id"], "captured")
    await ended(stack, shop)


@pytest.mark.parametrize(
    ("action", "capture", "status"),
    [
        ("approve", "automatic", "captured"),
        ("approve", "manual", "authorized"),
        ("decline", "automatic", "declined"),
    ],
)
async def test_a_merchant_decides_from_here(
    shared_stack: Stack, shop: Shop, action: str, capture: str, status: str
) -> None:
    await suspicious(shared_stack, shop)
    payment = await shop.paid(2500, capture=capture)
    path = f"/payments/{payment['id']}/{action}"
    answer = await shop.post(path, key="decided")
    assert (answer.status_code, answer.json()["status"]) == (201, status), answer.text
    assert answer.json() == await shop.payment(payment["id"])
    again = await shop.post(path, key="decided")
    assert again.content == answer.content
    late = await shop.post(path)
    assert (late.status_code, late.json()["code"]) == (409, "invalid_state")
    assert await told(shop, payment) == ["payment.in_review", f"payment.{status}"]
    await ended(shared_stack, shop)
    operation = (await shop.all(f"/payments/{payment['id']}/operations"))[1]
    assert (operation["kind"], operation["state"]) == (action, "approved")


@pytest.mark.parametrize("action", ["approve", "decline"])
@pytest.mark.parametrize("fault", ["drop_reply", "error_before"])
async def test_a_decision_whose_answer_is_lost_is_found_or_proven_absent(
    shared_stack: Stack, shop: Shop, action: str, fault: str
) -> None:
    await suspicious(shared_stack, shop)
    payment = await shop.paid(2500)
    await shared_stack.simulator.post(
        "/faults", kind=fault, count=1, login=shop.login, method="updateHeldTransactionRequest"
    )
    path = f"/payments/{payment['id']}/{action}"
    answer = await shop.post(path)
    assert (answer.status_code, answer.json()["status"]) == (202, "in_review"), answer.text
    ends = {"approve": "captured", "decline": "declined"}[action]
    if fault == "drop_reply":
        assert (await shop.becomes(payment["id"], "captured", "declined"))["status"] == ends
    else:

        async def given_up() -> bool:
            operation = (await shop.all(f"/payments/{payment['id']}/operations"))[1]
            return bool(operation["state"] == "absent")

        await until(given_up, what="it never happened")
        assert (await shop.payment(payment["id"]))["status"] == "in_review"
        anew = await shop.post(path)
        assert (anew.status_code, anew.json()["status"]) == (201, ends), anew.text
    await ended(shared_stack, shop)


async def test_a_decision_that_comes_too_late_changes_nothing(
    shared_stack: Stack, shop: Shop, gateway: Gateway
) -> None:
    """Declined at the processor a moment ago: the approval is refused, and the truth is adopted."""
    await suspicious(shared_stack, shop)
    payment = await shop.paid(2500)
    await decides(shared_stack, shop, payment, "decline")
    late = await shop.post(f"/payments/{payment['id']}/approve")
    assert late.status_code == 409, late.text
    assert late.json()["code"] in ("invalid_state", "processor_invalid_state")
    assert (await shop.becomes(payment["id"], "declined"))["captured_amount"] == 0
    await ended(shared_stack, shop)


async def test_approve_decline_and_void_at_once_have_one_effect(
    shared_stack: Stack, shop: Shop
) -> None:
    await suspicious(shared_stack, shop)
    await shared_stack.simulator.slow(shop.login, ms=20)

    async def one() -> None:
        payment = await shop.paid(2500)
        asked = ("approve", "decline", "void") * 2
        answers = await asyncio.gather(
            *(shop.post(f"/payments/{payment['id']}/{action}") for action in asked)
        )
        assert {answer.status_code for answer in answers} <= {201, 409}, answers
        done = {answer.json()["status"] for answer in answers if answer.status_code == 201}
        after = await shop.payment(payment["id"])
        # What was approved first may be voided after it, in the same crowd.
        assert after["status"] in done <= {"captured", "declined", "voided"}

    await asyncio.gather(*(one() for _ in range(8)))
    await ended(shared_stack, shop)
