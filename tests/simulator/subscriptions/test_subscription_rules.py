"""Subscriptions (ARB): rules of creating, changing and listing."""

from typing import Any

import pytest

from simulator.customers import code, message
from simulator.merchant_client import Process, card
from simulator.parts import MASTERCARD, bank, nonce
from simulator.subscriber import JANE, Subscriber, plan, stored
from simulator.subscription_code_triggers import NOW, REFUSED, planned


def test_the_status_in_json_keeps_its_old_spelling(subscriber: Subscriber) -> None:
    number = subscriber.create("2027-01-11")
    answer = subscriber.shop.call("ARBGetSubscriptionStatusRequest", subscriptionId=number)
    del answer["messages"]
    assert answer == {
        "note": "Status with a capital 'S' is obsolete.",
        "status": "active",
        "Status": "active",
        "statusSpecified": True,
        "StatusSpecified": True,
    }


@pytest.mark.parametrize(
    ("expected", "subscription"),
    [
        *REFUSED.items(),
        ("E00014", planned(leave_out="paymentSchedule.interval")),
        ("E00014", planned(leave_out="paymentSchedule.totalOccurrences")),
        ("E00003", planned(amount="0.00")),
        ("E00003", planned(name="n" * 51)),
        ("E00013", planned("2040-02-30")),
        ("E00022", planned(length=6, unit="days")),
        ("E00022", planned(length=366, unit="days")),
        ("E00013", planned(payment=card("4111111111111112"))),
        ("E00013", planned(payment=card(expiry="2040-13"))),
        ("E00018", planned(payment=card(expiry="2040-01"))),
        ("E00014", planned(bill_to={"firstName": "Jane"})),
        ("E00040", planned(profile={"customerProfileId": "7"})),
        ("E00090", planned() | {"profile": {"customerProfileId": "7"}}),
    ],
)
def test_an_invalid_subscription_is_rejected(
    shared: Process, expected: str, subscription: dict[str, Any]
) -> None:
    shared.control("/clock", {"now": NOW})
    try:
        shop = shared.merchant()
        answer = shop.call("ARBCreateSubscriptionRequest", subscription=subscription)
        assert (code(answer), "subscriptionId" in answer) == (expected, False)
        listed = shop.call("ARBGetSubscriptionListRequest", searchType="subscriptionActive")
        assert listed["totalNumInResultSet"] == 0
    finally:
        shared.control("/clock", {"real": True})


def test_the_limits_themselves_are_allowed(subscriber: Subscriber) -> None:
    subscriber.create("2027-01-10", length=365, unit="days", total=4, invoice="span")
    subscriber.create("2027-02-01", total=37, invoice="to the day")
    subscriber.create("2027-02-01", payment=card(expiry="2027-02"), invoice="last month")
    subscriber.create("2027-02-01", trial=(2, "0.00"), total=3, invoice="trial")
    number = subscriber.create("2027-01-11", payment=bank(), invoice="bank")
    subscriber.drive("2027-01-11T18:00:00Z")
    (row,) = [row for row in subscriber.shop.truth() if row["invoice_number"] == "bank"]
    told = subscriber.shop.details(row["trans_id"])
    assert told["payment"]["bankAccount"]["accountNumber"] == "XXXX5678"
    assert subscriber.status(number) == "active"


def test_a_nonce_is_accepted_for_one_subscription(subscriber: Subscriber) -> None:
    payment = {"opaqueData": nonce(subscriber.shop, MASTERCARD, cardCode="900")}
    number = subscriber.create("2027-01-11", payment=payment)
    again = subscriber.ask(plan("2027-01-11", payment=payment, invoice="2"))
    assert code(again) == "E00114"
    subscriber.drive("2027-01-11T18:00:00Z")
    told = subscriber.shop.details(subscriber.payments(number)[0]["transId"])
    assert told["payment"]["creditCard"]["cardNumber"] == "XXXX0015"
    assert "cardCodeResponse" not in told


def test_a_subscription_is_a_duplicate_while_an_equal_one_is_active(subscriber: Subscriber) -> None:
    number = subscriber.create("2027-02-01")
    answer = subscriber.ask(plan("2027-02-01"))
    assert code(answer) == "E00012"
    assert message(answer)[1] == (
        f"You have submitted a duplicate of Subscription {number}."
        " A duplicate subscription will not be created."
    )
    other = subscriber.create("2027-02-01", amount="10.01")
    assert subscriber.update(other, amount="10.00") == "E00012"
    subscriber.cancel(number)
    again = subscriber.create("2027-02-01")
    assert int(again) == int(other) + 1
    assert subscriber.update(again, amount="12.00") == "I00001"
    assert subscriber.update(other, amount="10.00") == "I00001"


def test_an_update_may_change_only_some_fields(subscriber: Subscriber) -> None:
    number = subscriber.create("2027-01-11", total=12)
    subscriber.drive("2027-02-12T18:00:00Z")
    assert subscriber.update(number, paymentSchedule={"startDate": "2027-03-11"}) == "E00033"
    weekly = {"interval": {"length": 7, "unit": "days"}}
    assert subscriber.update(number, paymentSchedule=weekly) == "E00034"
    assert subscriber.update(number, payment=bank()) == "E00036"
    assert subscriber.update(number, paymentSchedule={"totalOccurrences": 2}) == "E00013"
    same = {"startDate": "2027-01-11", "totalOccurrences": 3}
    changes = {"name": "Silver", "paymentSchedule": same, "amount": "12.00", "order": {}}
    assert subscriber.update(number, **changes) == "I00001"
    assert subscriber.update(number, payment=card(MASTERCARD)) == "I00001"
    subscriber.drive("2027-03-12T18:00:00Z")
    assert subscriber.status(number) == "expired"
    last = subscriber.shop.truth()[-1]
    assert (last["amount"], last["invoice_number"]) == ("12.00", "sub-1")
    told = subscriber.shop.details(last["trans_id"])
    assert told["payment"]["creditCard"]["cardNumber"] == "XXXX0015"


