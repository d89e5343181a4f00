"""More cases that delay an outcome: a witness needed twice, tokens, reviews, old payments,
unusable accounts. Time is driven."""

import uuid

from easypay.merchants.vault import new_encryption_key
from faults.driven_shop import DrivenShop
from harness import mint_token, until

KEY = "simulated-key-1"


async def test_a_witness_that_has_settled_is_seen_by_the_second_pass_too(case: DrivenShop) -> None:
    """The first pass that counts comes after the batch closed, and nothing newer is charged."""
    asking = {"login": case.shop.login, "method": "getUnsettledTransactionListRequest"}
    await case.world.simulator.post("/faults", kind="maintenance", **asking)
    lost = await case.lost("reset_before")
    await case.time.advance(20)
    await case.shop.paid(100)
    await case.world.simulator.post("/settle")
    await case.world.simulator.clear_faults()
    await case.becomes(lost, "failed", step_s=60, at_most_s=3000)
    assert await case.audit() == []


async def test_a_late_sale_by_token_is_given_back(case: DrivenShop) -> None:
    """A refund must name the card, but the gateway does not know a token's card."""
    token = await mint_token(case.world.simulator, case.shop.login)
    await case.world.simulator.post("/settings", login=case.shop.login, reporting_lag_ms=1_800_000)
    await case.inject("drop_reply")
    answer = await case.shop.pay(
        2500, payment_method={"type": "accept_token", "accept_token": token}
    )
    assert answer.status_code == 202, answer.text
    lost = answer.json()["id"]
    await case.absent(lost, "sale")
    assert await case.net_charged() == 1
    read = await case.shop.client.get(f"/payments/{lost}")
    assert read.json()["payment_method"]["last4"] is None
    row = await case.late_charge_ends()
    assert (row["state"], row["reason"]) == ("returned", None)
    # The payment shows the card now, so a client's copy of it is out of date.
    changed = await case.shop.client.get(
        f"/payments/{lost}", headers={"if-none-match": read.headers["etag"]}
    )
    assert changed.status_code == 200
    assert changed.json()["payment_method"]["last4"] == "1111"
    assert await case.net_charged() == 0
    assert await case.audit() == []


async def test_an_approved_review_and_a_payment_of_an_older_version_expire_too(
    case: DrivenShop,
) -> None:
    older = await case.shop.paid(900, capture="manual")
    await case.world.simulator.post(
        "/settings", login=case.shop.login, held_above="10.00", held_action="authAndHold"
    )
    held = (await case.shop.pay(2500, capture="manual")).json()
    approved = await case.shop.post(f"/payments/{held['id']}/approve")
    assert approved.json()["status"] == "authorized", approved.text
    await case.world.fetch(
        "UPDATE payments SET login_id = NULL WHERE merchant_id = $1 AND amount_minor = 900",
        case.shop.merchant_id,
    )
    await case.time.advance(31 * 24 * 3600)
    for payment in (held, older):
        assert (await case.shop.capture(payment["id"])).status_code >= 400
        await case.becomes(payment["id"], "expired", step_s=3600, at_most_s=9000)
    assert await case.audit() == []


async def test_an_unusable_account_delays_no_other_and_can_be_replaced(case: DrivenShop) -> None:
    shop = await case.world.shop(case.world.only_gateway)
    other = DrivenShop(case.world, case.time, shop)
    lost = await case.lost("drop_reply")

    await case.world.set_account(case.shop, encryption_key=new_encryption_key())
    await case.world.fetch(
        "WITH p AS (UPDATE payments SET login_id = NULL WHERE merchant_id = $1)"
        " UPDATE unresolved_operations SET account = NULL WHERE merchant_id = $1",
        case.shop.merchant_id,
    )

    async def refused() -> str | None:
        key = str(uuid.uuid4())
        answer = await case.shop.pay(1900, key=key)
        code = answer.json().get("code")
        return key if (answer.status_code, code) == (503, "processor_unavailable") else None

    # The gateway keeps an account for a moment, in which hours can pass here.
    key = await until(refused, what="the payment gets 503, so it can be repeated")
    free = await other.lost("drop_reply")
    await other.becomes(free, "captured", step_s=20, at_most_s=200)
    assert await case.status(lost) == "processing"  # requests without the processor still work
    await case.world.set_account(case.shop)
    await case.becomes(lost, "captured", step_s=60, at_most_s=900)

    async def paid() -> bool:
        return (await case.shop.pay(1900, key=key)).status_code == 201

    await until(paid, what="the same key pays")
    assert await case.audit() == []
    assert await other.audit() == []
    await shop.client.aclose()


async def test_a_late_capture_waits_for_the_open_one(case: DrivenShop) -> None:
    """Meanwhile the account's lists are not read again and again."""
    held = await case.lost_capture("late_charge", delay_ms=2500)
    await until(case.captured_there, what="the capture comes late")
    await case.world.fetch(
        "UPDATE payments SET active_operation = id WHERE merchant_id = $1", case.shop.merchant_id
    )
    await case.time.advance(700)
    await case.time.settles()  # nothing is due: it was checked once, and waits
    assert await case.status(held["id"]) == "authorized"
    await case.world.fetch(
        "UPDATE payments SET active_operation = NULL WHERE merchant_id = $1", case.shop.merchant_id
    )
    await case.becomes(held["id"], "captured")
    assert await case.audit() == []


async def test_a_late_capture_and_an_open_one_for_less_do_not_wait_for_each_other(
    case: DrivenShop,
) -> None:
    """An authorization is captured once. The amount differs, so the open one did not do it."""
    held = await case.lost_capture("late_charge", delay_ms=1_500_000, by_clock=True)
    await case.inject("reset_before", "capture")
    assert (await case.shop.capture(held["id"], 1500)).status_code == 202

    await case.becomes(held["id"], "captured")
    assert (await case.shop.payment(held["id"]))["captured_amount"] == 2000
    assert await case.audit() == []


async def test_an_absent_capture_is_not_watched_further_once_another_was_made(
    case: DrivenShop,
) -> None:
    held = await case.lost_capture("reset_before")
    assert (await case.shop.capture(held["id"], 1500)).json()["captured_amount"] == 1500

    async def no_longer_watched() -> bool:
        return not await case.world.fetch(
            "SELECT 1 FROM watched_operations WHERE merchant_id = $1", case.shop.merchant_id
        )

    await case.time.until(no_longer_watched, step_s=900, at_most_s=7200)
    assert await case.audit() == []


async def test_batches_are_requested_once_for_all_watched_operations(case: DrivenShop) -> None:
    """This includes a silent processor: it is not waited for once per operation."""
    for _ in range(4):
        lost = await case.lost("reset_before")
    await case.absent(lost, "sale")

    async def looked_twice() -> bool:
        sql = "SELECT count(*) FROM watched_operations WHERE merchant_id = $1 AND looks >= 2"
        return bool(await case.world.value(sql, case.shop.merchant_id) == 4)

    await case.time.until(looked_twice, step_s=1800, at_most_s=6 * 3600)
    asking = {"login": case.shop.login, "method": "getSettledBatchListRequest"}
    await case.world.simulator.post("/faults", kind="html", **asking)

    async def asked() -> int:
        calls = (await case.world.simulator.client.get("/calls", params=asking)).json()["calls"]
        return len(calls)

    before = await asked()
    await case.time.advance(2 * 3600)
    await case.time.settles()
    assert 1 <= await asked() - before <= 2  # one to look for a new batch, and one to read it
