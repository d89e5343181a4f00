"""Replies that strict clients reject are detected; earlier ones stay fixed."""

from copy import deepcopy
from typing import Any
from xml.etree import ElementTree

import pytest

from simulator.customers import BILL_TO, SHIP_TO, message, stored
from simulator.merchant_client import Merchant, card
from simulator.parts import bank
from simulator.reply_schema_check import misfits_of_json, misfits_of_xml

ANSWER: dict[str, Any] = {
    "transactionResponse": {
        "responseCode": "1",
        "authCode": "ABC123",
        "messages": [{"code": "1", "description": "This transaction has been approved."}],
        "SupplementalDataQualificationIndicator": 0,
    },
    "refId": "r-1",
    "messages": {"resultCode": "Ok", "message": [{"code": "I00001", "text": "Successful."}]},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    made = deepcopy(ANSWER)
    *way, last = path.split("/")
    inner = made
    for step in way:
        inner = inner[step]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return made


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (dict(reversed(ANSWER.items())), "refId too late"),
        (changed("transactionResponse", None), "no transactionResponse"),
        (changed("messages/resultCode", "Fine"), "resultCode: "),
        (changed("messages/message", [{"code": "I00001"}]), "no text in message"),
        (changed("transactionResponse/responseCode", 1), "responseCode is 1"),
        (changed("transactionResponse/transID", "1"), "transID in transactionResponse"),
        (changed("transactionResponse/messages", {"message": []}), "messages is no list"),
        (changed("transactionResponse/authCode", 5), "authCode is 5"),
        (changed("transactionResponse/profile", []), "profile is no object"),
    ],
)
def test_a_reply_that_violates_the_schema_is_detected(answer: dict[str, Any], said: str) -> None:
    method = "createTransactionRequest"
    assert list(misfits_of_json(method, ANSWER)) == []
    found = list(misfits_of_json(method, answer))
    assert found, said
    assert any(each.startswith(said) for each in found), found


def test_an_xml_reply_that_violates_the_schema_is_detected() -> None:
    def wrong(inner: str) -> list[str]:
        root = ElementTree.fromstring(f"<getCustomerProfileIdsResponse>{inner}</{ROOT}>")
        return list(misfits_of_xml(root))

    message = "<message><code>I00001</code><text>Successful.</text></message>"
    good = f"<messages><resultCode>Ok</resultCode>{message}</messages><ids />"
    assert wrong(good) == []
    assert wrong("<ids />") == [f"no messages in {ROOT}"]
    assert wrong(good.replace("<text>Successful.</text>", "")) == ["no text in message"]
    assert wrong("<ids />" + good.removesuffix("<ids />")) == [f"messages too late in {ROOT}"]
    assert wrong(f"{good}<ids />")[0] == f"ids more than once in {ROOT}"
    assert len(wrong(good.replace(">Ok<", ">Good<"))) == 1
    assert len(wrong(good.replace("<ids />", "<ids><numericString>x</numericString></ids>"))) == 1


ROOT = "getCustomerProfileIdsResponse"


def test_a_sale_is_reported_with_the_bank_s_authorization_code(shop: Merchant) -> None:
    """A client's authCode is only used to capture an authorization made elsewhere."""
    code = "longer than ten"
    sale = shop.charge(authCode=code)
    assert sale["authCode"] not in ("", code)
    assert shop.details(sale["transId"])["authCode"] == sale["authCode"]
    capture = shop.charge(kind="captureOnlyTransaction", authCode="ABC123")
    assert shop.details(capture["transId"])["authCode"] == "ABC123"


def test_the_amount_of_an_earlier_authorization_is_a_number(shop: Merchant) -> None:
    earlier = {"originalNetworkTransId": "0TN0FKK", "originalAuthAmount": "12.5"}
    profile_id, payment_id = stored(shop, subsequentAuthInformation=earlier)
    answer = shop.post(
        "getCustomerPaymentProfileRequest",
        customerProfileId=profile_id,
        customerPaymentProfileId=payment_id,
    )
    assert '"originalNetworkTransId":"0TN0FKK","originalAuthAmount":12.50' in answer.text


def test_a_validation_is_reported_without_the_telephone_of_the_address(shop: Merchant) -> None:
    address = {**SHIP_TO, "phoneNumber": "555-0100", "faxNumber": "555-0101"}
    made = shop.call(
        "createCustomerProfileRequest",
        profile={
            "email": "ada@example.com",
            "paymentProfiles": {"billTo": BILL_TO, "payment": card()},
            "shipToList": address,
        },
    )
    answer = shop.call(
        "validateCustomerPaymentProfileRequest",
        customerProfileId=made["customerProfileId"],
        customerPaymentProfileId=made["customerPaymentProfileIdList"][0],
        customerShippingAddressId=made["customerShippingAddressIdList"][0],
        validationMode="liveMode",
    )
    assert message(answer)[0] == "I00001"
    trans_id = answer["directResponse"].split(",")[6]
    assert shop.details(trans_id)["shipTo"] == SHIP_TO


def test_a_short_account_number_is_masked_to_eight_characters(shop: Merchant) -> None:
    paid = shop.charge(payment=bank(accountNumber="12"))
    assert paid["accountNumber"] == "XXXXXX12"
    told = shop.details(paid["transId"])["payment"]["bankAccount"]
    assert told["accountNumber"] == "XXXXXX12"


def test_a_refund_belongs_to_no_split_tender_group(shop: Merchant) -> None:
    refund = shop.transact(
        transactionType="refundTransaction",
        amount="1.00",
        payment=card(),
        splitTenderId="no number",
    )
    assert refund["responseCode"] == "1"
    assert "splitTenderId" not in shop.details(refund["transId"])