def test_another_merchants_subscription_is_unknown(subscriber: Subscriber) -> None:
    number = subscriber.create("2027-02-01")
    stranger = subscriber.process.merchant()
    for method in ("ARBCancelSubscriptionRequest", "ARBGetSubscriptionRequest"):
        for merchant, asked in ((stranger, number), (subscriber.shop, "1"), (stranger, "9" * 30)):
            assert code(merchant.call(method, subscriptionId=asked)) == "E00035"
    assert subscriber.status(number) == "active"


def test_a_subscription_is_returned_as_it_was_sent(subscriber: Subscriber) -> None:
    number = subscriber.create("2027-01-31", total=3, trial=(1, "1.00"))
    answer = subscriber.shop.call("ARBGetSubscriptionRequest", subscriptionId=number)
    told = answer["subscription"]
    paid_by = told.pop("profile")["paymentProfile"]
    assert told == {
        "name": "Gold",
        "paymentSchedule": {
            "interval": {"length": 1, "unit": "months"},
            "startDate": "2027-01-31",
            "totalOccurrences": 3,
            "trialOccurrences": 1,
        },
        "amount": 10.0,
        "trialAmount": 1.0,
        "status": "active",
        "order": {"invoiceNumber": "sub-1"},
    }
    assert paid_by["billTo"] == JANE
    assert paid_by["payment"]["creditCard"]["cardNumber"] == "XXXX1111"


def test_the_list_can_be_searched_sorted_and_paged(subscriber: Subscriber) -> None:
    gold = subscriber.create("2027-01-11", name="Gold", amount="9.00", total=1, invoice="a")
    zinc = subscriber.create("2027-02-01", name="Zinc", amount="100.00", invoice="b")
    iron = subscriber.create("2027-02-01", payment=card(expiry="2027-02"), name="Iron", invoice="c")
    gone = subscriber.create("2027-02-01", name="Gone", invoice="d")
    subscriber.cancel(gone)
    assert subscriber.listed("subscriptionActive") == [gold, zinc, iron]
    assert subscriber.listed("subscriptionInactive") == [gone]
    assert subscriber.listed("subscriptionExpiringThisMonth") == [gold]
    assert subscriber.listed("cardExpiringThisMonth") == []
    by_amount = {"orderBy": "amount", "orderDescending": True}
    assert subscriber.listed("subscriptionActive", sorting=by_amount) == [zinc, iron, gold]
    by_name = {"orderBy": "name", "orderDescending": False}
    second = {"limit": 1, "offset": 2}
    answer = subscriber.shop.call(
        "ARBGetSubscriptionListRequest",
        searchType="subscriptionActive",
        sorting=by_name,
        paging=second,
    )
    (row,) = answer["subscriptionDetails"]
    assert answer["totalNumInResultSet"] == 3
    assert (row["name"], row["amount"], row["paymentMethod"]) == ("Iron", 10.0, "creditCard")
    assert (row["firstName"], row["accountNumber"], row["invoice"]) == ("Jane", "XXXX1111", "c")
    assert (row["totalOccurrences"], row["pastOccurrences"]) == (9999, 0)
    subscriber.drive("2027-02-02T18:00:00Z")
    assert subscriber.listed("cardExpiringThisMonth") == [iron]
    assert subscriber.listed("subscriptionInactive") == [gold, gone]
    empty = subscriber.process.merchant().call(
        "ARBGetSubscriptionListRequest", searchType="subscriptionActive"
    )
    assert (code(empty), empty["totalNumInResultSet"]) == ("I00004", 0)


def test_a_profile_of_an_active_subscription_cannot_be_deleted(subscriber: Subscriber) -> None:
    shop = subscriber.shop
    ids = stored(shop)
    number = subscriber.create("2027-02-01", profile=ids)
    whole = {"customerProfileId": ids["customerProfileId"]}
    assert code(shop.call("deleteCustomerProfileRequest", **whole)) == "E00106"
    assert code(shop.call("deleteCustomerPaymentProfileRequest", **ids)) == "E00105"
    other = stored(shop, JANE | {"city": "Lehi"})
    assert subscriber.update(number, profile=other) == "I00001"
    assert code(shop.call("deleteCustomerProfileRequest", **whole)) == "I00001"
    subscriber.cancel(number)
    del other["customerPaymentProfileId"]
    assert code(shop.call("deleteCustomerProfileRequest", **other)) == "I00001"
    told = shop.call("ARBGetSubscriptionRequest", subscriptionId=number)["subscription"]
    assert (told["status"], told["profile"]) == ("canceled", {})
    assert subscriber.listed("subscriptionInactive") == [number]


def test_a_new_address_updates_the_profile(subscriber: Subscriber) -> None:
    number = subscriber.create("2027-01-11")
    assert subscriber.update(number, billTo={"lastName": "Roe"}, shipTo={"zip": "1"}) == "I00001"
    subscriber.drive("2027-01-11T18:00:00Z")
    details = subscriber.shop.details(subscriber.payments(number)[0]["transId"])
    assert details["billTo"] == {"firstName": "Jane", "lastName": "Roe"}
    assert details["shipTo"] == {"zip": "1"}
    assert subscriber.update(number, billTo={"lastName": ""}) == "E00014"
