"""Payment methods other than plain cards, and the rules of a charge's optional parts."""

from base64 import b64encode
from typing import Any

import pytest

from simulator.durable import Durable
from simulator.merchant_client import VISA, Merchant, reason
from simulator.parts import MASTERCARD, PAYPAL, bank
from simulator.spoiled_requests import elements, whole

APPLE = "COMMON.APPLE.INAPP.PAYMENT"
GOOGLE = "COMMON.GOOGLE.INAPP.PAYMENT"
CHECKOUT = "COMMON.VCO.ONLINE.PAYMENT"
TOKEN = b64encode(b'{"data":"what a phone encrypted"}').decode()
CRYPTOGRAM = "AgAAAAAABk4DWZ4C28yUQAAAAAA="


def wallet(descriptor: str, value: str = TOKEN, **more: str) -> dict[str, Any]:
    return {"opaqueData": {"dataDescriptor": descriptor, "dataValue": value, **more}}


@pytest.mark.parametrize(
    "payment", [wallet(APPLE), wallet(GOOGLE), wallet(CHECKOUT, dataKey="a key")]
)
def test_a_wallet_is_charged_like_a_visa_card(shop: Merchant, payment: dict[str, Any]) -> None:
    paid = shop.charge(payment=payment)
    assert (paid["responseCode"], paid["accountType"]) == ("1", "Visa")
    assert paid["accountNumber"] == "XXXX1111"
    assert shop.details(paid["transId"])["payment"]["creditCard"]["isPaymentToken"] is True


@pytest.mark.parametrize(
    "payment",
    [
        wallet(APPLE, "{not base64}"),
        wallet(APPLE, ""),
        wallet(CHECKOUT),
        wallet("COMMON.SAMSUNG.INAPP.PAYMENT"),
    ],
)
def test_an_invalid_wallet_payload_is_153(shop: Merchant, payment: dict[str, Any]) -> None:
    refused = shop.charge(payment=payment)
    assert (reason(refused), refused["transId"], refused["accountNumber"]) == ("153", "0", "")
    assert shop.truth() == []


def test_equal_payloads_are_the_same_card(shop: Merchant) -> None:
    assert shop.charge(payment=wallet(APPLE), invoice="a")["responseCode"] == "1"
    assert reason(shop.charge(payment=wallet(APPLE), invoice="a")) == "11"
    other = wallet(APPLE, b64encode(b"another").decode())
    assert shop.charge(payment=other, invoice="a")["responseCode"] == "1"


def test_encrypted_readers_are_not_supported(shop: Merchant) -> None:
    for member, name in ((3, "encryptedTrackData"), (6, "emv")):
        request = whole(elements("createTransactionRequest"), pick=member)["transactionRequest"]
        assert next(iter(request["payment"])) == name
        assert reason(shop.charge(payment=request["payment"])) == "155"


def test_network_tokens_are_accepted(shop: Merchant) -> None:
    def pay(**more: Any) -> dict[str, Any]:
        extra = {"cardholderAuthentication": more.pop("auth")} if "auth" in more else {}
        card = {"cardNumber": VISA, "expirationDate": "2040-12", **more}
        return shop.charge(payment={"creditCard": card}, **extra)

    paid = pay(isPaymentToken=True, cryptogram=CRYPTOGRAM)
    assert paid["responseCode"] == "1"
    assert shop.details(paid["transId"])["payment"]["creditCard"]["isPaymentToken"] is True
    # Clients' tests send these and the sandbox accepts them: no flag, no Base64, empty 3-D Secure.
    none = {"authenticationIndicator": "", "cardholderAuthenticationValue": ""}
    assert pay(cryptogram=CRYPTOGRAM, auth=none)["responseCode"] == "1"
    assert pay(isPaymentToken=True, cryptogram="111111111100cryptogram")["responseCode"] == "1"
    assert shop.charge(cardholderAuthentication=none)["cavvResultCode"] == "2"
    proof = {"authenticationIndicator": "05", "cardholderAuthenticationValue": CRYPTOGRAM}
    assert reason(pay(isPaymentToken=True, cryptogram=CRYPTOGRAM, auth=proof)) == "156"


@pytest.mark.parametrize(
    ("indicator", "value", "expected"),
    [
        ("05", CRYPTOGRAM, "2"),
        ("5", CRYPTOGRAM, "2"),
        ("02", CRYPTOGRAM, "2"),
        ("06", CRYPTOGRAM, "8"),
        ("07", CRYPTOGRAM, ""),
    ],
)
def test_the_indicator_selects_the_cavv_result(
    shop: Merchant, indicator: str, value: str, expected: str
) -> None:
    proof = {"authenticationIndicator": indicator, "cardholderAuthenticationValue": value}
    paid = shop.charge(cardholderAuthentication=proof)
    assert (paid["responseCode"], paid["cavvResultCode"]) == ("1", expected)
    assert shop.details(paid["transId"]).get("CAVVResponse", "") == expected


