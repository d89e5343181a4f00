"""Charges of stored profiles, validation, and profiles created from charges."""

from typing import Any

import pytest

from simulator.code_triggers import RAISED
from simulator.customers import (
    BILL_TO,
    NO_TRANSACTION,
    SHIP_TO,
    add_address,
    add_payment,
    charge,
    message,
    payment_of,
    profile_of,
    stored,
    through,
    update_payment,
)
from simulator.merchant_client import VISA, Merchant, Process, card, card_sale, reason
from simulator.parts import MASTERCARD, setting

NOT_FOUND = ("E00040", "Customer Profile ID or Customer Payment Profile ID not found.")


def test_the_stored_card_and_addresses_are_charged(shop: Merchant) -> None:
    profile_id, payment_id = stored(shop)
    address_id = add_address(shop, profile_id)["customerAddressId"]
    profile = {**through(profile_id, payment_id, cardCode="900"), "shippingProfileId": address_id}
    response = charge(shop, profile, order={"invoiceNumber": "p-1"})["transactionResponse"]
    assert (response["responseCode"], response["cvvResultCode"]) == ("1", "M")
    assert (response["accountNumber"], response["accountType"]) == ("XXXX1111", "Visa")
    shown = {
        "customerProfileId": profile_id,
        "customerPaymentProfileId": payment_id,
        "customerAddressId": address_id,
    }
    assert response["profile"] == shown
    assert list(response)[-2:] == ["profile", "networkTransId"]
    told = shop.details(response["transId"])
    assert told["profile"] == shown
    assert told["customer"] == {"email": "ada@example.com"}
    assert (told["billTo"], told["shipTo"]) == (BILL_TO, SHIP_TO)
    assert told["order"]["invoiceNumber"] == "p-1"


@pytest.mark.parametrize(("zip_code", "avs"), [("46205", "N"), ("46282", "Y")])
def test_the_stored_address_activates_the_triggers(shop: Merchant, zip_code: str, avs: str) -> None:
    profile_id, payment_id = stored(shop, billTo={"zip": zip_code}, payment=card())
    answer = charge(shop, through(profile_id, payment_id))
    response = answer["transactionResponse"]
    assert message(answer)[0] == "I00001"
    assert response["avsResultCode"] == avs
    assert (response["responseCode"] == "2") == (zip_code == "46282")
    assert response["profile"]["customerPaymentProfileId"] == payment_id


def test_a_repeated_charge_through_a_profile_is_a_duplicate(shop: Merchant) -> None:
    profile_id, payment_id = stored(shop)
    order = {"invoiceNumber": "p-2"}
    first = charge(shop, through(profile_id, payment_id), order=order)["transactionResponse"]
    repeated = {"order": order, **setting("duplicateWindow", "600")}
    again = charge(shop, through(profile_id, payment_id), **repeated)["transactionResponse"]
    assert (reason(again), again["transId"]) == ("11", first["transId"])
    other = {"billTo": BILL_TO, "payment": card(MASTERCARD)}
    other_id = add_payment(shop, profile_id, other)["customerPaymentProfileId"]
    fresh = charge(shop, through(profile_id, other_id), order=order)["transactionResponse"]
    assert fresh["responseCode"] == "1"
    by_card = shop.charge(
        invoice="p-2", customer={"email": "ada@example.com"}, billTo=BILL_TO
    )  # it is the same card, stored or sent
    assert reason(by_card) == "11"
    assert len(shop.truth()) == 2


def test_a_profile_without_a_payment_profile_charges_the_default(shop: Merchant) -> None:
    none = "E00121", "No default payment/shipping profile found."
    profile_id, _ = stored(shop)
    alone = {"customerProfileId": profile_id}
    assert message(charge(shop, alone)) == none  # another one is no default
    assert message(shop.call("getCustomerPaymentProfileRequest", **alone)) == none
    assert shop.truth() == []
    default = {"payment": card(MASTERCARD), "defaultPaymentProfile": True}
    payment_id = add_payment(shop, profile_id, default)["customerPaymentProfileId"]
    response = charge(shop, alone)["transactionResponse"]
    assert (response["responseCode"], response["accountNumber"]) == ("1", "XXXX0015")
    assert response["profile"] == alone | {"customerPaymentProfileId": payment_id}


