"""When absence is believed, and what happens to charges that come later.

Time is driven: the clocks of the database and the simulator move forward in steps.
"""

import pytest

from easypay.merchants import admin
from faults.driven_shop import LATE, DrivenShop
from harness import connected, counted, until

KEY = "simulated-key-1"


async def test_a_lagging_report_is_not_absence(case: DrivenShop) -> None:
    """Reports lag ninety seconds, and the lists miss newer payments, too."""
    await case.world.simulator.post("/settings", login=case.shop.login, reporting_lag_ms=90_000)
    lost = await case.lost("drop_reply")
    for _ in range(9):
        await case.time.advance(10)
        await case.shop.paid(100)
        await case.time.settles()
        assert await case.status(lost) in ("processing", "captured")
    await case.becomes(lost, "captured", step_s=20, at_most_s=400)
    assert await case.audit() == []


async def test_without_a_witness_absence_takes_fifteen_minutes(case: DrivenShop) -> None:
    lost = await case.lost("reset_before")
    for _ in range(14):
        await case.time.advance(60)
        await case.time.settles()
        assert await case.status(lost) == "processing"
    await case.becomes(lost, "failed", step_s=60, at_most_s=600)
    sale = await case.operation(lost, "sale")
    assert "no charge was found" in sale["evidence"]["finding"]
    assert await case.net_charged() == 0
    assert await case.audit() == []


async def test_a_newer_charge_in_the_lists_proves_absence_within_two_minutes(
    case: DrivenShop,
) -> None:
    lost = await case.lost("reset_before")
    await case.time.advance(20)
    await case.shop.paid(100)
    await case.time.settles()
    await case.time.advance(15)  # less than half a minute between two passes
    await case.time.settles()
    assert await case.status(lost) == "processing"
    await case.becomes(lost, "failed", step_s=15, at_most_s=90)
    assert await case.audit() == []


@pytest.mark.parametrize("settled", [False, True])
async def test_a_late_sale_is_given_back_and_the_payment_stays_failed(
    case: DrivenShop, settled: bool
) -> None:
    lost = await case.lost("late_charge", **LATE)
    sale = await case.absent(lost, "sale")
    assert await case.status(lost) == "failed"
    await case.pass_late_delay()
    await until(case.charged, what="the charge comes")
    (broken,) = await case.audit()
    assert broken == f"{sale['reference']} is absent, but the processor did it"
    if settled:
        await case.world.simulator.post("/settle")
    row = await case.late_charge_ends()
    assert row["state"] == "returned"
    assert await case.net_charged() == 0
    assert await case.status(lost) == "failed"
    assert await case.events(lost) == [
        "payment.failed",
        "late_charge.found",
        "late_charge.returned",
    ]
    assert (row["amount_minor"], row["kind"], row["mode"]) == (2500, "sale", "test")
    assert "settled" in row["evidence"].lower() if settled else row["evidence"]
    assert await case.audit() == []


async def test_a_late_authorization_is_voided(case: DrivenShop) -> None:
    await case.inject("late_charge", "authorize", **LATE)
    lost = (await case.shop.pay(2500, capture="manual")).json()["id"]
    await case.absent(lost, "authorize")
    await case.pass_late_delay()
    await until(case.charged, what="the hold comes")
    assert (await case.late_charge_ends())["state"] == "returned"
    assert await case.net_charged() == 0
    assert await case.status(lost) == "failed"
    assert await case.audit() == []


async def test_a_late_charge_is_kept_if_the_merchant_wants_it(case: DrivenShop) -> None:
    async with connected(case.world.dsn) as connection:
        await admin.update_merchant(connection, case.shop.merchant_id, late_charges="keep")
    lost = await case.lost("late_charge", **LATE)
    await case.absent(lost, "sale")
    await case.pass_late_delay()
    await until(case.charged, what="the charge comes")
    await case.becomes(lost, "captured")
    assert (await case.late_charge_ends())["state"] == "kept"
    assert "payment.captured" in await case.events(lost)
    assert await case.audit() == []