def test_authentication_data_is_not_kept(durable: Durable) -> None:
    proof = {"authenticationIndicator": "05", "cardholderAuthenticationValue": CRYPTOGRAM}
    assert durable.merchant().charge(cardholderAuthentication=proof)["responseCode"] == "1"
    assert CRYPTOGRAM not in durable.file.read_text()


def test_a_swiped_card_is_reported_as_card_present(shop: Merchant) -> None:
    track = {"trackData": {"track1": "%B4111111111111111^DOE/JANE^40121011000000000000?"}}
    paid = shop.charge(payment=track, retail={"marketType": "2", "deviceType": "7"})
    assert (paid["responseCode"], paid["entryMode"]) == ("1", "Swiped")
    assert list(paid).index("entryMode") == list(paid).index("accountNumber") + 1
    told = shop.details(paid["transId"])
    assert (told["product"], told["entryMode"], told["marketType"]) == (
        "Card Present",
        "Swiped",
        "Retail",
    )
    assert "entryMode" not in shop.charge()
    assert reason(shop.charge(retail={"marketType": "0", "deviceType": "99"})) == "84"


def test_the_account_can_limit_payment_methods(shop: Merchant) -> None:
    shop.settings(card_types=["Visa"], echeck=False, paypal=False)
    assert shop.charge()["responseCode"] == "1"
    assert reason(shop.charge(number=MASTERCARD)) == "17"
    assert reason(shop.charge(kind="refundTransaction", payment=bank())) == "18"
    merchant = shop.call("getMerchantDetailsRequest")
    assert merchant["paymentMethods"] == ["Visa"]


def test_a_missing_required_field_is_33(shop: Merchant) -> None:
    shop.settings(required_fields=["zip", "email", "cardCode"])
    for fields, missing in (
        ({}, "Zip Code"),
        ({"billTo": {"zip": "98004"}}, "Email"),
        ({"customer": {"email": "a@example.com"}, "billTo": {"zip": "98004"}}, "Card Code"),
    ):
        refused = shop.charge(**fields)
        assert refused["errors"] == [
            {"errorCode": "33", "errorText": f"{missing} cannot be left blank."}
        ]
    assert (
        shop.charge(code="900", customer={"email": "a@example.com"}, billTo={"zip": "98004"})[
            "responseCode"
        ]
        == "1"
    )
    bad = shop.process.client.post("/simulator/settings", json={"required_fields": ["shoeSize"]})
    assert bad.status_code == 400


@pytest.mark.parametrize("expiry", ["9999-12", "12/9999", "9998-12"])
def test_an_expiry_far_in_the_future_is_handled(shop: Merchant, expiry: str) -> None:
    reply = shop.charge(expiry=expiry)
    assert reply["responseCode"] == ("1" if expiry == "9998-12" else "3")


def test_paypal_must_be_enabled(shop: Merchant) -> None:
    shop.settings(paypal=False)
    assert reason(shop.charge(payment=PAYPAL)) == "2001"
    for kind in ("getDetailsTransaction", "authOnlyContinueTransaction"):
        refused = shop.transact(transactionType=kind, refTransId="1")
        assert reason(refused) == "2001"


def test_a_payment_continues_after_the_payers_consent(shop: Merchant) -> None:
    begun = shop.charge("10.00", payment=PAYPAL)
    assert (begun["responseCode"], begun["messages"][0]["code"]) == ("5", "2000")
    assert begun["messages"][0]["description"] == "Need payer consent."
    number = begun["transId"]
    assert number in begun["secureAcceptance"]["SecureAcceptanceUrl"]
    nothing = shop.call("getUnsettledTransactionListRequest", status="pendingApproval")
    assert nothing["totalNumInResultSet"] == 0
    payer = shop.transact(transactionType="getDetailsTransaction", refTransId=number)
    payer_id = payer["secureAcceptance"]["PayerID"]

    def proceed(kind: str, payer_id: str, **more: str) -> dict[str, Any]:
        return shop.transact(
            transactionType=kind,
            **more,
            payment={"payPal": {"payerID": payer_id}},
            refTransId=number,
        )

    kind = "authCaptureContinueTransaction"
    assert reason(proceed("authOnlyContinueTransaction", payer_id)) == "2008"
    unasked = proceed(kind, "somebody", amount="11.00")
    assert (unasked["responseCode"], unasked["messages"][0]["code"]) == ("5", "2000")
    assert reason(proceed(kind, "")) == "2006"
    assert reason(proceed(kind, payer_id, amount="11.00")) == "2009"
    done = proceed(kind, payer_id)
    assert (done["responseCode"], done["transId"], done["accountType"]) == ("1", number, "PayPal")
    assert reason(proceed(kind, payer_id)) == "2103"
    assert shop.status(number) == "capturedPendingSettlement"
    shop.process.control("/settle")
    returned = shop.transact(
        transactionType="refundTransaction", amount="4.00", payment=PAYPAL, refTransId=number
    )
    assert returned["responseCode"] == "1"