def test_a_card_can_be_charged_with_a_stored_shipping_address(shop: Merchant) -> None:
    profile_id, _ = stored(shop)
    address_id = add_address(shop, profile_id)["customerAddressId"]
    whole = {"customerProfileId": profile_id, "shippingProfileId": address_id}
    sent = card_sale("1.00")
    paid = shop.transact(**sent, profile=whole, billTo={"zip": "46201"})
    assert (paid["responseCode"], paid["avsResultCode"]) == ("1", "A")
    assert shop.details(paid["transId"])["shipTo"] == SHIP_TO
    answer = shop.transaction(**sent, profile={"customerProfileId": profile_id})
    assert message(answer) == (
        "E00095",
        "ShippingProfileId is not provided within Customer Profile.",
    )
    assert len(shop.truth()) == 1


def test_unknown_profile_ids_charge_nothing(shop: Merchant) -> None:
    profile_id, payment_id = stored(shop)
    _, other_payment = stored(shop, "other@example.com")
    for profile in (
        through("1", payment_id),
        through(profile_id, "1"),
        through(profile_id, other_payment),
        through("9" * 5000, payment_id),
    ):
        answer = charge(shop, profile)
        assert message(answer) == NOT_FOUND
        assert answer["transactionResponse"] == NO_TRANSACTION
    lost = charge(shop, {**through(profile_id, payment_id), "shippingProfileId": "1"})
    assert message(lost)[0] == "E00098"
    assert shop.truth() == []


def test_a_profile_can_be_used_for_a_linked_refund(shop: Merchant, shared: Process) -> None:
    profile_id, payment_id = stored(shop)
    second = add_payment(shop, profile_id, {"payment": card(MASTERCARD)})
    other = second["customerPaymentProfileId"]
    sale = charge(shop, through(profile_id, payment_id))["transactionResponse"]["transId"]
    shared.control("/settle")

    def refund(payment: str) -> dict[str, Any]:
        return shop.transaction(
            transactionType="refundTransaction",
            amount="4.00",
            profile=through(profile_id, payment),
            refTransId=sale,
        )

    assert message(refund(other)) == (
        "E00051",
        "The original transaction was not issued for this payment profile.",
    )
    done = refund(payment_id)["transactionResponse"]
    assert (done["responseCode"], done["refTransID"]) == ("1", sale)
    assert done["profile"]["customerPaymentProfileId"] == payment_id
    assert [row["amount"] for row in shop.truth()] == ["10.00", "4.00"]


def test_live_validation_authorizes_and_voids(shop: Merchant) -> None:
    profile = {
        "merchantCustomerId": "m-1",
        "email": "a@example.com",
        "paymentProfiles": {"billTo": BILL_TO, "payment": card()},
    }
    made = shop.call("createCustomerProfileRequest", profile=profile, validationMode="liveMode")
    (direct,) = made["validationDirectResponseList"]
    told = direct.split(",")
    assert told[:4] == ["1", "1", "1", "This transaction has been approved."]
    assert told[7:13] == [
        "none",
        "Test transaction for ValidateCustomerPaymentProfile.",
        "0.00",
        "CC",
        "auth_only",
        "m-1",
    ]
    assert (told[50], told[51], len(told)) == ("XXXX1111", "Visa", 68)
    asked, taken_back = shop.truth()
    assert (asked["trans_id"], asked["type"], asked["status"]) == (
        told[6],
        "authOnlyTransaction",
        "voided",
    )
    assert taken_back["type"] == "voidTransaction"


