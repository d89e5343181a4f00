"""eChecks: which are accepted, how they settle, and returns by the bank."""

from typing import Any

from simulator.durable import Durable
from simulator.merchant_client import Merchant, Process, reason
from simulator.parts import bank

MASKED = {"routingNumber": "XXXX2882", "accountNumber": "XXXX5678"}


def pay(shop: Merchant, amount: str = "50.00", **changes: str) -> dict[str, Any]:
    return shop.charge(amount, payment=bank(**changes))


def test_an_echeck_has_no_avs_or_card_code_result(shop: Merchant) -> None:
    paid = pay(shop, echeckType="WEB", accountType="checking")
    assert paid["responseCode"] == "1"
    assert (paid["authCode"], paid["avsResultCode"], paid["cvvResultCode"]) == ("", "P", "")
    assert (paid["cavvResultCode"], paid["accountNumber"]) == ("", "XXXX5678")
    assert (paid["accountType"], "networkTransId" in paid) == ("eCheck", False)
    shown = bank(**MASKED, echeckType="WEB", accountType="checking")
    assert shop.details(paid["transId"])["payment"] == shown


def test_the_account_can_limit_the_kinds_of_echeck(shop: Merchant) -> None:
    assert reason(pay(shop, nameOnAccount=" ")) == "33"
    telephone = bank(echeckType="TEL")
    assert shop.charge("9.00", payment=telephone)["responseCode"] == "1"
    paper = bank(echeckType="ARC", checkNumber="1001")
    assert shop.charge("7.00", payment=paper)["responseCode"] == "1"
    shop.settings(echeck_types=["WEB"])
    assert reason(shop.charge("6.00", payment=telephone)) == "246"
    assert shop.charge("5.00", payment=bank())["responseCode"] == "1"


def test_echecks_have_a_monthly_limit(process: Process) -> None:
    shop = process.merchant()
    process.control("/clock", {"now": "2026-03-31T20:00:00Z", "stopped": True})
    shop.settings(echeck_monthly_limit="250.00")
    assert [pay(shop, "100.00")["responseCode"] for _ in range(2)] == ["1", "1"]
    assert pay(shop, "100.01")["responseCode"] == "2"
    assert reason(pay(shop, "50.01")) == "49"
    assert pay(shop, "50.00")["responseCode"] == "1"
    process.control("/clock", {"advance_s": 11 * 3600 - 1})
    assert reason(pay(shop, "60.00")) == "49"
    process.control("/clock", {"advance_s": 1})  # April in the account's time zone
    assert pay(shop, "60.00")["responseCode"] == "1"


def test_echecks_settle_in_their_own_batch(shop: Merchant) -> None:
    echeck, card = pay(shop), shop.charge("5.00")
    shop.process.control("/settle")
    batches = shop.call("getSettledBatchListRequest", includeStatistics=True)["batchList"]
    assert {each["paymentMethod"] for each in batches} == {"eCheck", "creditCard"}
    numbers = {shop.details(each["transId"])["batch"]["batchId"] for each in (echeck, card)}
    assert numbers == {each["batchId"] for each in batches}


def refund(shop: Merchant, trans_id: str, amount: str) -> dict[str, Any]:
    return shop.transact(
        transactionType="refundTransaction",
        amount=amount,
        payment=bank(**MASKED),
        refTransId=trans_id,
    )


def test_echecks_can_be_refunded_after_settlement(shop: Merchant) -> None:
    paid = pay(shop)
    assert reason(refund(shop, paid["transId"], "20.00")) == "16"
    shop.process.control("/settle")
    assert reason(shop.refund(paid["transId"], "20.00", last4="5678")) == "54"  # not a bank account
    back = refund(shop, paid["transId"], "20.00")
    assert (back["responseCode"], back["accountType"]) == ("1", "eCheck")
    assert reason(refund(shop, paid["transId"], "30.01")) == "55"
    unlinked = shop.charge("5.00", kind="refundTransaction", payment=bank())
    assert (unlinked["responseCode"], unlinked["messages"][0]["code"]) == ("4", "193")
    assert shop.status(unlinked["transId"]) == "underReview"


def test_a_bank_can_return_a_settled_echeck(durable: Durable) -> None:
    process, shop = durable.process, durable.merchant()
    paid, card = pay(shop), shop.charge("5.00")
    order = {"trans_id": paid["transId"], "code": "R02"}
    early = process.client.post("/simulator/returns", json=order)
    assert early.status_code == 400
    process.control("/settle")
    assert process.control("/returns", order)["status"] == "returnedItem"
    by_card = process.client.post("/simulator/returns", json={"trans_id": card["transId"]})
    assert by_card.status_code == 400
    durable.restart()
    told = shop.details(paid["transId"])
    assert told["transactionStatus"] == "returnedItem"
    (item,) = told["returnedItems"]
    assert (item["code"], item["description"]) == ("R02", "Account Closed")
    assert item["dateUTC"].endswith("Z")
    number = told["batch"]["batchId"]
    (listed,) = shop.call("getTransactionListRequest", batchId=number)["transactions"]
    assert listed["hasReturnedItems"] is True
    (line,) = shop.call("getBatchStatisticsRequest", batchId=number)["batch"]["statistics"]
    assert (line["chargeCount"], line["returnedItemCount"]) == (1, 1)
    assert (line["chargeReturnedItemsAmount"], "refundReturnedItemsCount" in line) == (50.0, False)
    assert reason(refund(shop, paid["transId"], "1.00")) == "54"
    assert "12345678" not in durable.file.read_text()
    assert "121042882" not in durable.file.read_text()


def test_a_return_can_be_a_transaction_of_its_own(durable: Durable) -> None:
    process, shop = durable.process, durable.merchant()
    paid = pay(shop)
    process.control("/settle")
    made = process.control("/returns", {"trans_id": paid["transId"], "code": "R01", "own_id": True})
    durable.restart()
    told = shop.details(made["trans_id"])
    assert (told["transactionStatus"], told["refTransId"]) == ("returnedItem", paid["transId"])
    assert [item["code"] for item in told["returnedItems"]] == ["R01"]
    original = shop.details(paid["transId"])
    assert original["transactionStatus"] == "settledSuccessfully"
    assert "returnedItems" not in original
    assert original["batch"]["batchId"] != told["batch"]["batchId"]
    number = told["batch"]["batchId"]
    (line,) = shop.call("getBatchStatisticsRequest", batchId=number)["batch"]["statistics"]
    assert (line["chargeCount"], line["returnedItemCount"]) == (0, 1)
    assert line["returnedItemAmount"] == 50.0
    assert reason(refund(shop, paid["transId"], "1.00")) in ("54", "55")
