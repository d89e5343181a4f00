"""Customer profiles are stored, shown masked, changed and deleted."""

from typing import Any

import pytest

from simulator.customers import (
    BILL_TO,
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
from simulator.merchant_client import Merchant, card
from simulator.parts import MASTERCARD as MASTER
from simulator.parts import bank

GONE = ("E00040", "The record cannot be found.")


def masked(number: str, expires: str, kind: str, issuer: str) -> dict[str, Any]:
    """Return a stored card as a profile shows it."""
    return {
        "creditCard": {
            "cardNumber": number,
            "expirationDate": expires,
            "cardType": kind,
            "issuerNumber": issuer,
        }
    }


def test_a_profile_is_shown_in_the_order_of_the_schema(shop: Merchant) -> None:
    made = shop.call(
        "createCustomerProfileRequest",
        refId="r-1",
        profile={
            "merchantCustomerId": "m-1",
            "description": "first",
            "email": "ada@example.com",
            "paymentProfiles": [
                {"customerType": "individual", "billTo": BILL_TO, "payment": card()},
                {"payment": card(MASTER, "01/41"), "defaultPaymentProfile": True},
            ],
            "shipToList": {**SHIP_TO, "phoneNumber": "555-0100"},
        },
    )
    assert list(made) == [
        "customerProfileId",
        "customerPaymentProfileIdList",
        "customerShippingAddressIdList",
        "validationDirectResponseList",
        "refId",
        "messages",
    ]
    first, second = made["customerPaymentProfileIdList"]
    profile = profile_of(
        shop, made["customerProfileId"], unmaskExpirationDate=True, includeIssuerInfo=True
    )
    assert profile == {
        "merchantCustomerId": "m-1",
        "description": "first",
        "email": "ada@example.com",
        "customerProfileId": made["customerProfileId"],
        "paymentProfiles": [
            {
                "customerType": "individual",
                "billTo": BILL_TO,
                "customerPaymentProfileId": first,
                "payment": masked("XXXX1111", "2040-12", "Visa", "411111"),
            },
            {
                "customerPaymentProfileId": second,
                "defaultPaymentProfile": True,
                "payment": masked("XXXX0015", "2041-01", "MasterCard", "542400"),
            },
        ],
        "shipToList": [
            {
                **SHIP_TO,
                "phoneNumber": "555-0100",
                "customerAddressId": made["customerShippingAddressIdList"][0],
            }
        ],
        "profileType": "regular",
    }
    assert list(profile["paymentProfiles"][0])[:3] == [
        "customerType",
        "billTo",
        "customerPaymentProfileId",
    ]
    usual = profile_of(shop, made["customerProfileId"])["paymentProfiles"][1]["payment"]
    assert usual["creditCard"]["expirationDate"] == "XXXX"


def test_a_duplicate_customer_error_has_the_existing_id(shop: Merchant) -> None:
    sent = {"merchantCustomerId": "m-1", "email": "ada@example.com"}
    first = shop.call("createCustomerProfileRequest", profile=sent)["customerProfileId"]
    again = shop.call("createCustomerProfileRequest", profile=sent)
    assert message(again) == ("E00039", f"A duplicate record with ID {first} already exists.")
    assert "customerProfileId" not in again
    assert again["customerPaymentProfileIdList"] == []
    other = {"merchantCustomerId": "m-1", "description": "d", "email": "ada@example.com"}
    second = shop.call("createCustomerProfileRequest", profile=other)["customerProfileId"]
    changed = shop.call(
        "updateCustomerProfileRequest", profile={**sent, "customerProfileId": second}
    )
    assert message(changed) == message(again)
    shop.call("deleteCustomerProfileRequest", customerProfileId=first)
    assert message(shop.call("createCustomerProfileRequest", profile=sent))[0] == "I00001"
    empty = shop.call("createCustomerProfileRequest", profile={"email": " "})
    assert message(empty) == ("E00041", "One or more fields in the profile must contain a value.")


def test_an_update_empties_omitted_fields(shop: Merchant) -> None:
    profile_id, _ = stored(shop, "old@example.com")
    sent = {"merchantCustomerId": "m-9", "customerProfileId": profile_id}
    assert list(shop.call("updateCustomerProfileRequest", profile=sent)) == ["messages"]
    assert "email" not in profile_of(shop, profile_id)
    assert message(shop.call("getCustomerProfileRequest", email="old@example.com")) == GONE
    found = shop.call("getCustomerProfileRequest", merchantCustomerId="m-9")["profile"]
    assert found["customerProfileId"] == profile_id


@pytest.mark.parametrize("method", ["create", "add"])
def test_a_duplicate_payment_profile_is_e00039(shop: Merchant, method: str) -> None:
    twice = {"billTo": BILL_TO, "payment": card()}
    if method == "create":
        profile = {"email": "a@example.com", "paymentProfiles": [twice, twice]}
        answer = shop.call("createCustomerProfileRequest", profile=profile)
        assert "customerProfileId" not in answer
        assert shop.call("getCustomerProfileIdsRequest")["ids"] == []
    else:
        profile_id, payment_id = stored(shop)
        answer = add_payment(shop, profile_id, twice)
        assert answer["customerProfileId"] == profile_id
        assert answer["customerPaymentProfileId"] == payment_id
        for different in ({"payment": card()}, {**twice, "payment": card(expiry="2041-01")}):
            more = add_payment(shop, profile_id, different)
            assert message(more)[0] == "I00001"
    assert message(answer) == ("E00039", "A duplicate customer payment profile already exists.")


@pytest.mark.parametrize(
    ("payment", "expected"),
    [
        (card("411111111111"), ("E00015", "The field length is invalid for Card Number.")),
        (card("XXXX1111"), ("E00015", "The field length is invalid for Card Number.")),
        (card("XXXXXXXXXXXX1111"), ("E00013", "Card Number is invalid.")),
        (card(expiry="2040-13"), ("E00013", "Expiration Date is invalid.")),
        (card(expiry="XXXX"), ("E00013", "Expiration Date is invalid.")),
        (None, ("E00014", "A required field is not present.")),
    ],
)
def test_an_invalid_payment_method_is_not_stored(
    shop: Merchant, payment: dict[str, Any] | None, expected: tuple[str, str]
) -> None:
    profile_id, _ = stored(shop)
    sent = {} if payment is None else {"payment": payment}
    answer = add_payment(shop, profile_id, sent)
    assert message(answer) == expected
    assert len(profile_of(shop, profile_id)["paymentProfiles"]) == 1


def test_a_number_that_fails_its_check_digit_is_stored_and_never_charged(shop: Merchant) -> None:
    profile_id, payment_id = stored(shop, payment=card("4424222222222222"))
    told = payment_of(shop, profile_id, payment_id, includeIssuerInfo=True)
    shown = told["payment"]["creditCard"]
    assert (shown["cardNumber"], shown["cardType"]) == ("XXXX2222", "Visa")
    response = charge(shop, through(profile_id, payment_id))["transactionResponse"]
    assert response["errors"][0]["errorCode"] == "6"


def test_masked_values_in_an_update_are_kept(shop: Merchant) -> None:
    profile_id, payment_id = stored(shop)

    def update(payment: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
        sent = {"billTo": {**BILL_TO, "zip": "46282"}, "payment": payment, **more}
        given = {key: value for key, value in sent.items() if value is not None}
        return update_payment(shop, profile_id, payment_id, given)

    def shown() -> dict[str, Any]:
        return payment_of(shop, profile_id, payment_id, unmaskExpirationDate=True)

    assert list(update(card("XXXX1111", "XXXX"))) == ["messages"]
    assert shown()["billTo"]["zip"] == "46282"
    assert shown()["payment"]["creditCard"]["expirationDate"] == "2040-12"
    declined = charge(shop, through(profile_id, payment_id))["transactionResponse"]
    assert declined["responseCode"] == "2"  # the stored address decides
    assert message(update(card("1111", "2045-01")))[0] == "I00001"
    assert shown()["payment"]["creditCard"]["expirationDate"] == "2045-01"
    assert message(update(None, billTo=None))[0] == "I00001"
    assert shown()["billTo"]["zip"] == "46282"
    assert message(update(None, billTo={}))[0] == "I00001"
    assert "billTo" not in shown()
    assert shown()["payment"]["creditCard"]["cardNumber"] == "XXXX1111"
    assert message(update(card("XXXX2222", "XXXX"))) == ("E00013", "Card Number is invalid.")
    assert message(update(card(MASTER, "XXXX"), defaultPaymentProfile=True))[0] == "I00001"
    assert shown()["payment"]["creditCard"] == {
        "cardNumber": "XXXX0015",
        "expirationDate": "2045-01",
        "cardType": "MasterCard",
    }
    by_default = shop.call("getCustomerPaymentProfileRequest", customerProfileId=profile_id)
    assert by_default["paymentProfile"]["customerPaymentProfileId"] == payment_id
    assert by_default["paymentProfile"]["customerProfileId"] == profile_id


def test_a_bank_account_is_stored_masked(shop: Merchant) -> None:
    more = {"accountType": "savings", "echeckType": "WEB", "bankName": "First"}
    profile_id, payment_id = stored(shop, payment=bank(accountNumber="123456789012", **more))
    shown = bank(routingNumber="XXXX2882", accountNumber="XXXX9012", **more)
    told = payment_of(shop, profile_id, payment_id)["payment"]
    assert told == shown
    assert list(told["bankAccount"]) == list(shown["bankAccount"])
    shown["bankAccount"]["bankName"] = "Second"
    kept = update_payment(shop, profile_id, payment_id, {"payment": shown})
    assert message(kept)[0] == "I00001"
    assert payment_of(shop, profile_id, payment_id)["payment"] == shown
    response = charge(shop, through(profile_id, payment_id))["transactionResponse"]
    assert (response["responseCode"], response["accountType"]) == ("1", "eCheck")


def test_shipping_addresses_are_added_changed_and_deleted(shop: Merchant) -> None:
    profile_id, _ = stored(shop)
    mine = {"customerProfileId": profile_id}

    def add(**address: str) -> dict[str, Any]:
        return add_address(shop, profile_id, {**SHIP_TO, **address}, defaultShippingAddress=True)

    made = add(phoneNumber="555-0100")
    address_id = made["customerAddressId"]
    assert made["customerProfileId"] == profile_id
    again = add(phoneNumber="555-0100")
    assert message(again)[0] == "E00039"
    assert again["customerAddressId"] == address_id
    assert add(phoneNumber="555-0101")["customerAddressId"] > address_id
    oslo = {"city": "Oslo", "customerAddressId": address_id}
    method = "updateCustomerShippingAddressRequest"
    changed = shop.call(method, **mine, address=oslo, defaultShippingAddress=True)
    assert list(changed) == ["messages"]
    told = shop.call("getCustomerShippingAddressRequest", **mine)
    assert list(told) == ["defaultShippingAddress", "address", "messages"]
    assert told["defaultShippingAddress"] is True
    assert told["address"] == oslo
    lost = shop.call(method, **mine, address={**oslo, "customerAddressId": "1"})
    assert message(lost) == ("E00040", "Cannot find the specified shipping address.")
    one = {**mine, "customerAddressId": address_id}
    assert message(shop.call("deleteCustomerShippingAddressRequest", **one))[0] == "I00001"
    assert message(shop.call("deleteCustomerShippingAddressRequest", **one)) == GONE
    assert message(shop.call("getCustomerShippingAddressRequest", **one)) == GONE
    assert message(shop.call("getCustomerShippingAddressRequest", **mine)) == (
        "E00121",
        "No default payment/shipping profile found.",
    )


def test_a_second_delete_finds_nothing(shop: Merchant) -> None:
    profile_id, payment_id = stored(shop)
    both = {"customerProfileId": profile_id, "customerPaymentProfileId": payment_id}
    one = {"customerProfileId": profile_id}
    assert list(shop.call("deleteCustomerPaymentProfileRequest", **both)) == ["messages"]
    assert message(shop.call("deleteCustomerPaymentProfileRequest", **both)) == GONE
    assert "paymentProfiles" not in profile_of(shop, profile_id)
    assert message(shop.call("deleteCustomerProfileRequest", **one))[0] == "I00001"
    assert message(shop.call("deleteCustomerProfileRequest", **one)) == GONE


def test_a_profile_has_at_most_ten_payment_methods_and_a_hundred_addresses(shop: Merchant) -> None:
    profile_id, _ = stored(shop)
    for year in range(2041, 2051):
        answer = add_payment(shop, profile_id, {"payment": card(expiry=f"{year}-01")})
        assert (message(answer)[0] == "I00001") == (year < 2050)
    assert message(answer) == ("E00042", "You cannot add more than 10 payment profiles.")
    many = [{"address": f"{number} Dock St"} for number in range(101)]
    too_many = shop.call(
        "createCustomerProfileRequest", profile={"email": "b@example.com", "shipToList": many}
    )
    assert message(too_many) == ("E00043", "You cannot add more than 100 shipping addresses.")
    full = shop.call(
        "createCustomerProfileRequest", profile={"email": "b@example.com", "shipToList": many[:100]}
    )
    assert len(full["customerShippingAddressIdList"]) == 100
    one_more = add_address(shop, full["customerProfileId"], {"address": "the last straw"})
    assert message(one_more)[0] == "E00043"
