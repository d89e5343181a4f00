"""What the tests of published clients expect, and what they recorded, each with its source."""

import base64
from typing import Any

import pytest

from simulator import xml_client
from simulator.customers import (
    BILL_TO,
    NO_TRANSACTION,
    charge,
    message,
    payment_of,
    profile_of,
    stored,
    through,
    update_payment,
)
from simulator.merchant_client import Merchant, card
from simulator.parts import MASTERCARD, PAYPAL, bank
from simulator.reply_schema_check import misfits_of_xml
from simulator.subscriber import plan

MISSING = "There is one or more missing or invalid required fields."
STATUS_NOTE = "Status with a capital 'S' is obsolete."
EXPIRED = "The credit card has expired."
ENDS_TOO_EARLY = "Credit Card expires before the start of the subscription."
NO_REFERENCE = "A valid referenced transaction ID is required."


def errors(response: dict[str, Any]) -> list[tuple[str, str]]:
    assert (response["responseCode"], response["transId"]) == ("3", "0")
    return [(each["errorCode"], each["errorText"]) for each in response["errors"]]


@pytest.mark.parametrize(
    ("currency", "reasons"), [("XYZ", ["39"]), ("USD", []), ("", []), (None, [])]
)
def test_a_user_field_selects_the_currency(
    shop: Merchant, currency: str | None, reasons: list[str]
) -> None:
    """ActiveMerchant sends the currency as a user field; remote_authorize_net_test.rb,
    test_bad_currency and test_usd_currency."""
    field = {"name": "x_currency_code"} | ({} if currency is None else {"value": currency})
    response = shop.charge(userFields={"userField": [field]})
    assert [each["errorCode"] for each in response.get("errors", [])] == reasons


@pytest.mark.parametrize(
    ("number", "bill_to", "reason"),
    [
        ("5424000000000015", None, "290"),  # gringotts, authorize_net_mock.exs, recorded in 2017
        # ActiveMerchant: "Billing address including zip code is required for a 0 amount verify"
        ("4111111111111111", {"zip": "98004"}, "290"),
        ("4111111111111111", {"address": "1 Mill Rd"}, "290"),
        ("4111111111111111", BILL_TO, None),
        ("370000000000002", None, None),
    ],
)
def test_a_zero_authorization_needs_an_address(
    shop: Merchant, number: str, bill_to: dict[str, str] | None, reason: str | None
) -> None:
    after = {} if bill_to is None else {"billTo": bill_to}
    response = shop.authorize("0.00", number=number, **after)
    if reason is None:
        assert response["responseCode"] == "1"
    else:
        assert errors(response) == [(reason, MISSING)]
        assert shop.truth() == []


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        ("liveMode", ("E00027", MISSING)),
        ("oldLiveMode", ("I00001", "Successful.")),
        ("testMode", ("I00001", "Successful.")),
    ],
)
def test_a_profile_without_an_address_fails_live_validation(
    shop: Merchant, mode: str, told: tuple[str, str]
) -> None:
    """ActiveMerchant, remote_authorize_net_cim_test.rb, test_validate_customer_payment_profile_
    request_live_requires_billing_address and ..._old_does_not_require_billing_address."""
    profile_id, payment_id = stored(shop, billTo={})
    ids = {"customerProfileId": profile_id, "customerPaymentProfileId": payment_id}
    answer = shop.call("validateCustomerPaymentProfileRequest", **ids, validationMode=mode)
    assert message(answer) == told


@pytest.mark.parametrize(
    ("kind", "named", "told", "given_back"),
    [
        # dinero, authorizenet_gateway.py, finds its server by voiding 0, and expects 33
        ("void", "0", ("33", NO_REFERENCE), ""),
        # gringotts, authorize_net_mock.exs: bad_id_capture, void_non_existent_id
        ("priorAuthCapture", "0", ("33", NO_REFERENCE), ""),
        ("void", "60036855219", ("16", "The transaction cannot be found."), "60036855219"),
        # omnipay-authorizenet, AIMCaptureFailure.txt
        ("priorAuthCapture", "12345", ("16", "The transaction cannot be found."), "12345"),
        # authnetjson, AuthnetJsonAimPaypalTest.php, testCreateTransactionRequestGetDetailsError
        ("getDetails", "128", ("16", "The transaction cannot be found."), "128"),
    ],
)
def test_an_error_repeats_the_requests_ref_trans_id(
    shop: Merchant, kind: str, named: str, told: tuple[str, str], given_back: str
) -> None:
    response = shop.transact(transactionType=f"{kind}Transaction", refTransId=named)
    assert errors(response) == [told]
    assert response["refTransID"] == given_back


