"""Every status can be set, and lists, batches and amounts then agree with it."""

import pytest

from simulator.durable import Durable
from simulator.merchant_client import Merchant, reason
from simulator.schema_source import SCHEMA

STATUSES: list[str] = SCHEMA["simple"]["transactionStatusEnum"]["enum"]
OF_REFUNDS = {"refundPendingSettlement", "refundSettledSuccessfully"}
SETTLES = {
    "capturedPendingSettlement",
    "approvedReview",
    "couldNotVoid",
    "pendingSettlement",
    "pendingFinalSettlement",
    "updatingSettlement",
}
HELD = {"FDSPendingReview", "FDSAuthorizedPendingReview", "underReview"}
IN_A_BATCH = {"settledSuccessfully", "settlementError", "chargeback", "chargebackReversal"}
NO_MONEY = {
    "voided",
    "declined",
    "expired",
    "failedReview",
    "generalError",
    "communicationError",
    "settlementError",
}


def put(shop: Merchant, trans_id: str, status: str) -> None:
    shop.process.control("/status", {"trans_id": trans_id, "status": status})


def listed(shop: Merchant, **which: str) -> list[str]:
    answer = shop.call("getUnsettledTransactionListRequest", **which)
    return [each["transId"] for each in answer.get("transactions", [])]


@pytest.mark.parametrize("status", sorted(set(STATUSES) - OF_REFUNDS - {"returnedItem"}))
def test_any_status_can_be_set_on_a_charge(shop: Merchant, status: str) -> None:
    before, trans_id, after = (shop.charge(f"{n}.00")["transId"] for n in (1, 2, 3))
    put(shop, trans_id, status)
    told = shop.details(trans_id)
    assert told["transactionStatus"] == status
    assert told["settleAmount"] == (0.0 if status in NO_MONEY else 2.0)
    unsettled = status in SETTLES | HELD or status.startswith("authorizedPending")
    expected = [after, trans_id, before] if unsettled else [after, before]
    assert listed(shop) == expected
    assert (trans_id in listed(shop, status="pendingApproval")) is (status in HELD)
    assert ("batch" in told) is (status in IN_A_BATCH)
    if status in SETTLES:
        shop.process.control("/settle")
        assert shop.status(trans_id) == "settledSuccessfully"
    put(shop, trans_id, "capturedPendingSettlement")  # and back, without traces
    told = shop.details(trans_id)
    assert (told["settleAmount"], "batch" in told, told["responseCode"]) == (2.0, False, 1)
    assert trans_id in listed(shop)
    assert shop.void(trans_id)["responseCode"] == "1"


def test_a_failed_settlement_settles_no_money(shop: Merchant) -> None:
    sale = shop.charge("2.00")
    put(shop, sale["transId"], "settlementError")
    told = shop.details(sale["transId"])
    assert (told["responseCode"], told["responseReasonCode"]) == (3, 36)
    assert told["batch"]["settlementState"] == "settlementError"
    (batch,) = shop.call("getSettledBatchListRequest", includeStatistics=True)["batchList"]
    assert batch["settlementState"] == "settlementError"
    assert (batch["statistics"][0]["chargeCount"], batch["statistics"][0]["errorCount"]) == (0, 1)
    assert reason(shop.refund(sale["transId"], "2.00")) == "54"


def test_a_chargeback_is_counted(shop: Merchant) -> None:
    sale = shop.charge("2.00")
    shop.process.control("/settle")
    put(shop, sale["transId"], "chargeback")
    (batch,) = shop.call("getSettledBatchListRequest", includeStatistics=True)["batchList"]
    line = batch["statistics"][0]
    assert (line["chargebackCount"], line["chargeChargeBackAmount"]) == (1, 2.0)
    assert reason(shop.void(sale["transId"])) == "327"


def test_a_failed_refund_frees_its_amount(shop: Merchant) -> None:
    sale = shop.charge("10.00")
    shop.process.control("/settle")
    refund = shop.refund(sale["transId"], "10.00")
    assert reason(shop.refund(sale["transId"], "1.00")) == "55"
    put(shop, refund["transId"], "generalError")
    again = shop.refund(sale["transId"], "4.00")
    assert again["responseCode"] == "1"
    put(shop, refund["transId"], "refundSettledSuccessfully")
    assert reason(shop.refund(sale["transId"], "0.50")) == "55"


def test_invalid_status_changes_are_rejected(shop: Merchant) -> None:
    sale = shop.charge()["transId"]
    for trans_id, status in (
        (sale, "refundPendingSettlement"),
        (sale, "returnedItem"),
        (sale, "lost"),
        ("1", "voided"),
        ("x", "voided"),
    ):
        order = {"trans_id": trans_id, "status": status}
        reply = shop.process.client.post("/simulator/status", json=order)
        assert reply.status_code == 400, order
    assert shop.status(sale) == "capturedPendingSettlement"


def test_a_status_survives_a_kill(durable: Durable) -> None:
    shop = durable.merchant()
    ids = [shop.charge(f"{n}.00")["transId"] for n in (1, 2, 3)]
    put(shop, ids[0], "chargeback")
    put(shop, ids[1], "declined")
    put(shop, ids[2], "FDSPendingReview")
    batch = shop.details(ids[0])["batch"]
    durable.restart()
    assert [shop.status(each) for each in ids] == ["chargeback", "declined", "FDSPendingReview"]
    assert shop.details(ids[0])["batch"] == batch
    assert listed(shop, status="pendingApproval") == [ids[2]]
