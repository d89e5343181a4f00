"""Payments that a fraud filter holds are followed until the processor ends the review."""

import asyncio
from typing import Any

import pytest

from harness import (
    QUICK,
    Gateway,
    Shop,
    Simulator,
    Stack,
    audit,
    held,
    http_client,
    payment_uuid,
    until,
)

pytestmark = pytest.mark.over("simulated", "recorded")


async def hold_large_charges(stack: Stack, shop: Shop, *, action: str = "authAndHold") -> None:
    """From now on, hold the shop's charges above 10.00."""
    await stack.simulator.post(
        "/settings", login=shop.login, held_above="10.00", held_action=action
    )


async def send_as_person(stack: Stack, shop: Shop, root: str, **body: Any) -> None:
    """Send a request to the processor with the shop's account, as a person there would."""
    request = {
        root: {
            "merchantAuthentication": {"name": shop.login, "transactionKey": "simulated-key-1"},
            **body,
        }
    }
    async with http_client() as client:
        answer = await client.post(stack.simulator.wire, json=request)
    assert b'"resultCode":"Ok"' in answer.content, answer.text


async def decide(stack: Stack, shop: Shop, payment: dict[str, Any], action: str) -> None:
    """Decide the review as the reviewer at the processor."""
    held = {"action": action, "refTransId": payment["processor"]["transaction_id"]}
    await send_as_person(stack, shop, "updateHeldTransactionRequest", heldTransactionRequest=held)


async def listed(stack: Stack, shop: Shop) -> list[bool]:
    """Return, for each of the shop's rows on the resolver's list, whether it is held."""
    rows = await stack.fetch(
        "SELECT held FROM unresolved_operations WHERE merchant_id = $1", shop.merchant_id
    )
    return [row["held"] for row in rows]


async def event_types(shop: Shop, payment: dict[str, Any]) -> list[str]:
    """Return the types of a payment's events."""
    return [event["type"] for event in await shop.all(f"/payments/{payment['id']}/events")]


async def wait_until_ended(stack: Stack, shop: Shop) -> None:
    """Wait until the resolver's list is empty, then audit."""

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
async def test_a_review_ends_as_the_reviewer_decides(
    shared_stack: Stack, shop: Shop, capture: str, action: str, status: str, captured: int
) -> None:
    await hold_large_charges(shared_stack, shop)
    first = await shop.pay(2500, capture=capture, key="held")
    payment = first.json()
    assert (first.status_code, payment["status"]) == (201, "in_review"), first.text
    assert payment["processor"]["transaction_id"]
    assert await listed(shared_stack, shop) == [True], "listed as held, not as an unknown"
    assert await audit(shared_stack, shop) == []

    await decide(shared_stack, shop, payment, action)
    after = await shop.becomes(payment["id"], "captured", "authorized", "declined")
    assert (after["status"], after["captured_amount"]) == (status, captured)
    for kept in ("transaction_id", "avs_result", "avs"):
        assert after["processor"][kept] == payment["processor"][kept]
    assert await event_types(shop, payment) == ["payment.in_review", f"payment.{status}"]
    (operation,) = await shop.all(f"/payments/{payment['id']}/operations")
    assert operation["evidence"]["source"] == "inquiry"
    again = await shop.pay(2500, capture=capture, key="held")
    assert (again.status_code, again.content) == (201, first.content)
    await wait_until_ended(shared_stack, shop)
    if status == "authorized":
        assert (await shop.capture(payment["id"])).status_code == 201
    if status == "captured":
        assert (await shop.refund(payment["id"])).json()["method"] == "void"
    assert await audit(shared_stack, shop) == []