@pytest.mark.parametrize(("settled", "amount", "reason"), [(False, "1", "54"), (True, "99", "55")])
def test_a_rejected_refund_repeats_the_ref_trans_id(
    shop: Merchant, settled: bool, amount: str, reason: str
) -> None:
    """omnipay-authorizenet, AIMRefundFailure.txt (54); gringotts, debit_less_than_refund (55)."""
    sale = shop.charge()["transId"]
    if settled:
        shop.process.control("/settle")
    response = shop.refund(sale, amount)
    assert ([code for code, _ in errors(response)], response["refTransID"]) == ([reason], sale)


@pytest.mark.parametrize(
    ("number", "expiry", "reasons"),
    [
        ("411111111111111", "2010-12", ["6", "8"]),  # test_invalid_card_and_expiry
        ("411111111111111", "2040-12", ["6"]),  # test_invalid_card
        ("4111111111111111", "2010-12", ["8"]),  # test_expiry
    ],
)
def test_an_invalid_number_and_a_past_date_are_two_errors(
    shop: Merchant, number: str, expiry: str, reasons: list[str]
) -> None:
    """dinero, test_authorize.py: InvalidCardError and ExpiryError of one transaction."""
    response = shop.charge(number=number, expiry=expiry)
    assert [code for code, _ in errors(response)] == reasons


def test_an_update_without_an_address_keeps_the_address_and_drops_the_customer_type(
    shop: Merchant,
) -> None:
    """ActiveMerchant, remote_authorize_net_cim_test.rb, test_successful_update_customer_payment_
    profile_request: customer_type is nil afterwards, and bill_to is still a hash."""
    whole = {"customerType": "individual", "billTo": BILL_TO, "payment": card()}
    profile = {"email": "ada@example.com", "paymentProfiles": whole}
    made = shop.call("createCustomerProfileRequest", profile=profile)
    profile_id = made["customerProfileId"]
    (payment_id,) = made["customerPaymentProfileIdList"]
    assert payment_of(shop, profile_id, payment_id)["customerType"] == "individual"
    answer = update_payment(shop, profile_id, payment_id, {"payment": card("4242424242424242")})
    assert message(answer)[0] == "I00001"
    told = payment_of(shop, profile_id, payment_id)
    assert told["payment"]["creditCard"]["cardNumber"] == "XXXX4242"
    assert (told["billTo"], "customerType" in told) == (BILL_TO, False)


@pytest.mark.parametrize(
    ("kind_told", "card_type", "account_type"),
    [
        # AuthorizeNet/sdk-dotnet: issue 304 (2023) misses the type of a few cards only, and the
        # profile recorded in CustomerGatewayTest.cs has a checking account
        (True, {"cardType": "Visa"}, {"accountType": "checking"}),
        # Py-Authorize, test_live_credit_card.py and test_live_bank_account.py (2014): neither
        (False, {}, {}),
    ],
)
def test_a_stored_payment_method_shows_its_kind_by_setting(
    shop: Merchant, kind_told: bool, card_type: dict[str, str], account_type: dict[str, str]
) -> None:
    shop.settings(payment_kind_told=kind_told)
    told = payment_of(shop, *stored(shop))["payment"]["creditCard"]
    assert told == {"cardNumber": "XXXX1111", "expirationDate": "XXXX", **card_type}
    told = payment_of(shop, *stored(shop, "b@shop.example", payment=bank()))["payment"]
    masked = {"routingNumber": "XXXX2882", "accountNumber": "XXXX5678", "echeckType": "WEB"}
    assert told == bank(**masked, **account_type)