async def test_a_late_refund_corrects_the_amounts_or_waits_for_a_person(case: DrivenShop) -> None:
    fits, spent = await case.shop.paid(2500), await case.shop.paid(2500)
    await case.world.simulator.post("/settle")
    for payment in (fits, spent):
        await case.inject("late_charge", "refund", **LATE)
        answer = await case.shop.refund(payment["id"], 1000)
        assert answer.status_code == 202, answer.text
    await case.absent(fits["id"], "refund")
    other = await case.absent(spent["id"], "refund")

    async def came() -> bool:
        rows = await case.world.simulator.truth(login=case.shop.login)
        return sum(row["type"] == "refundTransaction" for row in rows) == 2

    await case.pass_late_delay()
    await until(came, what="the refunds come late")
    await case.inject("reset_before", "refund")
    rest = await case.shop.refund(spent["id"])
    assert rest.status_code == 202, rest.text  # all 2500 are reserved by now

    async def states() -> list[str] | None:
        rows = await case.world.fetch(
            "SELECT l.state FROM late_charges l WHERE merchant_id = $1 ORDER BY payment_id",
            case.shop.merchant_id,
        )
        return [row["state"] for row in rows] if len(rows) == 2 else None

    # In one step, so that the rest is not called absent before the watch looks.
    await case.time.advance(2 * 3600)
    ends = await case.time.until(states, step_s=300, at_most_s=3600)
    assert ends == ["corrected", "needs_person"]
    assert (await case.shop.payment(fits["id"]))["refunded_amount"] == 1000
    gateway = case.world.only_gateway
    assert f"operation {other['reference']} was called absent" in gateway.logs()
    assert "needs a person" in gateway.logs()
    assert await counted(gateway.url, "easypay_late_charges_found_total") >= 2
    broken = f"{other['reference']} is absent, but the processor did it"
    assert broken in await case.audit(nobody_needed=True)
    assert broken not in await case.audit()


async def test_a_late_capture_corrects_the_payment(case: DrivenShop) -> None:
    held = await case.lost_capture("late_charge", **LATE)
    assert await case.status(held["id"]) == "authorized"
    await case.pass_late_delay()
    await until(case.captured_there, what="the capture comes late")
    await case.becomes(held["id"], "captured")
    assert (await case.shop.payment(held["id"]))["captured_amount"] == 2000
    assert (await case.late_charge_ends())["state"] == "corrected"
    assert await case.audit() == []


async def replace_account(case: DrivenShop) -> str:
    """Send the merchant's payments to another processor account from now on."""
    login = f"{'m' if case.shop.login[0] == 'n' else 'n'}{case.shop.login[1:]}"
    await case.world.simulator.post("/accounts", login=login, transaction_key=KEY)
    await case.world.set_account(case.shop, login=login)
    return login


async def test_a_lost_reply_is_looked_up_at_the_account_that_was_charged(case: DrivenShop) -> None:
    lost = await case.lost("drop_reply")
    new_login = await replace_account(case)

    async def at_the_new_one() -> bool:
        await case.shop.paid(100)
        return bool(await case.world.simulator.truth(login=new_login))

    await until(at_the_new_one, what="new payments go to the new account")
    await case.becomes(lost, "captured", step_s=20, at_most_s=2000)

    refund = await case.shop.refund(lost)  # before settlement: a void, at the account that took it
    assert (refund.status_code, refund.json()["status"]) == (201, "succeeded"), refund.text
    reference = (await case.operation(lost, "sale"))["reference"]
    (sale,) = await case.world.simulator.truth(login=case.shop.login, invoice_number=reference)
    assert sale["status"] == "voided"
    truth = [
        *await case.world.simulator.truth(login=case.shop.login),
        *await case.world.simulator.truth(login=new_login),
    ]
    assert await case.audit(truth=truth) == []


async def test_an_authorization_that_ran_out_is_expired(case: DrivenShop) -> None:
    held = await case.shop.paid(2500, capture="manual")
    await case.time.advance(31 * 24 * 3600)
    answer = await case.shop.capture(held["id"])
    assert answer.status_code >= 400, answer.text
    await case.becomes(held["id"], "expired", step_s=3600, at_most_s=9000)
    assert (await case.events(held["id"]))[-1] == "payment.expired"
    again = await case.shop.capture(held["id"])
    assert (again.status_code, again.json()["code"]) == (409, "invalid_state")
    assert await case.audit() == []
