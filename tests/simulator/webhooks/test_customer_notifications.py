"""Notifications of customer profiles and payment profiles."""

import pytest

from simulator.customers import add_payment, stored, update_payment
from simulator.merchant_client import Merchant, Process, card, card_sale
from simulator.parts import MASTERCARD
from simulator.webhook_receiver import SIGNATURE_KEY, Receiver, Rest


@pytest.fixture
def shop(shared: Process, receiver: Receiver) -> Merchant:
    merchant = shared.merchant(signature_key=SIGNATURE_KEY)
    Rest(merchant).listen(receiver.url)
    return merchant


def test_customer_profiles_send_notifications(shop: Merchant, receiver: Receiver) -> None:
    company = {"customerType": "business", "payment": card()}
    answer = shop.call(
        "createCustomerProfileRequest",
        profile={"email": "ada@example.com", "paymentProfiles": company},
    )
    profile_id = answer["customerProfileId"]
    (payment_id,) = answer["customerPaymentProfileIdList"]
    made = receiver.next()
    assert made.is_signed
    assert (made.event, made.payload) == (
        "customer.created",
        {
            "paymentProfiles": [{"id": payment_id, "customerType": "business"}],
            "merchantCustomerId": "",
            "description": "",
            "entityName": "customerProfile",
            "id": profile_id,
        },
    )
    changed = {"merchantCustomerId": "c-7", "description": "d", "customerProfileId": profile_id}
    shop.call("updateCustomerProfileRequest", profile=changed)
    told = receiver.next()
    assert (told.event, told.payload["merchantCustomerId"]) == ("customer.updated", "c-7")
    shop.call("deleteCustomerProfileRequest", customerProfileId=profile_id)
    told = receiver.next()
    assert (told.event, told.payload["id"]) == ("customer.deleted", profile_id)
    shop.call("deleteCustomerProfileRequest", customerProfileId=profile_id)  # it is gone
    assert receiver.told.empty()


def test_payment_profiles_send_notifications(shop: Merchant, receiver: Receiver) -> None:
    profile_id, _ = stored(shop)
    receiver.next()
    added = {"payment": card(MASTERCARD)}
    payment_id = add_payment(shop, profile_id, added)["customerPaymentProfileId"]
    expected = {
        "customerProfileId": int(profile_id),
        "entityName": "customerPaymentProfile",
        "id": payment_id,
        "customerType": "individual",
    }
    told = receiver.next()
    assert (told.event, told.payload) == ("customer.paymentProfile.created", expected)
    add_payment(shop, profile_id, added)  # a duplicate changes nothing
    update_payment(shop, profile_id, payment_id, {"payment": card(MASTERCARD, "2041-01")})
    told = receiver.next()
    assert (told.event, told.payload) == ("customer.paymentProfile.updated", expected)
    shop.call(
        "deleteCustomerPaymentProfileRequest",
        customerProfileId=profile_id,
        customerPaymentProfileId=payment_id,
    )
    told = receiver.next()
    assert (told.event, told.payload) == ("customer.paymentProfile.deleted", expected)
    assert MASTERCARD.encode() not in told.body


def test_a_charge_with_a_new_profile_notifies_both(shop: Merchant, receiver: Receiver) -> None:
    answer = shop.transaction(
        **card_sale(
            "5.00", profile={"createProfile": "true"}, customer={"email": "new@example.com"}
        )
    )
    told = {each.event: each.payload["id"] for each in (receiver.next(), receiver.next())}
    assert told == {
        "payment.authcapture.created": answer["transactionResponse"]["transId"],
        "customer.created": answer["profileResponse"]["customerProfileId"],
    }
