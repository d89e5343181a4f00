"""Charges: triggers, filters, invalid payment methods, duplicates, nonces."""

import json
from base64 import b64decode, b64encode
from typing import Any

import pytest

from simulator.customers import code
from simulator.merchant_client import VISA, Merchant, Process, card_sale, reason
from simulator.parts import nonce, setting


@pytest.mark.parametrize(
    ("number", "brand"),
    [
        ("4007000000027", "Visa"),
        ("4012888818888", "Visa"),
        ("4111111111111111", "Visa"),
        ("4242424242424242", "Visa"),
        ("5424000000000015", "MasterCard"),
        ("2223000010309703", "MasterCard"),
        ("370000000000002", "AmericanExpress"),
        ("6011000000000012", "Discover"),
        ("3088000000000017", "JCB"),
        ("38000000000006", "DinersClub"),
    ],
)
def test_the_brand_follows_from_the_number(shop: Merchant, number: str, brand: str) -> None:
    response = shop.charge(number=number)
    assert (response["responseCode"], response["accountType"]) == ("1", brand)
    assert response["accountNumber"] == f"XXXX{number[-4:]}"


@pytest.mark.parametrize("expiry", ["2040-12", "1240", "12/40", "122040", "12/2040", "12-2040"])
def test_every_documented_format_of_an_expiry_is_accepted(shop: Merchant, expiry: str) -> None:
    assert shop.charge(expiry=expiry)["responseCode"] == "1"


def test_a_transaction_error_is_in_the_response_and_in_the_messages(shop: Merchant) -> None:
    answer = shop.call(
        "createTransactionRequest",
        refId="r",
        transactionRequest={"transactionType": "authCaptureTransaction", "amount": "1.00"},
    )
    assert list(answer) == ["transactionResponse", "refId", "messages"]
    assert answer["messages"] == {
        "resultCode": "Error",
        "message": [{"code": "E00027", "text": "The transaction was unsuccessful."}],
    }
    assert answer["transactionResponse"]["errors"] == [
        {"errorCode": "33", "errorText": "Credit card number is required."}
    ]


def test_a_decline_is_ok_with_errors(shop: Merchant) -> None:
    answer = shop.transaction(
        **card_sale(order={"invoiceNumber": "declined"}, billTo={"zip": "46282"})
    )
    response = answer["transactionResponse"]
    assert answer["messages"]["resultCode"] == "Ok"
    assert code(answer) == "I00001"
    assert (response["responseCode"], response["authCode"]) == ("2", "")
    assert response["errors"] == [
        {"errorCode": "2", "errorText": "This transaction has been declined."}
    ]
    assert shop.status(response["transId"]) == "declined"
    (row,) = shop.truth()
    assert (row["response_code"], row["status"], row["invoice_number"]) == (
        "2",
        "declined",
        "declined",
    )


@pytest.mark.parametrize(
    ("zip_code", "avs"),
    [("46201", "A"), ("46205", "N"), ("46211", "W"), ("46217", "Z"), ("98004", "Y")],
)
def test_the_zip_selects_the_avs_result(shop: Merchant, zip_code: str, avs: str) -> None:
    response = shop.charge(billTo={"zip": zip_code})
    assert (response["responseCode"], response["avsResultCode"]) == ("1", avs)


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("900", "M"),
        ("901", "N"),
        ("902", "S"),
        ("903", "U"),
        ("904", "P"),
        ("123", "P"),
        ("9004", "P"),
        (None, ""),
    ],
)
def test_the_card_code_selects_its_result(shop: Merchant, code: str | None, result: str) -> None:
    assert shop.charge(code=code)["cvvResultCode"] == result


def test_the_accounts_filters_decline(shop: Merchant) -> None:
    shop.settings(avs_reject=["N"], cvv_reject=["N"])
    assert reason(shop.charge(billTo={"zip": "46205"})) == "27"
    assert reason(shop.charge(code="901")) == "65"
    assert reason(shop.charge(code="901", billTo={"zip": "46205"})) == "45"
    assert shop.charge(code="900")["responseCode"] == "1"


def test_magnetic_stripe_data_is_accepted(shop: Merchant) -> None:
    track = "%B4111111111111111^DOE/JANE^40121011000000000000?"
    assert shop.charge(payment={"trackData": {"track1": track}})["accountNumber"] == "XXXX1111"
    old = "%B378282246310005^LONGSON/LONGBOB^1705101130504392?"  # its expiry is not checked
    assert shop.charge(payment={"trackData": {"track1": old}})["responseCode"] == "1"
    assert reason(shop.charge(payment={"trackData": {"track1": "nonsense"}})) == "88"


def test_test_mode_records_nothing(shop: Merchant) -> None:
    response = shop.charge(**setting("testRequest"))
    assert response["messages"][0]["description"].startswith("(TESTMODE)")
    assert (response["transId"], response["authCode"]) == ("0", "000000")
    assert (response["testRequest"], shop.truth()) == ("1", [])


def window(seconds: str) -> dict[str, Any]:
    return setting("duplicateWindow", seconds)