async def test_a_merchant_can_void_a_payment_in_review(shared_stack: Stack, shop: Shop) -> None:
    await hold_large_charges(shared_stack, shop)
    payment = await shop.paid(2500)
    for refused in (await shop.refund(payment["id"]), await shop.capture(payment["id"])):
        assert (refused.status_code, refused.json()["code"]) == (409, "invalid_state")
    voided = await shop.void(payment["id"])
    assert (voided.status_code, voided.json()["status"]) == (201, "voided"), voided.text
    truth = await shared_stack.simulator.truth(login=shop.login)
    assert [row["status"] for row in truth] == ["voided", "voided"]
    assert await event_types(shop, payment) == ["payment.in_review", "payment.voided"]
    await wait_until_ended(shared_stack, shop)


async def test_a_review_voided_at_the_processor_is_voided(shared_stack: Stack, shop: Shop) -> None:
    await hold_large_charges(shared_stack, shop)
    payment = await shop.paid(2500)
    void = {
        "transactionType": "voidTransaction",
        "refTransId": payment["processor"]["transaction_id"],
    }
    (sale,) = await shared_stack.simulator.truth(login=shop.login)
    await send_as_person(
        shared_stack,
        shop,
        "createTransactionRequest",
        transactionRequest={**void, "order": {"invoiceNumber": sale["invoice_number"]}},
    )
    after = await shop.becomes(payment["id"], "voided")
    assert after["processor"]["transaction_id"] == payment["processor"]["transaction_id"]
    await wait_until_ended(shared_stack, shop)


async def test_a_review_that_nobody_decides_expires(stack: Stack) -> None:
    """Uses its own simulator, because it moves the clock."""
    stack.simulator = await Simulator(stack.folder).ready()
    stack.processes.append(stack.simulator)
    gateway = await stack.gateway(review_interval_s="0.3", resolver_poll_s="0.1")
    ends = {"hold": "expired", "authAndHold": "voided"}  # authAndHold ends with a void
    shops = [await stack.shop(gateway) for _ in ends]
    payments = []
    for shop, action in zip(shops, ends, strict=True):
        await hold_large_charges(stack, shop, action=action)
        payments.append(await shop.paid(2500, capture="manual"))
    assert [payment["status"] for payment in payments] == ["in_review", "in_review"]
    await stack.simulator.post("/clock", advance_s=6 * 86_400)
    for shop, payment, status in zip(shops, payments, ends.values(), strict=True):
        after = await shop.becomes(payment["id"], "expired", "voided", "declined")
        assert after["status"] == status
        assert await event_types(shop, payment) == ["payment.in_review", f"payment.{status}"]
        await wait_until_ended(stack, shop)


async def test_a_held_payment_is_followed_although_its_reply_was_lost(
    shared_stack: Stack, shop: Shop
) -> None:
    await hold_large_charges(shared_stack, shop, action="hold")
    await shared_stack.simulator.post("/faults", kind="drop_reply", count=1, login=shop.login)
    answer = await shop.pay(2500)
    assert (answer.status_code, answer.json()["status"]) == (202, "processing")
    payment = await shop.becomes(answer.json()["id"], "in_review")
    assert await listed(shared_stack, shop) == [True]
    await decide(shared_stack, shop, payment, "approve")
    await shop.becomes(payment["id"], "captured")
    await wait_until_ended(shared_stack, shop)


@pytest.mark.over("simulated")  # the list does not depend on the processor
async def test_a_review_that_an_older_gateway_dropped_from_the_list_is_listed_again(
    shared_stack: Stack, shop: Shop
) -> None:
    await hold_large_charges(shared_stack, shop)
    payment = await shop.paid(2500)
    await shared_stack.fetch(
        "DELETE FROM unresolved_operations WHERE merchant_id = $1", shop.merchant_id
    )
    await decide(shared_stack, shop, payment, "approve")
    successor = await shared_stack.gateway(review_interval_s="0.3", resolver_poll_s="0.1")
    try:
        await shop.becomes(payment["id"], "captured")
        await wait_until_ended(shared_stack, shop)
    finally:
        successor.kill()


