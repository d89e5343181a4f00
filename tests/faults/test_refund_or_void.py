"""Before settlement a refund takes several calls. Any of them can fail; the money moves once."""

import asyncio
import itertools
from typing import Any

from harness import QUICK, Shop, Stack, all_known, audit, own_stack, until

STEPS: dict[str, dict[str, str]] = {
    "refund": {"transaction_type": "refundTransaction"},
    "payment": {"method": "getTransactionDetailsRequest"},
    "void": {"transaction_type": "voidTransaction"},
}
LOST = {"drop_reply": {}, "late_reply": {"delay_ms": 1300}, "error_after": {}, "truncate": {}}
NEVER = {"error_before": {}, "busy": {}, "reset_before": {}}
FAULTS: dict[str, dict[str, Any]] = {**LOST, **NEVER, "garbage": {}}


# A stack of this file's own, so that no other test settles during a refund.
patient = own_stack(**QUICK)


async def voids(stack: Stack, shop: Shop) -> int:
    truth = await stack.simulator.truth(login=shop.login)
    return sum(row["type"] == "voidTransaction" for row in truth)


async def test_a_reply_lost_at_any_step_leaves_one_effect_or_none(patient: Stack) -> None:
    async def one(step: str, fault: str) -> None:
        shop = await patient.shop(patient.only_gateway)
        payment = await shop.paid(2500)
        await patient.simulator.fault(fault, shop.login, **STEPS[step], **FAULTS[fault])
        answer = await shop.refund(payment["id"], key="back")
        assert answer.status_code == 202, (step, fault, answer.text)
        assert (answer.json()["status"], answer.json()["method"]) == ("processing", None)

        await all_known(patient, shop)
        (refund,) = await shop.all(f"/payments/{payment['id']}/refunds")
        after = await shop.payment(payment["id"])
        done = await voids(patient, shop)
        assert done == (step == "void" and fault not in NEVER), (step, fault)
        if done:
            assert (refund["status"], refund["method"]) == ("succeeded", "void"), (step, fault)
            assert (after["status"], after["captured_amount"]) == ("voided", 0)
        else:
            assert (refund["status"], refund["method"]) == ("failed", None), (step, fault)
            assert (after["status"], after["captured_amount"]) == ("captured", 2500)
        assert await audit(patient, shop) == []

        again = await shop.refund(payment["id"], key="back")
        assert (again.status_code, again.content) == (202, answer.content)
        if not done:
            anew = await shop.refund(payment["id"])
            assert (anew.status_code, anew.json()["method"]) == (201, "void"), anew.text
        assert await voids(patient, shop) == 1
        assert await audit(patient, shop) == []

    await asyncio.gather(*itertools.starmap(one, itertools.product(STEPS, FAULTS)))


async def test_a_refund_is_made_if_the_batch_closes_before_the_void_arrives(patient: Stack) -> None:
    """The void leaves, the batch closes, the void arrives and is refused: it becomes a refund."""
    shop = await patient.shop(patient.only_gateway)
    payment = await shop.paid(2500)
    await patient.simulator.fault("late_charge", shop.login, delay_ms=400, **STEPS["void"])
    refunding = asyncio.create_task(shop.refund(payment["id"]))

    async def on_its_way() -> bool:
        faults = (await patient.simulator.client.get("/faults")).json()
        return not any(each["login"] == shop.login for each in faults)

    await until(on_its_way, what="the void has left and met its fault")
    assert (await patient.simulator.post("/settle"))["batches"]
    answer = await refunding
    assert (answer.status_code, answer.json()["status"]) == (201, "succeeded"), answer.text
    assert answer.json()["method"] == "refund"
    after = await shop.payment(payment["id"])
    assert (after["status"], after["captured_amount"], after["refunded_amount"]) == (
        "captured",
        2500,
        2500,
    )
    truth = await patient.simulator.truth(login=shop.login)
    assert [row["type"] for row in truth] == ["authCaptureTransaction", "refundTransaction"]
    assert await audit(patient, shop) == []


async def test_a_void_with_a_lost_reply_is_recorded_as_the_processor_has_it(patient: Stack) -> None:
    """The void's reply is lost; the void is done before or after the batch closes."""

    async def one(fault: str, *, delay_ms: int) -> Shop:
        shop = await patient.shop(patient.only_gateway)
        payment = await shop.paid(2500)
        await patient.simulator.fault(fault, shop.login, delay_ms=delay_ms, **STEPS["void"])
        assert (await shop.refund(payment["id"])).status_code == 202
        return shop

    shops = await asyncio.gather(one("drop_reply", delay_ms=0), one("late_charge", delay_ms=1300))
    await patient.simulator.post("/settle")
    for shop in shops:
        await all_known(patient, shop)
        (payment,) = await shop.all("/payments")
        (refund,) = await shop.all(f"/payments/{payment['id']}/refunds")
        done = await voids(patient, shop)
        assert refund["status"] == ("succeeded" if done else "failed")
        assert payment["status"] == ("voided" if done else "captured")
        assert await audit(patient, shop) == []
