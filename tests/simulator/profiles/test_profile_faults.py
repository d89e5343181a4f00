"""What goes wrong with stored payment methods, on order."""

from typing import Any

import pytest

from simulator.customers import add_payment, charge, code, message, profile_of, stored, through
from simulator.merchant_client import Merchant, Process, card
from simulator.parts import MASTERCARD

GONE = "E00040"


def truth(shop: Merchant) -> list[dict[str, Any]]:
    """Return the shop's profiles as the control API shows them."""
    found: list[dict[str, Any]] = shop.process.control(
        f"/profiles?login={shop.login}", method="GET"
    )
    return found


def named(profile_id: str, payment_id: str) -> dict[str, str]:
    return {"customerProfileId": profile_id, "customerPaymentProfileId": payment_id}


def test_a_new_profile_is_unknown_until_its_time_has_come(process: Process) -> None:
    shop = process.merchant()
    process.control("/clock", {"now": "2026-07-01T12:00:00Z", "stopped": True})
    shop.settings(profile_lag_ms=60_000)
    profile_id, payment_id = stored(shop)
    ids = named(profile_id, payment_id)
    by_email = {"email": "ada@example.com"}

    def codes() -> set[str]:
        return {
            code(charge(shop, through(profile_id, payment_id))),
            code(shop.call("getCustomerProfileRequest", customerProfileId=profile_id)),
            code(shop.call("getCustomerProfileRequest", **by_email)),
            code(shop.call("getCustomerPaymentProfileRequest", **ids)),
            code(shop.call("validateCustomerPaymentProfileRequest", **ids, validationMode="none")),
        }

    assert codes() == {GONE}
    assert code(shop.call("deleteCustomerPaymentProfileRequest", **ids)) == GONE
    again = shop.call(
        "createCustomerProfileRequest", profile={**by_email, "paymentProfiles": {"payment": card()}}
    )
    assert message(again) == ("E00039", f"A duplicate record with ID {profile_id} already exists.")
    assert shop.truth() == []
    assert [each["customer_profile_id"] for each in truth(shop)] == [profile_id]
    process.control("/clock", {"advance_s": 60})
    assert codes() == {"I00001"}


def test_a_new_payment_profile_is_hidden_beside_older_ones(process: Process) -> None:
    shop = process.merchant()
    profile_id, first = stored(shop)
    process.control("/clock", {"advance_s": 3600})
    shop.settings(profile_lag_ms=60_000)
    second = add_payment(shop, profile_id, {"payment": card(MASTERCARD)})
    (shown,) = profile_of(shop, profile_id)["paymentProfiles"]
    assert shown["customerPaymentProfileId"] == first
    ids = named(profile_id, second["customerPaymentProfileId"])
    assert code(charge(shop, through(*ids.values()))) == GONE
    assert code(shop.call("deleteCustomerPaymentProfileRequest", **ids)) == GONE
    repeated = add_payment(shop, profile_id, {"payment": card(MASTERCARD)})
    assert repeated["customerPaymentProfileId"] == ids["customerPaymentProfileId"]
    assert code(repeated) == "E00039"


def test_a_duplicate_may_name_no_id(shop: Merchant) -> None:
    profile_id, _ = stored(shop, payment=card(), billTo={})
    sold = shop.charge()["transId"]
    shop.settings(duplicate_ids_told=False)
    again = shop.call("createCustomerProfileRequest", profile={"email": "ada@example.com"})
    assert message(again) == ("E00039", "A duplicate record already exists.")
    added = add_payment(shop, profile_id, {"payment": card()})
    assert message(added) == ("E00039", "A duplicate customer payment profile already exists.")
    assert list(added) == ["messages"]
    asked = {"transId": sold, "customerProfileId": profile_id}
    kept = shop.call("createCustomerProfileFromTransactionRequest", **asked)
    assert (code(kept), kept["customerPaymentProfileIdList"]) == ("E00039", [])


@pytest.mark.parametrize("kind", ["truncate", "error_after"])
def test_a_profile_whose_reply_is_spoilt_is_stored(shop: Merchant, kind: str) -> None:
    shop.fault(kind, count=1, method="createCustomerProfileRequest")
    profile = {"merchantCustomerId": "m-1", "paymentProfiles": {"payment": card()}}
    shop.post("createCustomerProfileRequest", profile=profile)
    (row,) = truth(shop)
    (method,) = row["payment_profiles"]
    assert (row["merchant_customer_id"], row["login"]) == ("m-1", shop.login)
    assert (method["last4"], method["brand"], method["expiry"]) == ("1111", "Visa", "2040-12")
    assert not method["default"]


@pytest.mark.parametrize(("kind", "left"), [("code_after", 0), ("code_before", 1)])
def test_a_deletion_can_be_answered_as_if_there_were_nothing(
    shop: Merchant, kind: str, left: int
) -> None:
    ids = named(*stored(shop))
    shop.fault(kind, count=1, code=GONE, method="deleteCustomerPaymentProfileRequest")
    assert code(shop.call("deleteCustomerPaymentProfileRequest", **ids)) == GONE
    assert len(truth(shop)[0]["payment_profiles"]) == left


def test_a_charge_is_refunded_after_its_method_was_deleted(shop: Merchant) -> None:
    ids = stored(shop)
    sale = charge(shop, through(*ids))["transactionResponse"]["transId"]
    shop.process.control("/settle")
    shop.call("deleteCustomerPaymentProfileRequest", **named(*ids))
    by_profile = shop.transaction(
        transactionType="refundTransaction",
        amount="10.00",
        profile=through(*ids),
        refTransId=sale,
    )
    assert code(by_profile) == GONE
    assert shop.refund(sale, "10.00")["responseCode"] == "1"


def test_two_customers_may_have_the_same_card(shop: Merchant) -> None:
    assert stored(shop, "ada@example.com") != stored(shop, "bob@example.com")
    assert [len(each["payment_profiles"]) for each in truth(shop)] == [1, 1]


def test_no_profile_is_made_of_a_voided_transaction(shop: Merchant) -> None:
    held = shop.authorize()["transId"]
    shop.void(held)
    customer = {"merchantCustomerId": "m-1"}
    asked = {"transId": held, "customer": customer}
    answer = shop.call("createCustomerProfileFromTransactionRequest", **asked)
    assert message(answer) == ("E00101", "Customer profile creation failed.")
    assert truth(shop) == []