@pytest.mark.parametrize(
    ("number", "kept", "issuer"),
    [
        # academe/authorizenet-objects, PaymentProfileTest.php, and Authorize.Net's own samples
        ("4111111111111111", False, "411111"),
        ("4000100011112224", False, None),
        ("4000100011112224", True, "400010"),
    ],
)
def test_the_issuer_number_is_returned_on_request(
    shop: Merchant, number: str, kept: bool, issuer: str | None
) -> None:
    """Those of cards that are no published test cards are stored if the setting says so."""
    shop.settings(issuer_numbers=kept)
    profile_id, payment_id = stored(shop, payment=card(number))
    for told in (
        payment_of(shop, profile_id, payment_id, includeIssuerInfo=True),
        profile_of(shop, profile_id, includeIssuerInfo=True)["paymentProfiles"][0],
    ):
        assert told["payment"]["creditCard"].get("issuerNumber") == issuer
        assert told["payment"]["creditCard"]["cardType"] == "Visa"
    unasked = payment_of(shop, profile_id, payment_id)["payment"]["creditCard"]
    assert "issuerNumber" not in unasked


def test_a_hosted_profile_page_needs_no_validation(shop: Merchant) -> None:
    """AuthorizeNet/sdk-ruby, cim_spec.rb, "should be able to receive hosted profile access token":
    its default for hostedProfileValidationMode is none."""
    profile_id, _ = stored(shop)
    setting = {"settingName": "hostedProfileValidationMode", "settingValue": "none"}
    answer = shop.call(
        "getHostedProfilePageRequest",
        customerProfileId=profile_id,
        hostedProfileSettings={"setting": [setting]},
    )
    assert (message(answer)[0], bool(answer["token"])) == ("I00001", True)


@pytest.mark.parametrize(
    ("forms", "credentials", "code", "left"),
    [
        # dinero, authorizenet_gateway.py, check_for_error: an unknown account has no
        # transactionResponse, or its GatewayException would be a TypeError
        (["json", "xml"], {"transactionKey": "another-key"}, "E00007", None),
        # Py-Authorize, authorize_api.py, _make_call, stumbles over an empty one
        (["json"], {}, "E00114", None),
        # omnipay-authorizenet, AIMAuthorizeInvalidOTSToken.txt, has an empty one
        (["json", "xml"], {}, "E00114", ""),
    ],
)
def test_an_api_error_has_an_empty_transaction_response_by_setting(
    shop: Merchant, forms: list[str], credentials: dict[str, str], code: str, left: str | None
) -> None:
    shop.settings(empty_transaction_response=forms)
    nonce = base64.b64encode(b'{"code":"50_2_0","token":"0","v":"1.1"}').decode()
    opaque = {"dataDescriptor": "COMMON.ACCEPT.INAPP.PAYMENT", "dataValue": nonce}
    body = {
        "merchantAuthentication": shop.credentials | credentials,
        "transactionRequest": xml_client.sale() | {"payment": {"opaqueData": opaque}},
    }
    document = xml_client.document("createTransactionRequest", body)
    root = xml_client.parse(xml_client.post(shop.process, document))
    assert xml_client.error(root)[0] == code
    assert root.findtext("transactionResponse") == left


@pytest.mark.parametrize(
    ("method", "body", "left"),
    [
        (
            "createCustomerProfileRequest",
            {"profile": {"email": "a@shop.example"}},
            {  # authnetjson, AuthnetJsonCimTest.php, ...DuplicateRecordError
                "customerPaymentProfileIdList": [],
                "customerShippingAddressIdList": [],
                "validationDirectResponseList": [],
            },
        ),
        ("getCustomerProfileIdsRequest", {}, {"ids": []}),
        ("createTransactionRequest", {"transactionRequest": xml_client.sale()}, {}),
        (
            "ARBGetSubscriptionStatusRequest",
            {"subscriptionId": "100748"},
            {"note": STATUS_NOTE},  # Authorize.Net's own example of E00035
        ),
    ],
)
def test_an_error_has_the_lists_that_the_schema_requires(
    shop: Merchant, method: str, body: dict[str, Any], left: dict[str, Any]
) -> None:
    stranger = {"name": shop.login, "transactionKey": "another-key"}
    answer = shop.call(method, merchantAuthentication=stranger, **body)
    assert message(answer)[0] == "E00007"
    del answer["messages"]
    assert answer == left


