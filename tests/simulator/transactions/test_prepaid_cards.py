"""Prepaid cards that pay partly, and orders with several payments."""

from typing import Any

import pytest

from simulator.customers import code
from simulator.durable import Durable
from simulator.merchant_client import VISA, Merchant, Process, card, reason
from simulator.parts import MASTERCARD, close, setting

PARTIAL = setting("allowPartialAuth")


def pay(
    shop: Merchant,
    amount: str,
    *,
    invoice: str | None = None,
    zip_code: str = "98004",
    split: str | None = None,
    kind: str = "authCaptureTransaction",
    number: str = VISA,
    settings: dict[str, Any] = PARTIAL,
    **more: str,
) -> dict[str, Any]:
    group = {} if split is None else {"splitTenderId": split}
    return shop.transact(
        transactionType=kind,
        amount=amount,
        payment=card(number),
        **more,
        **group,
        order={"invoiceNumber": invoice or f"order-{len(shop.truth())}"},
        billTo={"zip": zip_code},
        **settings,
    )


@pytest.mark.parametrize(
    ("zip_code", "balance"), [("46226", "1.23"), ("46227", "-1.23"), ("46228", "0.00")]
)
def test_a_prepaid_card_reports_its_balance(shop: Merchant, zip_code: str, balance: str) -> None:
    paid = shop.charge("10.00", billTo={"zip": zip_code})
    assert paid["responseCode"] == "1"
    assert paid["prePaidCard"] == {
        "requestedAmount": "10.00",
        "approvedAmount": "10.00",
        "balanceOnCard": balance,
    }
    assert "splitTenderId" not in paid
    told = shop.details(paid["transId"])
    assert (told["authAmount"], told["prepaidBalanceRemaining"]) == (10.0, float(balance))


def test_a_card_with_too_little_declines_unless_partial_payment_is_allowed(shop: Merchant) -> None:
    declined = shop.charge("10.00", billTo={"zip": "46225"})
    assert (declined["responseCode"], reason(declined)) == ("2", "2")
    assert "prePaidCard" not in declined
    enough = shop.charge("1.23", billTo={"zip": "46225"})
    assert enough["responseCode"] == "1"
    assert enough["prePaidCard"]["balanceOnCard"] == ""


def test_two_payments_complete_an_order(shop: Merchant) -> None:
    first = pay(shop, "10.00", zip_code="46225")
    assert (first["responseCode"], first["messages"][0]["code"]) == ("4", "295")
    assert first["prePaidCard"] == {
        "requestedAmount": "10.00",
        "approvedAmount": "1.23",
        "balanceOnCard": "",
    }
    split = first["splitTenderId"]
    assert first["splitTenderPayments"][0]["transId"] == first["transId"]
    assert shop.status(first["transId"]) == "authorizedPendingRelease"
    shop.process.control("/settle")  # an unpaid order does not settle
    assert shop.status(first["transId"]) == "authorizedPendingRelease"
    assert reason(pay(shop, "8.78", split=split, number=MASTERCARD)) == "5"
    rest = pay(shop, "8.77", split=split, number=MASTERCARD)
    assert (rest["responseCode"], rest["splitTenderId"]) == ("1", split)
    payments = rest["splitTenderPayments"]
    assert [each["approvedAmount"] for each in payments] == ["1.23", "8.77"]
    assert [each["responseCode"] for each in payments] == ["1", "1"]
    for each in (first, rest):
        told = shop.details(each["transId"])
        assert told["transactionStatus"] == "capturedPendingSettlement"
        assert told["splitTenderId"] == split
    assert shop.details(first["transId"])["requestedAmount"] == 10.0
    assert shop.details(first["transId"])["settleAmount"] == 1.23
    assert reason(pay(shop, "1.00", split=split)) == "298"


def test_a_partial_payment_leaves_the_order_open(shop: Merchant) -> None:
    first = pay(shop, "10.00", zip_code="46225", kind="authOnlyTransaction")
    split = first["splitTenderId"]
    declined = pay(shop, "2.00", split=split, zip_code="46282")
    assert declined["responseCode"] == "2"
    second = pay(shop, "2.00", split=split, kind="authOnlyTransaction")
    assert (second["responseCode"], second["messages"][0]["code"]) == ("4", "295")
    assert reason(shop.capture(second["transId"])) == "16"
    shop.void(second["transId"])
    third = pay(shop, "8.77", split=split, kind="authOnlyTransaction", number=MASTERCARD)
    assert third["responseCode"] == "1"
    statuses = [shop.status(each["transId"]) for each in (first, second, third)]
    assert statuses == ["authorizedPendingCapture", "voided", "authorizedPendingCapture"]
    assert shop.capture(first["transId"])["responseCode"] == "1"


def test_repeating_the_last_payment_is_a_duplicate(shop: Merchant) -> None:
    """Its reply was lost: it must be recognized although it has closed the order."""
    split = pay(shop, "10.00", zip_code="46225")["splitTenderId"]
    last = pay(shop, "8.77", split=split, invoice="last")
    window = setting("duplicateWindow", "600")
    again = pay(shop, "8.77", split=split, invoice="last", settings=window)
    assert (reason(again), again["transId"]) == ("11", last["transId"])


def test_an_order_can_be_voided_or_completed_early(shared: Process, shop: Merchant) -> None:
    given_up = pay(shop, "10.00", zip_code="46225")
    assert code(close(shared.merchant(), given_up["splitTenderId"], "voided")) == "E00040"
    assert code(close(shop, given_up["splitTenderId"], "held")) == "I00001"
    assert code(close(shop, given_up["splitTenderId"], "voided")) == "I00001"
    assert shop.status(given_up["transId"]) == "voided"
    assert reason(pay(shop, "8.77", split=given_up["splitTenderId"])) == "298"
    assert code(close(shop, given_up["splitTenderId"], "voided")) == "I00001"  # again
    assert code(close(shop, given_up["splitTenderId"], "completed")) == "E00027"
    assert [row["type"] for row in shop.truth()] == ["authCaptureTransaction", "voidTransaction"]
    taken = pay(shop, "20.00", zip_code="46225")
    assert code(close(shop, taken["splitTenderId"], "completed")) == "I00001"
    assert shop.status(taken["transId"]) == "capturedPendingSettlement"
    assert code(close(shop, "12", "voided")) == "E00040"


def test_unknown_orders_are_rejected(shared: Process, shop: Merchant) -> None:
    foreign = pay(shared.merchant(), "10.00", zip_code="46225")["splitTenderId"]
    assert reason(pay(shop, "1.00", split=foreign)) == "296"
    own = pay(shop, "10.00", zip_code="46225")
    assert reason(pay(shop, "1.00", split=own["splitTenderId"], refTransId="1")) == "297"


def test_an_open_order_survives_a_kill(durable: Durable) -> None:
    shop = durable.merchant()
    first = pay(shop, "10.00", zip_code="46225")
    durable.restart()
    rest = pay(shop, "8.77", split=first["splitTenderId"])
    assert rest["responseCode"] == "1"
    assert shop.status(first["transId"]) == "capturedPendingSettlement"
    assert len({first["transId"], rest["transId"], first["splitTenderId"]}) == 3
