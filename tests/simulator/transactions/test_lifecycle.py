"""A transaction's life cycle: capture, void, refund, review, settlement, expiry, reports."""

import pytest

from simulator.customers import code
from simulator.merchant_client import Merchant, Process, card, card_sale, reason
from simulator.parts import nonce, review


def test_a_partial_capture_keeps_the_id(shop: Merchant) -> None:
    held = shop.authorize("10.00", invoice="order-1")
    captured = shop.capture(held["transId"], amount="4.50")
    assert captured["transId"] == captured["refTransID"] == held["transId"]
    assert (captured["avsResultCode"], captured["cvvResultCode"]) == ("P", "")
    told = shop.details(held["transId"])
    assert told["transactionStatus"] == "capturedPendingSettlement"
    assert (told["authAmount"], told["settleAmount"]) == (10.0, 4.5)
    assert told["order"]["invoiceNumber"] == "order-1"
    auth, capture = shop.truth()
    assert capture == {
        "trans_id": held["transId"],
        "ref_trans_id": held["transId"],
        "type": "priorAuthCaptureTransaction",
        "amount": "4.50",
        "response_code": "1",
        "invoice_number": "",
        "status": "capturedPendingSettlement",
        "login": shop.login,
        "submitted_at": capture["submitted_at"],
    }
    assert (auth["amount"], auth["status"]) == ("10.00", "capturedPendingSettlement")


def test_a_second_capture_succeeds_without_effect(shop: Merchant) -> None:
    held = shop.authorize()
    shop.capture(held["transId"], amount="4.00")
    again = shop.capture(held["transId"], amount="4.00")
    assert again["responseCode"] == "1"
    assert again["messages"][0]["code"] == "311"
    assert again["transId"] == "0"
    assert len(shop.truth()) == 2


def test_invalid_captures_are_rejected(shared: Process, shop: Merchant) -> None:
    held = shop.authorize("10.00")
    assert reason(shop.capture(held["transId"], amount="10.01")) == "47"
    assert reason(shop.capture(held["transId"], amount="0.00")) == "5"
    assert reason(shop.capture("999")) == "16"
    assert reason(shop.capture("op_1")) == "15"
    assert reason(shared.merchant().capture(held["transId"])) == "16"
    declined = shop.authorize(billTo={"zip": "46282"})
    assert reason(shop.capture(declined["transId"])) == "64"
    shop.void(held["transId"])
    assert reason(shop.capture(held["transId"])) == "16"
    shop.settings(held_above="1.00")
    review = shop.authorize("20.00")
    assert reason(shop.capture(review["transId"])) == "16"  # it is not approved yet


def test_a_capture_in_another_currency_is_39(shared: Process) -> None:
    shop = shared.merchant(currencies=["USD", "CAD"])
    sale = {"transactionType": "authCaptureTransaction", "amount": "1.00", "currencyCode": "CAD"}
    paid = shop.transact(**sale, payment=card())
    held = shop.authorize("10.00")
    assert paid["responseCode"] == "1"
    assert reason(shop.capture(held["transId"], amount="5.00", currencyCode="CAD")) == "39"
    assert shop.capture(held["transId"], amount="5.00", currencyCode="USD")["responseCode"] == "1"


def test_unsettled_transactions_can_be_voided(shop: Merchant) -> None:
    sale = shop.charge()
    voided = shop.void(sale["transId"])
    assert voided["transId"] == voided["refTransID"] == sale["transId"]
    assert shop.status(sale["transId"]) == "voided"
    again = shop.void(sale["transId"])
    assert (again["responseCode"], again["messages"][0]["code"]) == ("1", "310")
    assert [row["type"] for row in shop.truth()] == ["authCaptureTransaction", "voidTransaction"]
    assert reason(shop.void("1")) == "16"
    settled = shop.charge()
    shop.process.control("/settle")
    assert reason(shop.void(settled["transId"])) == "327"


def test_refunds_are_possible_after_settlement(shop: Merchant) -> None:
    sale = shop.charge("10.00")
    assert reason(shop.refund(sale["transId"], "4.00")) == "54"
    shop.settings(unsettled_refund_code=50)
    assert reason(shop.refund(sale["transId"], "4.00")) == "50"
    shop.process.control("/settle")
    assert reason(shop.refund(sale["transId"], "4.00", last4="4242")) == "54"
    first = shop.refund(sale["transId"], "4.00")
    assert (first["responseCode"], first["refTransID"]) == ("1", sale["transId"])
    assert first["transId"] != sale["transId"]
    assert reason(shop.refund(sale["transId"], "6.01")) == "55"
    assert shop.status(first["transId"]) == "refundPendingSettlement"
    assert shop.details(first["transId"])["refTransId"] == sale["transId"]
    shop.void(first["transId"])
    assert shop.refund(sale["transId"], "10.00")["responseCode"] == "1"
    shop.process.control("/settle")
    rows = {row["type"]: row for row in shop.truth()}
    assert rows["refundTransaction"]["status"] == "refundSettledSuccessfully"
    assert rows["refundTransaction"]["ref_trans_id"] == sale["transId"]
    assert reason(shop.refund(rows["refundTransaction"]["trans_id"], "1.00")) == "54"