@pytest.mark.parametrize("mode", ["testMode", "liveMode", "oldLiveMode", "none"])
def test_only_live_validation_authorizes(shop: Merchant, mode: str) -> None:
    profile_id, payment_id = stored(shop, billTo={**BILL_TO, "zip": "46282"}, payment=card())
    both = {"customerProfileId": profile_id, "customerPaymentProfileId": payment_id}
    answer = shop.call("validateCustomerPaymentProfileRequest", **both, validationMode=mode)
    told = answer.get("directResponse", "").split(",")
    if mode == "none":
        assert (message(answer)[0], told) == ("I00001", [""])
    elif mode == "testMode":
        assert message(answer)[0] == "I00001"
        assert told[3:7] == ["(TESTMODE) This transaction has been approved.", "000000", "P", "0"]
    else:
        assert message(answer) == ("E00027", "This transaction has been declined.")
        assert told[:3] == ["2", "1", "2"]
        assert told[9] == ("0.00" if mode == "liveMode" else "0.01")
    expected = ["declined"] if mode in ("liveMode", "oldLiveMode") else []
    assert [row["status"] for row in shop.truth()] == expected


def test_a_payment_method_that_fails_validation_is_not_stored(shop: Merchant) -> None:
    profile_id, payment_id = stored(shop)
    bad = {"billTo": {**BILL_TO, "zip": "46282"}, "payment": card()}
    whole = shop.call(
        "createCustomerProfileRequest",
        profile={"email": "b@example.com", "paymentProfiles": bad},
        validationMode="liveMode",
    )
    assert message(whole) == ("E00027", "This transaction has been declined.")
    assert whole["validationDirectResponseList"][0].startswith("2,1,2,")
    wrong = {"payment": card("4111111111111112")}
    added = add_payment(shop, profile_id, wrong, validationMode="testMode")
    assert message(added) == ("E00027", "(TESTMODE) The credit card number is invalid.")
    assert "customerPaymentProfileId" not in added
    old = {"payment": card(expiry="2020-01")}
    changed = update_payment(shop, profile_id, payment_id, old, validationMode="testMode")
    assert message(changed) == ("E00027", "(TESTMODE) The credit card has expired.")
    kept = payment_of(shop, profile_id, payment_id, unmaskExpirationDate=True)
    assert kept["payment"]["creditCard"]["expirationDate"] == "2040-12"
    assert len(profile_of(shop, profile_id)["paymentProfiles"]) == 1
    assert shop.call("getCustomerProfileIdsRequest")["ids"] == [profile_id]


def test_the_card_code_filter_applies_to_validation(shop: Merchant) -> None:
    shop.settings(cvv_reject=["N"])
    profile_id, payment_id = stored(shop)
    both = {"customerProfileId": profile_id, "customerPaymentProfileId": payment_id}
    for code, expected in (("901", "E00027"), ("900", "I00001")):
        asked = {**both, "cardCode": code, "validationMode": "liveMode"}
        answer = shop.call("validateCustomerPaymentProfileRequest", **asked)
        assert message(answer)[0] == expected


def create_profile(shop: Merchant, invoice: str, **more: Any) -> dict[str, Any]:
    return shop.transaction(
        transactionType="authCaptureTransaction",
        amount="10.00",
        payment=card(expiry="1240"),
        profile={"createProfile": True},
        order={"invoiceNumber": invoice},
        **more,
    )


def test_a_failed_profile_creation_does_not_undo_the_charge(shop: Merchant) -> None:
    customer = {"type": "individual", "id": "m-1", "email": "a@example.com"}
    more = {"customer": customer, "billTo": BILL_TO, "shipTo": SHIP_TO}
    first = create_profile(shop, "c-1", **more)
    assert list(first) == ["transactionResponse", "profileResponse", "messages"]
    made = first["profileResponse"]
    assert message(made) == ("I00001", "Successful.")
    profile = profile_of(shop, made["customerProfileId"], unmaskExpirationDate=True)
    assert (profile["merchantCustomerId"], profile["email"]) == ("m-1", "a@example.com")
    (payment,) = profile["paymentProfiles"]
    assert [payment["customerPaymentProfileId"]] == made["customerPaymentProfileIdList"]
    assert payment["payment"]["creditCard"]["expirationDate"] == "2040-12"
    assert (payment["billTo"], payment["customerType"]) == (BILL_TO, "individual")
    assert (
        profile["shipToList"][0]["customerAddressId"] == (made["customerShippingAddressIdList"][0])
    )
    second = create_profile(shop, "c-2", **more)
    assert second["transactionResponse"]["responseCode"] == "1"
    assert message(second)[0] == "I00001"
    profile_id = made["customerProfileId"]
    assert message(second["profileResponse"]) == (
        "E00039",
        f"A duplicate record with ID {profile_id} already exists.",
    )
    nobody = create_profile(shop, "c-3")
    assert message(nobody["profileResponse"]) == ("E00102", "Customer Info is missing.")
    declined = create_profile(shop, "c-4", customer={"id": "m-2"}, billTo={"zip": "46282"})
    assert "profileResponse" not in declined
    assert len(shop.truth()) == 4
    through_it = charge(shop, through(profile_id, payment["customerPaymentProfileId"]))
    assert through_it["transactionResponse"]["responseCode"] == "1"