async def test_a_review_sweep_that_another_process_prevented_is_repeated_soon(stack: Stack) -> None:
    """Only one process sweeps for reviews at a time. One that finds another at it must not wait ten
    minutes: the other may be an older gateway that does not know reviews."""
    first = await stack.gateway(**QUICK)
    shop = await stack.shop(first)
    await hold_large_charges(stack, shop)
    dropped, kept = [await shop.paid(2500) for _ in range(2)]
    first.kill()
    for payment in (dropped, kept):
        await decide(stack, shop, payment, "approve")
    await stack.fetch(
        "DELETE FROM unresolved_operations WHERE payment_id = $1", payment_uuid(dropped["id"])
    )
    async with held(stack.dsn, "SELECT pg_advisory_xact_lock(hashtext('easypay sweep'))"):
        successor = await stack.gateway(**QUICK)
        shop = shop.at(successor.url)
        await shop.becomes(kept["id"], "captured")  # its inquiry follows the attempted sweep
    await shop.becomes(dropped["id"], "captured")
    await wait_until_ended(stack, shop)


@pytest.mark.parametrize(
    ("action", "capture", "status"),
    [
        ("approve", "automatic", "captured"),
        ("approve", "manual", "authorized"),
        ("decline", "automatic", "declined"),
    ],
)
async def test_a_merchant_can_decide_a_review_through_the_api(
    shared_stack: Stack, shop: Shop, action: str, capture: str, status: str
) -> None:
    await hold_large_charges(shared_stack, shop)
    payment = await shop.paid(2500, capture=capture)
    path = f"/payments/{payment['id']}/{action}"
    answer = await shop.post(path, key="decided")
    assert (answer.status_code, answer.json()["status"]) == (201, status), answer.text
    assert answer.json() == await shop.payment(payment["id"])
    again = await shop.post(path, key="decided")
    assert again.content == answer.content
    late = await shop.post(path)
    assert (late.status_code, late.json()["code"]) == (409, "invalid_state")
    assert await event_types(shop, payment) == ["payment.in_review", f"payment.{status}"]
    await wait_until_ended(shared_stack, shop)
    operation = (await shop.all(f"/payments/{payment['id']}/operations"))[1]
    assert (operation["kind"], operation["state"]) == (action, "approved")


@pytest.mark.parametrize("action", ["approve", "decline"])
@pytest.mark.parametrize("fault", ["drop_reply", "error_before"])
async def test_a_decision_whose_reply_is_lost_is_found_or_proven_absent(
    shared_stack: Stack, shop: Shop, action: str, fault: str
) -> None:
    await hold_large_charges(shared_stack, shop)
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

        await until(given_up, what="the decision is called absent")
        assert (await shop.payment(payment["id"]))["status"] == "in_review"
        anew = await shop.post(path)
        assert (anew.status_code, anew.json()["status"]) == (201, ends), anew.text
    await wait_until_ended(shared_stack, shop)


async def test_a_decision_that_comes_too_late_changes_nothing(
    shared_stack: Stack, shop: Shop, gateway: Gateway
) -> None:
    """The processor has just declined: the approval is refused and the decline recorded."""
    await hold_large_charges(shared_stack, shop)
    payment = await shop.paid(2500)
    await decide(shared_stack, shop, payment, "decline")
    late = await shop.post(f"/payments/{payment['id']}/approve")
    assert late.status_code == 409, late.text
    assert late.json()["code"] in ("invalid_state", "processor_invalid_state")
    assert (await shop.becomes(payment["id"], "declined"))["captured_amount"] == 0
    await wait_until_ended(shared_stack, shop)


async def test_concurrent_approve_decline_and_void_have_one_effect(
    shared_stack: Stack, shop: Shop
) -> None:
    await hold_large_charges(shared_stack, shop)
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
        # A payment that was approved first may be voided by a later request of this crowd.
        assert after["status"] in done <= {"captured", "declined", "voided"}

    await asyncio.gather(*(one() for _ in range(8)))
    await wait_until_ended(shared_stack, shop)
