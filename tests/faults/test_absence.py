"""What was called failed stays without a charge: when absence is believed, and what comes late.

Time is driven: the database's clock and the simulator's go forward by steps.
"""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from easypay.db.embedded import Cluster
from easypay.merchants import admin
from easypay.merchants.vault import Vault
from easypay.processors.authorize_net.integration import AUTHORIZE_NET
from faults.driven_time import FAST, DrivenTime
from harness import (
    ENCRYPTION_KEY,
    WIRE_TYPE,
    Gateway,
    Shop,
    Stack,
    audit,
    simulating,
    stack_over,
    until,
)
from observability.test_what_is_seen import counted

KEY = "simulated-key-1"
LATE: dict[str, Any] = {"delay_ms": 3_000_000, "by_clock": True}
"""Long after its absence is believed, and before the second look of the watch."""


@pytest.fixture(scope="module")
async def world(
    cluster: Cluster, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stack]:
    """A stack with a simulator of its own, whose clock may be moved."""
    folder = tmp_path_factory.mktemp("absence")
    async with simulating(folder) as simulator:
        await simulator.post("/settings", auto_settle=False)
        async with stack_over(cluster, template, simulator, folder, **FAST) as stack:
            yield stack


@pytest.fixture(scope="module")
def time(world: Stack) -> DrivenTime:
    return DrivenTime(world)


@pytest.fixture
def shared_stack(world: Stack) -> Stack:
    return world


async def meets(world: Stack, shop: Shop, fault: str, kind: str = "sale", **more: Any) -> None:
    """The next such call of this shop meets the fault."""
    await world.simulator.fault(fault, shop.login, transaction_type=WIRE_TYPE[kind], **more)


async def status(shop: Shop, payment_id: str) -> str:
    found: str = (await shop.payment(payment_id))["status"]
    return found


async def late_row(world: Stack, shop: Shop) -> dict[str, Any] | None:
    rows = await world.fetch("SELECT * FROM late_charges WHERE merchant_id = $1", shop.merchant_id)
    return dict(rows[0]) if rows else None


async def types_of_events(shop: Shop, payment_id: str) -> list[str]:
    return [event["type"] for event in await shop.all(f"/payments/{payment_id}/events")]


async def net_charged(world: Stack, shop: Shop) -> int:
    """How many transactions of the shop hold or took money, by the processor's truth."""
    rows = await world.simulator.truth(login=shop.login)
    charges = [
        row for row in rows if row["type"] in ("authCaptureTransaction", "authOnlyTransaction")
    ]
    refunds = [row for row in rows if row["type"] == "refundTransaction"]
    taken = [row for row in charges if row["status"] not in ("voided", "expired", "declined")]
    return len(taken) - len(refunds)


async def called_absent(world: Stack, time: DrivenTime, shop: Shop, reference: str) -> None:
    """Drive time until the operation is called absent."""

    async def absent() -> bool:
        rows = await world.fetch(
            "SELECT 1 FROM operations WHERE merchant_id = $1 AND reference = $2"
            " AND state = 'absent'",
            shop.merchant_id,
            reference,
        )
        return bool(rows)

    await time.until(absent, step_s=400, at_most_s=4000, what="it is called absent")


async def late_by_now(time: DrivenTime) -> None:
    """What is LATE has come, and the watch has looked for it in vain once."""
    await time.passes(700)
    await time.settles()
    await time.passes(1400)


async def operation_of(shop: Shop, payment_id: str, kind: str) -> dict[str, Any]:
    rows = await shop.all(f"/payments/{payment_id}/operations")
    return next(row for row in rows if row["kind"] == kind)


async def test_a_lagging_report_is_not_absence(world: Stack, time: DrivenTime, shop: Shop) -> None:
    """Ninety seconds behind, with newer payments that the lists do not show either."""
    await world.simulator.post("/settings", login=shop.login, reporting_lag_ms=90_000)
    await meets(world, shop, "drop_reply")
    lost = (await shop.pay(2500)).json()["id"]
    for _ in range(9):
        await time.passes(10)
        await shop.paid(100)
        await time.settles()
        assert await status(shop, lost) in ("processing", "captured")

    async def captured() -> bool:
        return await status(shop, lost) == "captured"

    await time.until(captured, step_s=20, at_most_s=400)
    assert await audit(world, shop) == []


async def test_without_a_witness_absence_takes_a_quarter_of_an_hour(
    world: Stack, time: DrivenTime, shop: Shop
) -> None:
    await meets(world, shop, "reset_before")
    lost = (await shop.pay(2500)).json()["id"]
    for _ in range(14):
        await time.passes(60)
        await time.settles()
        assert await status(shop, lost) == "processing"

    async def failed() -> bool:
        return await status(shop, lost) == "failed"

    await time.until(failed, step_s=60, at_most_s=600)
    sale = await operation_of(shop, lost, "sale")
    assert "no charge was found" in sale["evidence"]["finding"]
    assert await net_charged(world, shop) == 0
    assert await audit(world, shop) == []