def test_a_partial_capture_limits_its_refunds(shop: Merchant) -> None:
    held = shop.authorize("10.00")
    shop.capture(held["transId"], amount="4.00")
    shop.process.control("/settle")
    assert reason(shop.refund(held["transId"], "4.01")) == "55"
    assert shop.refund(held["transId"], "4.00")["responseCode"] == "1"


def test_an_unlinked_refund_needs_the_full_card_number(shop: Merchant) -> None:
    response = shop.charge("3.00", kind="refundTransaction")
    assert (response["responseCode"], response["refTransID"]) == ("1", "")
    assert reason(shop.charge("3.00", kind="refundTransaction", number="XXXX1111")) == "6"
    shop.settings(unlinked_refunds=False)
    assert reason(shop.charge("4.00", kind="refundTransaction")) == "54"


@pytest.mark.parametrize(
    ("action", "reason_code", "status", "has_auth_code"),
    [
        ("authAndHold", "253", "FDSAuthorizedPendingReview", True),
        ("hold", "252", "FDSPendingReview", False),
    ],
)
def test_a_held_charge_can_be_approved_or_declined(
    shop: Merchant, action: str, reason_code: str, status: str, has_auth_code: bool
) -> None:
    shop.settings(held_above="900.00", held_action=action)
    assert shop.charge("900.00")["responseCode"] == "1"
    held = shop.charge("900.01")
    assert (held["responseCode"], held["messages"][0]["code"]) == ("4", reason_code)
    assert bool(held["authCode"]) is has_auth_code
    assert shop.status(held["transId"]) == status
    listed = shop.call("getUnsettledTransactionListRequest", status="pendingApproval")
    assert [each["transId"] for each in listed["transactions"]] == [held["transId"]]
    assert shop.call("getUnsettledTransactionListRequest")["totalNumInResultSet"] == 2
    assert code(review(shop, "approve", held["transId"])) == "I00001"
    assert shop.status(held["transId"]) == "capturedPendingSettlement"
    assert code(review(shop, "approve", held["transId"])) == "E00040"
    other = shop.charge("901.00")
    review(shop, "decline", other["transId"])
    assert shop.status(other["transId"]) == ("voided" if has_auth_code else "declined")


def test_the_unsettled_list_is_paged_and_sorted(shop: Merchant) -> None:
    answer = shop.call("getUnsettledTransactionListRequest")
    assert answer["messages"]["resultCode"] == "Ok"
    assert answer["messages"]["message"][0] == {"code": "I00004", "text": "No records found."}
    assert "transactions" not in answer
    ids = [
        shop.charge(invoice=f"order-{n}", billTo={"firstName": "Jane"})["transId"] for n in range(5)
    ]
    shop.charge(billTo={"zip": "46282"})

    def page(descending: bool, offset: int) -> list[str]:
        answer = shop.call(
            "getUnsettledTransactionListRequest",
            sorting={"orderBy": "submitTimeUTC", "orderDescending": descending},
            paging={"limit": 2, "offset": offset},
        )
        assert answer["totalNumInResultSet"] == 5
        return [each["transId"] for each in answer.get("transactions", [])]

    assert page(True, 1) == [ids[4], ids[3]]
    assert page(True, 3) == [ids[0]]
    assert page(True, 4) == []
    assert page(False, 2) == [ids[2], ids[3]]
    newest = shop.call("getUnsettledTransactionListRequest")["transactions"][0]
    assert newest == {
        "transId": ids[4],
        "submitTimeUTC": newest["submitTimeUTC"],
        "submitTimeLocal": newest["submitTimeLocal"],
        "transactionStatus": "capturedPendingSettlement",
        "invoiceNumber": "order-4",
        "firstName": "Jane",
        "accountType": "Visa",
        "accountNumber": "XXXX1111",
        "settleAmount": 10.0,
        "marketType": "eCommerce",
        "product": "Card Not Present",
        "hasReturnedItemsSpecified": False,
    }


def test_reports_can_lag(process: Process) -> None:
    shop = process.merchant()
    process.control("/clock", {"advance_s": 0, "stopped": True})
    shop.settings(reporting_lag_ms=5000)
    sale = shop.charge()
    assert shop.call("getUnsettledTransactionListRequest")["totalNumInResultSet"] == 0
    answer = shop.call("getTransactionDetailsRequest", transId=sale["transId"])
    assert answer["messages"]["message"][0]["code"] == "E00040"
    process.control("/clock", {"advance_s": 5})
    assert shop.call("getUnsettledTransactionListRequest")["totalNumInResultSet"] == 1
    assert shop.status(sale["transId"]) == "capturedPendingSettlement"
    (made,) = process.control("/settle")["batches"]
    number = made["batch_id"]

    def codes() -> set[str]:
        answers = (
            shop.call("getSettledBatchListRequest"),
            shop.call("getTransactionListRequest", batchId=number),
            shop.call("getBatchStatisticsRequest", batchId=number),
        )
        return {answer["messages"]["message"][0]["code"] for answer in answers}

    assert codes() == {"I00004"}
    process.control("/clock", {"advance_s": 5})
    assert codes() == {"I00001"}