def test_a_duplicate_shows_the_original_only_with_an_explicit_window(shop: Merchant) -> None:
    original = shop.charge(invoice="once")
    silent = shop.charge(invoice="once")
    assert (silent["responseCode"], silent["transId"]) == ("3", "0")
    assert silent["errors"] == [
        {"errorCode": "11", "errorText": "A duplicate transaction has been submitted."}
    ]
    told = shop.charge(invoice="once", **window("28800"))
    assert reason(told) == "11"
    assert told["transId"] == original["transId"]
    assert told["authCode"] == original["authCode"]
    assert len(shop.truth()) == 1


def test_a_window_of_zero_allows_a_duplicate(shop: Merchant) -> None:
    first = shop.charge(invoice="twice", **window("0"))
    second = shop.charge(invoice="twice", **window("0"))
    assert second["responseCode"] == "1"
    assert second["transId"] != first["transId"]


def test_declines_count_as_originals_and_errors_do_not(shop: Merchant) -> None:
    declined = shop.charge(invoice="no", billTo={"zip": "46282"})
    again = shop.charge(invoice="no", billTo={"zip": "46282"}, **window("600"))
    assert (reason(again), again["transId"]) == ("11", declined["transId"])
    assert again["authCode"] == ""
    for _ in range(2):
        assert reason(shop.charge(invoice="old", expiry="2020-01")) == "8"


@pytest.mark.parametrize(
    "changed",
    [
        {"amount": "10.01"},
        {"invoice": "another"},
        {"number": "4242424242424242"},
        {"expiry": "2041-12"},
        {"kind": "authOnlyTransaction"},
        {"customer": {"id": "c2"}},
        {"billTo": {"zip": "98005"}},
        {"billTo": {"company": "Hats"}},
        {"poNumber": "po-1"},
    ],
)
def test_another_compared_field_is_no_duplicate(shop: Merchant, changed: dict[str, Any]) -> None:
    assert shop.charge(invoice="one")["responseCode"] == "1"
    assert shop.charge(**{"invoice": "one", **changed})["responseCode"] == "1"


def test_a_difference_in_other_fields_is_a_duplicate(shop: Merchant) -> None:
    """Only the documented fields are compared: another phone number is still a duplicate."""
    shop.charge(invoice="one", customerIP="192.0.2.1")
    for other in (
        {"customerIP": "192.0.2.2"},
        {"billTo": {"phoneNumber": "425-555-0100"}},
        {"shipTo": {"zip": "98005"}},
        {"customer": {"email": "a@example.com"}},
        {"tax": {"amount": "1.00"}},
        {"code": "901"},
    ):
        assert reason(shop.charge(invoice="one", **other)) == "11", other


def pay_with(shop: Merchant, token: dict[str, str]) -> dict[str, Any]:
    request = card_sale() | {"payment": {"opaqueData": token}}
    return shop.call("createTransactionRequest", refId="nonce", transactionRequest=request)


def test_a_nonce_can_be_used_once(shop: Merchant) -> None:
    token = nonce(shop, cardCode="900")
    response = pay_with(shop, token)["transactionResponse"]
    assert (response["responseCode"], response["accountNumber"]) == ("1", "XXXX1111")
    assert response["cvvResultCode"] == "M"
    garbage = pay_with(shop, {**token, "dataValue": "garbage"})["messages"]["message"]
    assert garbage == [{"code": "E00117", "text": "OTS Service Error 'Field validation error.'"}]
    again = pay_with(shop, token)
    assert again == {
        "transactionResponse": {"SupplementalDataQualificationIndicator": 0},
        "refId": "nonce",
        "messages": {
            "resultCode": "Error",
            "message": [{"code": "E00114", "text": "Invalid OTS Token."}],
        },
    }
    assert len(shop.truth()) == 1


def test_nonces_of_the_samples_are_recognized(shop: Merchant) -> None:
    """Nonces of tutorials and old logs get another error than invalid text."""
    mine = nonce(shop)
    told = json.loads(b64decode(mine["dataValue"]))
    assert told.keys() == {"code", "token", "v"}
    foreign = b64encode(json.dumps(told | {"token": "1" * 22}, separators=(",", ":")).encode())
    for value in (foreign.decode(), f"119{foreign.decode()}", "1" * 22):
        assert code(pay_with(shop, {**mine, "dataValue": value})) == "E00114"
    for value in ("1" * 21, f"11{foreign.decode()}", foreign.decode()[:-1], "eyJhIjoiMSJ9"):
        assert code(pay_with(shop, {**mine, "dataValue": value})) == "E00117"
    assert pay_with(shop, mine)["transactionResponse"]["responseCode"] == "1"


def test_a_nonce_of_another_merchant_is_rejected(shared: Process, shop: Merchant) -> None:
    mine = nonce(shop)
    assert pay_with(shared.merchant(), mine)["messages"]["message"] == [
        {"code": "E00116", "text": "OTS Token access violation"}
    ]
    assert pay_with(shop, mine)["transactionResponse"]["responseCode"] == "1"


def test_the_public_client_key_gets_a_nonce(shop: Merchant) -> None:
    key = shop.call("getMerchantDetailsRequest")["publicClientKey"]
    public = {"name": shop.login, "clientKey": key}
    data = {"type": "TOKEN", "id": "1", "token": {"cardNumber": VISA, "expirationDate": "122040"}}
    method = "securePaymentContainerRequest"
    answer = shop.call(method, merchantAuthentication=public, data=data)
    assert answer["messages"]["resultCode"] == "Ok"