@pytest.mark.parametrize("code", ["E00088", "E00089", "E00090", "E00092", "E00093"])
def test_an_invalid_use_of_a_profile_charges_nothing(shop: Merchant, code: str) -> None:
    act, _ = RAISED[code]
    answer = act(shop)
    assert message(answer)[0] == code
    assert answer["transactionResponse"] == NO_TRANSACTION
    assert shop.truth() == []


def test_a_profile_can_be_created_from_an_earlier_transaction(shop: Merchant) -> None:
    def make(trans_id: str, **more: Any) -> dict[str, Any]:
        return shop.call("createCustomerProfileFromTransactionRequest", transId=trans_id, **more)

    sale = shop.charge(customer={"email": "a@example.com"}, billTo=BILL_TO, shipTo=SHIP_TO)
    made = make(sale["transId"])
    profile_id = made["customerProfileId"]
    (payment_id,) = made["customerPaymentProfileIdList"]
    assert len(made["customerShippingAddressIdList"]) == 1
    again = make(sale["transId"], customerProfileId=profile_id)
    assert message(again)[0] == "E00039"
    assert again["customerPaymentProfileIdList"] == [payment_id]
    anonymous = shop.charge(number=MASTERCARD)["transId"]
    assert message(make(anonymous))[0] == "E00102"
    named = make(anonymous, customer={"email": "b@example.com"}, defaultPaymentProfile=True)
    assert profile_of(shop, named["customerProfileId"])["paymentProfiles"] == [
        {
            "customerPaymentProfileId": named["customerPaymentProfileIdList"][0],
            "defaultPaymentProfile": True,
            "payment": card("XXXX0015", "XXXX"),
        }
    ]
    added = make(anonymous, customerProfileId=profile_id)
    assert len(profile_of(shop, profile_id)["paymentProfiles"]) == 2
    assert added["customerProfileId"] == profile_id
    refused = charge(shop, through(profile_id, payment_id), "0.01")["transactionResponse"]
    assert refused["responseCode"] == "1"
    assert message(make("1"))[0] == "E00099"
    declined = shop.charge(billTo={"zip": "46282"})["transId"]
    assert message(make(declined, customer={"email": "c@example.com"}))[0] == "E00101"
    refund = shop.transact(
        transactionType="refundTransaction",
        amount="1.00",
        payment=card(VISA),
        order={"invoiceNumber": "back"},
    )["transId"]
    assert message(make(refund, customer={"email": "c@example.com"}))[0] == "E00100"


def test_a_nonce_of_a_stored_card_is_charged_once(shop: Merchant) -> None:
    profile_id, payment_id = stored(shop)
    found = shop.call(
        "getCustomerPaymentProfileNonceRequest",
        connectedAccessToken="token",
        customerProfileId=profile_id,
        customerPaymentProfileId=payment_id,
    )["opaqueData"]
    response = shop.charge(payment={"opaqueData": found})
    assert (response["responseCode"], response["accountNumber"]) == ("1", "XXXX1111")
    answer = add_payment(shop, profile_id, {"payment": {"opaqueData": found}})
    assert message(answer)[0] == "E00114"