async def test_a_newer_listed_charge_makes_absence_believed_within_two_minutes(
    world: Stack, time: DrivenTime, shop: Shop
) -> None:
    await meets(world, shop, "reset_before")
    lost = (await shop.pay(2500)).json()["id"]
    await time.passes(20)
    await shop.paid(100)
    await time.settles()
    await time.passes(15)  # less than half a minute between two looks
    await time.settles()
    assert await status(shop, lost) == "processing"

    async def failed() -> bool:
        return await status(shop, lost) == "failed"

    await time.until(failed, step_s=15, at_most_s=90)
    assert await audit(world, shop) == []


@pytest.mark.parametrize("settled", [False, True])
async def test_a_late_sale_is_given_back_and_the_payment_stays_failed(
    world: Stack, time: DrivenTime, shop: Shop, settled: bool
) -> None:
    await meets(world, shop, "late_charge", **LATE)
    lost = (await shop.pay(2500)).json()["id"]
    sale = await operation_of(shop, lost, "sale")
    await called_absent(world, time, shop, sale["reference"])
    assert await status(shop, lost) == "failed"

    async def charged() -> bool:
        return await net_charged(world, shop) == 1

    await late_by_now(time)
    await until(charged, what="the charge comes")
    (broken,) = await audit(world, shop)
    assert broken == f"{sale['reference']} is absent, but the processor did it"
    if settled:
        await world.simulator.post("/settle")

    async def returned() -> bool:
        row = await late_row(world, shop)
        return row is not None and row["state"] == "returned"

    await time.until(returned, step_s=300, at_most_s=3 * 3600)
    assert await net_charged(world, shop) == 0
    assert await status(shop, lost) == "failed"
    assert await types_of_events(shop, lost) == [
        "payment.failed",
        "late_charge.found",
        "late_charge.returned",
    ]
    row = await late_row(world, shop)
    assert row is not None
    assert (row["amount_minor"], row["kind"], row["mode"]) == (2500, "sale", "test")
    assert "settled" in row["evidence"].lower() if settled else row["evidence"]
    assert await audit(world, shop) == []


async def test_a_late_authorization_is_let_go(world: Stack, time: DrivenTime, shop: Shop) -> None:
    await meets(world, shop, "late_charge", "authorize", **LATE)
    lost = (await shop.pay(2500, capture="manual")).json()["id"]
    operation = await operation_of(shop, lost, "authorize")
    await called_absent(world, time, shop, operation["reference"])

    async def returned() -> bool:
        row = await late_row(world, shop)
        return row is not None and row["state"] == "returned"

    await late_by_now(time)
    await until(lambda: _is(net_charged(world, shop), 1), what="the hold comes")
    await time.until(returned, step_s=300, at_most_s=3 * 3600)
    assert await net_charged(world, shop) == 0
    assert await status(shop, lost) == "failed"
    assert await audit(world, shop) == []


async def test_whoever_wants_late_money_keeps_it(
    world: Stack, time: DrivenTime, shop: Shop
) -> None:
    connection = await asyncpg.connect(world.dsn)
    await admin.update_merchant(connection, shop.merchant_id, late_charges="keep")
    await connection.close()
    await meets(world, shop, "late_charge", **LATE)
    lost = (await shop.pay(2500)).json()["id"]
    sale = await operation_of(shop, lost, "sale")
    await called_absent(world, time, shop, sale["reference"])
    await late_by_now(time)
    await until(lambda: _is(net_charged(world, shop), 1), what="the charge comes")
    await time.until(lambda: _is(status(shop, lost), "captured"), step_s=300, at_most_s=3 * 3600)
    row = await late_row(world, shop)
    assert row is not None
    assert row["state"] == "kept"
    assert "payment.captured" in await types_of_events(shop, lost)
    assert await audit(world, shop) == []


