"""The delimited text of createCustomerProfileTransactionRequest, as published clients parse it."""

import pytest

from simulator.customers import Older, code, message
from simulator.merchant_client import Merchant
from simulator.parts import close


def charge(
    shop: Merchant, amount: str = "100", extra: str | None = None, *, zip_code: str = "98004"
) -> list[str]:
    """Return the fields of the reply; the first has index 1."""
    older = Older(shop, email=f"{len(shop.truth())}@shop.example", billTo={"zip": zip_code})
    answer = older.send("profileTransAuthCapture", extra, amount=amount, **older.ids)
    assert message(answer) == ("I00001", "Successful."), answer
    delimiter = "$" if extra and "x_delim_char=$" in extra else ","
    return ["", *answer["directResponse"].split(delimiter)]


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ("100", "100.00"),  # ActiveMerchant, remote_authorize_net_cim_test.rb: sent as 100
        ("10.9", "10.90"),
        ("10.95", "10.95"),  # authnetjson, AuthnetJsonCimTest.php
    ],
)
def test_an_amount_has_two_decimals(shop: Merchant, sent: str, told: str) -> None:
    assert charge(shop, sent)[10] == told


@pytest.mark.parametrize(
    ("extra", "own"),
    [
        ("bar=456&foo=123", ["456", "123"]),
        ("x_delim_char=$&bar=456&foo=123", ["456", "123"]),
        ("x_customer_ip=100.0.0.1", []),  # authnetjson: the gateway's own options are not returned
    ],
)
def test_the_merchants_fields_follow_field_68(shop: Merchant, extra: str, own: list[str]) -> None:
    """AuthorizeNet/sdk-ruby, cim_spec.rb, "should support custom fields", and its table of fields:
    merchant defined fields come after field 68."""
    assert charge(shop, extra=extra)[69:] == own


@pytest.mark.parametrize(
    ("wanted", "status"), [("completed", "capturedPendingSettlement"), ("voided", "voided")]
)
def test_a_split_order_can_be_completed_or_voided(shop: Merchant, wanted: str, status: str) -> None:
    """AuthorizeNet/sdk-ruby, cim_spec.rb, "should be able to update split transaction statuses":
    1.23 is paid and the response code is 4; the rest is approved although the same card pays it,
    without x_allow_partial_auth; then the paid order is completed, or voided."""
    first = charge(shop, "50", "x_allow_partial_auth=true", zip_code="46225")
    assert (first[1], first[3], first[10]) == ("4", "295", "1.23")
    split, requested, balance = first[53:56]
    assert (requested, balance) == ("50.00", "")
    rest = charge(shop, "48.77", f"x_split_tender_id={split}", zip_code="46225")
    assert (rest[1], rest[10], rest[53]) == ("1", "48.77", split)
    assert message(close(shop, split, wanted)) == ("I00001", "Successful.")
    assert {shop.status(each[7]) for each in (first, rest)} == {status}


def test_a_settled_split_order_cannot_be_voided(shop: Merchant) -> None:
    first = charge(shop, "50", "x_allow_partial_auth=true", zip_code="46225")
    assert code(close(shop, first[53], "completed")) == "I00001"
    shop.process.control("/settle")
    assert code(close(shop, first[53], "voided")) == "E00027"
    assert shop.status(first[7]) == "settledSuccessfully"