def test_details_of_other_merchants_are_not_found(shared: Process, shop: Merchant) -> None:
    sale = shop.charge()
    for merchant, trans_id in ((shared.merchant(), sale["transId"]), (shop, "1"), (shop, "9" * 40)):
        answer = merchant.call("getTransactionDetailsRequest", refId="r", transId=trans_id)
        assert answer == {
            "refId": "r",
            "messages": {
                "resultCode": "Error",
                "message": [{"code": "E00040", "text": "The record cannot be found."}],
            },
        }


def test_amounts_in_reports_have_two_decimals(shop: Merchant) -> None:
    sale = shop.charge("5.00")
    reply = shop.post("getTransactionDetailsRequest", transId=sale["transId"])
    assert b'"authAmount":5.00,"settleAmount":5.00' in reply.content
    assert b'"responseCode":1,"responseReasonCode":1' in reply.content


def test_batches_are_listed_with_statistics(shop: Merchant, shared: Process) -> None:
    nothing = shop.call("getSettledBatchListRequest")
    assert nothing["messages"]["message"][0]["code"] == "I00004"
    sale, held = shop.charge("5.00"), shop.authorize()
    shop.process.control("/settle")
    (batch,) = shop.call("getSettledBatchListRequest", includeStatistics=True)["batchList"]
    assert batch["settlementState"] == "settledSuccessfully"
    assert batch["statistics"][0]["chargeCount"] == 1
    listed = shop.call("getTransactionListRequest", batchId=batch["batchId"])
    assert [each["transId"] for each in listed["transactions"]] == [sale["transId"]]
    assert shop.details(sale["transId"])["batch"]["batchId"] == batch["batchId"]
    assert shop.status(held["transId"]) == "authorizedPendingCapture"
    for dates in (
        {"firstSettlementDate": "2026-01-01T00:00:00Z"},
        {
            "firstSettlementDate": "2026-01-01T00:00:00Z",
            "lastSettlementDate": "2026-02-02T00:00:00Z",
        },
    ):
        answer = shop.call("getSettledBatchListRequest", **dates)
        assert answer["messages"]["message"][0]["code"] == "E00013"
    for method in ("getTransactionListRequest", "getBatchStatisticsRequest"):
        for merchant, number in ((shop, "1"), (shared.merchant(), batch["batchId"])):
            nothing = merchant.call(method, batchId=number)
            assert nothing["messages"] == {
                "resultCode": "Ok",
                "message": [{"code": "I00004", "text": "No records found."}],
            }
            assert nothing.keys() <= {"totalNumInResultSet", "messages"}


def test_the_clock_triggers_settlement_and_expiry(process: Process) -> None:
    shop = process.merchant()
    process.control("/clock", {"now": "2026-07-01T22:59:00Z"})  # 3:59 pm Pacific
    sale, held = shop.charge("10.00"), shop.authorize()
    shop.settings(held_above="900.00")
    review = shop.charge("901.00")
    process.control("/clock", {"advance_s": 50})
    assert shop.status(sale["transId"]) == "capturedPendingSettlement"
    process.control("/clock", {"advance_s": 20})
    assert shop.status(sale["transId"]) == "settledSuccessfully"
    batch = shop.details(sale["transId"])["batch"]
    assert batch["settlementTimeUTC"] == "2026-07-01T23:00:00Z"
    assert batch["settlementTimeLocal"] == "2026-07-01T16:00:00"
    process.control("/clock", {"advance_s": 5 * 86_400})
    assert shop.status(review["transId"]) == "voided"
    assert shop.status(held["transId"]) == "authorizedPendingCapture"
    process.control("/clock", {"advance_s": 25 * 86_400})
    assert shop.status(held["transId"]) == "expired"
    assert shop.refund(sale["transId"], "1.00")["responseCode"] == "1"
    process.control("/clock", {"advance_s": 151 * 86_400})
    assert reason(shop.refund(sale["transId"], "1.00")) == "54"


def test_duplicate_windows_and_nonces_end_by_the_clock(process: Process) -> None:
    shop = process.merchant()
    payment = {"opaqueData": nonce(shop)}
    shop.charge(invoice="a")
    process.control("/clock", {"advance_s": 119, "stopped": True})
    assert reason(shop.charge(invoice="a")) == "11"
    process.control("/clock", {"advance_s": 2})
    assert shop.charge(invoice="a")["responseCode"] == "1"
    process.control("/clock", {"advance_s": 780})
    assert code(shop.transaction(**card_sale() | {"payment": payment})) == "E00114"
    assert process.control("/clock", method="GET")["stopped"] is True
    assert process.control("/clock", {"real": True})["real"] is True