async def test_a_late_refund_corrects_the_amounts_or_waits_for_a_person(
    world: Stack, time: DrivenTime, shop: Shop
) -> None:
    fits, spent = await shop.paid(2500), await shop.paid(2500)
    await world.simulator.post("/settle")
    for payment in (fits, spent):
        await meets(world, shop, "late_charge", "refund", **LATE)
        answer = await shop.refund(payment["id"], 1000)
        assert answer.status_code == 202, answer.text
    refund = await operation_of(shop, fits["id"], "refund")
    other = await operation_of(shop, spent["id"], "refund")
    await called_absent(world, time, shop, refund["reference"])
    await called_absent(world, time, shop, other["reference"])

    async def came() -> bool:
        rows = await world.simulator.truth(login=shop.login)
        return sum(row["type"] == "refundTransaction" for row in rows) == 2

    await late_by_now(time)
    await until(came, what="the refunds come late")
    await meets(world, shop, "reset_before", "refund")
    rest = await shop.refund(spent["id"])
    assert rest.status_code == 202, rest.text  # all 2500 are reserved by now

    async def states() -> list[str] | None:
        rows = await world.fetch(
            "SELECT l.state FROM late_charges l WHERE merchant_id = $1 ORDER BY payment_id",
            shop.merchant_id,
        )
        return [row["state"] for row in rows] if len(rows) == 2 else None

    await time.passes(2 * 3600)  # at once: the rest may not be called absent before the watch looks
    assert await time.until(states, step_s=300, at_most_s=3600) == ["corrected", "needs_person"]
    assert (await shop.payment(fits["id"]))["refunded_amount"] == 1000
    gateway = world.processes[0]
    assert f"operation {other['reference']} was called absent" in gateway.said()
    assert "needs a person" in gateway.said()
    assert isinstance(gateway, Gateway)
    assert await counted(gateway.url, "easypay_late_charges_found_total") >= 2
    broken = f"{other['reference']} is absent, but the processor did it"
    assert broken in await audit(world, shop, nobody_needed=True)
    assert broken not in await audit(world, shop)


async def test_a_late_capture_corrects_the_payment(
    world: Stack, time: DrivenTime, shop: Shop
) -> None:
    held = await shop.paid(2500, capture="manual")
    await meets(world, shop, "late_charge", "capture", **LATE)
    assert (await shop.capture(held["id"], 2000)).status_code == 202
    capture = await operation_of(shop, held["id"], "capture")
    await called_absent(world, time, shop, capture["reference"])
    assert await status(shop, held["id"]) == "authorized"

    async def came() -> bool:
        rows = await world.simulator.truth(login=shop.login)
        return any(row["status"] == "capturedPendingSettlement" for row in rows)

    await late_by_now(time)
    await until(came, what="the capture comes late")
    await time.until(
        lambda: _is(status(shop, held["id"]), "captured"), step_s=300, at_most_s=3 * 3600
    )
    assert (await shop.payment(held["id"]))["captured_amount"] == 2000
    row = await late_row(world, shop)
    assert row is not None
    assert row["state"] == "corrected"
    assert await audit(world, shop) == []


async def replace_account(world: Stack, shop: Shop) -> str:
    """The merchant's payments go to another processor account from now on."""
    login = f"n{shop.login[1:]}"
    await world.simulator.post("/accounts", login=login, transaction_key=KEY)
    connection = await asyncpg.connect(world.dsn)
    try:
        await admin.set_processor_account(
            connection,
            Vault(ENCRYPTION_KEY),
            AUTHORIZE_NET,
            shop.merchant_id,
            "test",
            {"login_id": login, "transaction_key": KEY},
        )
    finally:
        await connection.close()
    return login


async def test_a_lost_reply_is_asked_about_at_the_account_that_was_asked(
    world: Stack, time: DrivenTime, shop: Shop
) -> None:
    await meets(world, shop, "drop_reply")
    lost = (await shop.pay(2500)).json()["id"]
    new_login = await replace_account(world, shop)

    async def at_the_new_one() -> bool:
        await shop.paid(100)
        return bool(await world.simulator.truth(login=new_login))

    await until(at_the_new_one, what="new payments go to the new account")
    await time.until(lambda: _is(status(shop, lost), "captured"), step_s=20, at_most_s=2000)

    refund = await shop.refund(lost)  # before settlement: a void, at the account that took it
    assert (refund.status_code, refund.json()["status"]) == (201, "succeeded"), refund.text
    reference = (await operation_of(shop, lost, "sale"))["reference"]
    (sale,) = await world.simulator.truth(login=shop.login, invoice_number=reference)
    assert sale["status"] == "voided"
    truth = [
        *await world.simulator.truth(login=shop.login),
        *await world.simulator.truth(login=new_login),
    ]
    assert await audit(world, shop, truth=truth) == []


async def test_an_authorization_that_ran_out_is_expired(
    world: Stack, time: DrivenTime, shop: Shop
) -> None:
    held = await shop.paid(2500, capture="manual")
    await time.passes(31 * 24 * 3600)
    answer = await shop.capture(held["id"])
    assert answer.status_code >= 400, answer.text
    await time.until(lambda: _is(status(shop, held["id"]), "expired"), step_s=3600, at_most_s=9000)
    assert (await types_of_events(shop, held["id"]))[-1] == "payment.expired"
    again = await shop.capture(held["id"])
    assert (again.status_code, again.json()["code"]) == (409, "invalid_state")
    assert await audit(world, shop) == []


async def _is(value: Any, wanted: object) -> bool:
    return bool(await value == wanted)
