"""Finding profiles: by id, merchant's id, email or month of expiry, and only one's own."""

from typing import Any

from simulator.customers import (
    BILL_TO,
    NO_TRANSACTION,
    charge,
    message,
    profile_of,
    stored,
    through,
    update_payment,
)
from simulator.merchant_client import Merchant, Process, card

GONE = ("E00040", "The record cannot be found.")


def test_a_profile_is_found_by_id_merchant_id_or_email(shop: Merchant) -> None:
    ids = []
    for number in ("1", "2"):
        sent = {"merchantCustomerId": f"m-{number}", "email": "shared@example.com"}
        ids.append(shop.call("createCustomerProfileRequest", profile=sent)["customerProfileId"])

    def find(**by: str) -> str:
        found: str = shop.call("getCustomerProfileRequest", **by)["profile"]["customerProfileId"]
        return found

    assert find(merchantCustomerId="m-1") == ids[0]
    assert find(email="shared@example.com") == ids[1]  # the newest one
    assert shop.call("getCustomerProfileIdsRequest")["ids"] == ids
    shop.call("deleteCustomerProfileRequest", customerProfileId=ids[1])
    assert find(email="shared@example.com") == ids[0]
    assert message(shop.call("getCustomerProfileRequest", merchantCustomerId="m-2")) == GONE
    assert message(shop.call("getCustomerProfileRequest")) == GONE
    assert shop.call("getCustomerProfileIdsRequest")["ids"] == ids[:1]


def test_another_merchants_ids_are_unknown_ids(shared: Process, shop: Merchant) -> None:
    profile_id, payment_id = stored(shop)
    other = shared.merchant()
    both = {"customerProfileId": profile_id, "customerPaymentProfileId": payment_id}
    one = {"customerProfileId": profile_id}
    for method, body in (
        ("getCustomerProfileRequest", one),
        ("getCustomerProfileRequest", {"email": "ada@example.com"}),
        ("getCustomerPaymentProfileRequest", both),
        ("getCustomerPaymentProfileNonceRequest", {"connectedAccessToken": "t", **both}),
        ("deleteCustomerPaymentProfileRequest", both),
        ("deleteCustomerProfileRequest", one),
    ):
        assert message(other.call(method, **body)) == GONE, method
    assert other.call("getCustomerProfileIdsRequest")["ids"] == []
    refused = charge(other, through(profile_id, payment_id))
    assert message(refused) == (
        "E00040",
        "Customer Profile ID or Customer Payment Profile ID not found.",
    )
    assert refused["transactionResponse"] == NO_TRANSACTION
    assert other.truth() == []
    assert profile_of(shop, profile_id)["paymentProfiles"]


def test_cards_that_expire_in_a_month_are_listed(shop: Merchant) -> None:
    ids = [stored(shop, f"{number}@example.com") for number in range(5)]
    stored(shop, "later@example.com", payment=card(expiry="2041-01"))

    def page(month: str = "2040-12", **more: Any) -> dict[str, Any]:
        return shop.call(
            "getCustomerPaymentProfileListRequest",
            searchType="cardsExpiringInMonth",
            month=month,
            **more,
        )

    whole = page()
    assert list(whole) == ["totalNumInResultSet", "paymentProfiles", "messages"]
    assert whole["totalNumInResultSet"] == 5
    listed = [
        (each["customerProfileId"], each["customerPaymentProfileId"])
        for each in whole["paymentProfiles"]
    ]
    assert listed == [(int(profile), int(payment)) for profile, payment in ids]
    assert whole["paymentProfiles"][0]["billTo"] == BILL_TO
    second = page(
        sorting={"orderBy": "id", "orderDescending": True}, paging={"limit": 2, "offset": 2}
    )
    assert [str(each["customerPaymentProfileId"]) for each in second["paymentProfiles"]] == [
        ids[2][1],
        ids[1][1],
    ]
    beyond = page(paging={"limit": 2, "offset": 4})
    assert message(beyond) == ("I00004", "No records found.")
    assert beyond["totalNumInResultSet"] == 5
    shop.call("deleteCustomerProfileRequest", customerProfileId=ids[0][0])
    update_payment(shop, *ids[1], {"payment": card("XXXX1111", "2041-01")})
    assert page()["totalNumInResultSet"] == 3
    moved = page("2041-01")
    assert moved["totalNumInResultSet"] == 2
    assert str(moved["paymentProfiles"][0]["customerPaymentProfileId"]) == ids[1][1]  # by id
    assert message(page("2040-13")) == ("E00013", "Month is invalid.")