def test_an_unknown_profile_has_an_empty_transaction_response(shop: Merchant) -> None:
    """Recorded in JSON by aquaticpond's tests in 2022, can_handle_failure."""
    answer = charge(shop, through("1", "1"), "100")
    assert message(answer) == (
        "E00040",
        "Customer Profile ID or Customer Payment Profile ID not found.",
    )
    assert answer["transactionResponse"] == NO_TRANSACTION
    shop.settings(empty_transaction_response=[])
    answer = charge(shop, through("1", "1"), "100")
    assert answer.keys() == {"messages"}


def test_the_status_of_a_subscription_in_xml_has_a_note(shop: Merchant) -> None:
    """AuthorizeNet/sdk-python, constants.py and ARBGetSubscriptionStatusController: it removes the
    root's note, with the space before it, and the Status element before it parses the rest."""
    made = shop.call("ARBCreateSubscriptionRequest", subscription=plan("2040-01-31"))
    number = made["subscriptionId"]
    body = {"merchantAuthentication": shop.credentials, "subscriptionId": number}
    document = xml_client.document("ARBGetSubscriptionStatusRequest", body)
    text = xml_client.post(shop.process, document).decode("utf-8-sig")
    begin, end = text.index("<Status>"), text.index("</Status>") + len("</Status>")
    assert text[begin:end] == "<Status>active</Status>"
    assert text[:begin].endswith("<status>active</status>")
    rest = text.replace(text[begin:end], "").replace(f' note="{STATUS_NOTE}"', "")
    assert (list(misfits_of_xml(xml_client.parse(rest.encode("utf-8-sig")))), "note" in rest) == (
        [],
        False,
    )


@pytest.mark.parametrize(
    ("expiry", "codes", "texts"),
    [
        ("2004-12", ["E00013", "E00018"], [EXPIRED, ENDS_TOO_EARLY]),
        ("2039-12", ["E00018"], [ENDS_TOO_EARLY]),
    ],
)
def test_a_card_that_expires_before_the_subscription_is_rejected(
    shop: Merchant, expiry: str, codes: list[str], texts: list[str]
) -> None:
    """ActiveMerchant, remote_authorize_net_arb_test.rb, test_recurring_should_fail_expired_credit_
    card, sees the last code, E00018; the texts were recorded by a fork's unit test of it."""
    subscription = plan("2040-01-31", payment=card(expiry=expiry))
    answer = shop.call("ARBCreateSubscriptionRequest", subscription=subscription)
    told = answer["messages"]["message"]
    assert answer["messages"]["resultCode"] == "Error"
    assert ([each["code"] for each in told], [each["text"] for each in told]) == (codes, texts)


def test_a_batch_has_flags_for_optional_values(shop: Merchant) -> None:
    """authnetjson, AuthnetJsonReportingTest.php, testGetSettledBatchListRequestSuccess."""
    shop.charge("98.00", number=MASTERCARD)
    shop.process.control("/settle")
    (batch,) = shop.call("getSettledBatchListRequest", includeStatistics=True)["batchList"]
    assert [name for name in batch if name.startswith("settlement")] == [
        "settlementTimeUTC",
        "settlementTimeUTCSpecified",
        "settlementTimeLocal",
        "settlementTimeLocalSpecified",
        "settlementState",
    ]
    (line,) = batch["statistics"]
    assert (line["chargeAmount"], line["refundAmount"], line["errorCount"]) == (98.0, 0.0, 0)
    flags = {name: value for name, value in line.items() if name.endswith("Specified")}
    assert len(flags) == 13
    assert not any(flags.values())
    assert not {name.removesuffix("Specified") for name in flags} & line.keys()
    assert list(flags)[:2] == ["returnedItemAmountSpecified", "returnedItemCountSpecified"]


@pytest.mark.parametrize("sent", [None, {"address": "2 Dock St", "city": "Bellevue"}])
def test_the_details_of_a_paypal_payment_have_an_address(
    shop: Merchant, sent: dict[str, str] | None
) -> None:
    """AuthorizeNet/sample-code-ruby, PayPalExpressCheckout/get-details.rb, prints address, city,
    state and country of shipTo."""
    more = {} if sent is None else {"shipTo": sent}
    begun = shop.charge(payment=PAYPAL, **more)
    told = shop.transact(transactionType="getDetailsTransaction", refTransId=begun["transId"])
    assert told["secureAcceptance"]["PayerID"]
    if sent is None:
        assert told["shipTo"].keys() >= {"address", "city", "state", "country"}
    else:
        assert told["shipTo"] == sent
