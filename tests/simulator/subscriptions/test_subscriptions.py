"""Subscriptions (ARB): the payments as the clock advances."""

from collections.abc import Callable
from typing import Any

from simulator.customers import code, message, update_payment
from simulator.durable import Durable
from simulator.merchant_client import Process, card
from simulator.parts import MASTERCARD
from simulator.subscriber import JANE, Subscriber, plan, stored


def test_a_year_in_one_step_pays_on_each_date_and_settles_in_between(
    subscriber: Subscriber,
) -> None:
    number = subscriber.create("2027-01-31", total=14)
    subscriber.drive("2028-01-10T18:00:00Z")
    assert subscriber.moments(number) == [
        "2027-01-31T10:00:00",
        "2027-02-28T10:00:00",
        "2027-03-31T09:00:00",  # 2 am in daylight saving time
        "2027-04-30T09:00:00",
        "2027-05-31T09:00:00",
        "2027-06-30T09:00:00",
        "2027-07-31T09:00:00",
        "2027-08-31T09:00:00",
        "2027-09-30T09:00:00",
        "2027-10-31T09:00:00",
        "2027-11-30T10:00:00",
        "2027-12-31T10:00:00",
    ]
    rows = subscriber.shop.truth()
    assert [row["invoice_number"] for row in rows] == ["sub-1"] * 12
    assert {row["status"] for row in rows} == {"settledSuccessfully"}
    first = subscriber.shop.details(rows[0]["trans_id"])
    assert first["batch"]["settlementTimeUTC"] == "2027-02-01T00:00:00Z"
    assert first["submitTimeLocal"] == "2027-01-31T02:00:00"
    assert first["subscription"] == {"id": int(number), "payNum": 1}
    assert first["recurringBilling"] is True
    batches = {subscriber.shop.details(row["trans_id"])["batch"]["batchId"] for row in rows}
    assert len(batches) == 12


def test_a_payment_is_listed_with_its_subscription_until_it_settles(subscriber: Subscriber) -> None:
    number = subscriber.create("2027-01-11")
    subscriber.drive("2027-01-11T09:59:59Z")
    assert subscriber.payments(number) == []
    subscriber.drive("2027-01-11T10:00:00Z")
    (payment,) = subscriber.payments(number)
    assert payment == {
        "transId": payment["transId"],
        "response": "This transaction has been approved.",
        "submitTimeUTC": "2027-01-11T10:00:00",
        "payNum": 1,
        "attemptNum": 1,
    }
    (listed,) = subscriber.shop.call("getUnsettledTransactionListRequest")["transactions"]
    assert listed["transId"] == payment["transId"]
    assert listed["subscription"] == {"id": int(number), "payNum": 1}
    ordinary = subscriber.shop.charge()
    told = subscriber.shop.details(ordinary["transId"])
    assert "subscription" not in told
    assert told["recurringBilling"] is False


def test_a_subscription_that_begins_today_is_paid_next_night(subscriber: Subscriber) -> None:
    number = subscriber.create("2027-01-10", length=7, unit="days", total=2)
    assert subscriber.payments(number) == []
    subscriber.drive("2027-01-11T10:00:00Z")
    assert subscriber.moments(number) == ["2027-01-11T10:00:00"]
    subscriber.drive("2027-01-17T10:00:00Z")
    assert subscriber.moments(number)[1:] == ["2027-01-17T10:00:00"]
    assert subscriber.status(number) == "expired"


def test_the_trial_comes_first_and_a_free_one_makes_no_transaction(subscriber: Subscriber) -> None:
    cheap = subscriber.create("2027-01-11", total=3, trial=(1, "1.00"), invoice="cheap")
    free = subscriber.create("2027-01-11", total=3, trial=(1, "0.00"), invoice="free")
    subscriber.drive("2027-04-01T18:00:00Z")
    paid = [(row["invoice_number"], row["amount"]) for row in subscriber.shop.truth()]
    assert paid == [
        ("cheap", "1.00"),
        ("cheap", "10.00"),
        ("free", "10.00"),
        ("cheap", "10.00"),
        ("free", "10.00"),
    ]
    assert [each["payNum"] for each in subscriber.payments(free)] == [2, 3]
    assert subscriber.status(cheap) == subscriber.status(free) == "expired"


def test_a_failed_payment_suspends_and_a_new_card_reactivates(subscriber: Subscriber) -> None:
    lost = subscriber.create("2027-01-11", invoice="lost", payment=card(expiry="2027-02"))
    saved = subscriber.create("2027-01-11", invoice="saved", payment=card(expiry="2027-02"))
    subscriber.drive("2027-03-12T18:00:00Z")
    assert subscriber.status(lost) == subscriber.status(saved) == "suspended"
    failed = subscriber.payments(saved)[-1]
    assert (failed["payNum"], failed["response"]) == (3, "The credit card has expired.")
    assert "transId" not in failed
    assert subscriber.update(saved, payment=card(expiry="2027-02")) == "E00013"
    assert subscriber.status(saved) == "suspended"
    assert subscriber.update(saved, payment=card(expiry="2030-02")) == "I00001"
    assert subscriber.status(saved) == "active"
    subscriber.drive("2027-04-12T18:00:00Z")
    assert subscriber.status(lost) == "terminated"
    assert len(subscriber.payments(lost)) == 3
    assert [each["payNum"] for each in subscriber.payments(saved)] == [1, 2, 3, 4]
    assert subscriber.status(saved) == "active"
    assert subscriber.update(lost, name="Silver") == "E00037"
    assert subscriber.cancel(lost) == "E00038"


def test_a_declined_payment_is_a_declined_transaction(subscriber: Subscriber) -> None:
    number = subscriber.create("2027-01-11", bill_to=JANE | {"zip": "46282"})
    subscriber.drive("2027-01-12T18:00:00Z")
    assert subscriber.status(number) == "suspended"
    (row,) = subscriber.shop.truth()
    assert (row["response_code"], row["status"]) == ("2", "declined")
    (payment,) = subscriber.payments(number)
    assert (payment["transId"], payment["response"]) == (
        row["trans_id"],
        "This transaction has been declined.",
    )


def test_a_cancelled_subscription_makes_no_more_payments(subscriber: Subscriber) -> None:
    number = subscriber.create("2027-01-11")
    subscriber.drive("2027-01-12T18:00:00Z")
    assert subscriber.cancel(number) == "I00001"
    again = subscriber.shop.call("ARBCancelSubscriptionRequest", subscriptionId=number)
    assert again["messages"]["resultCode"] == "Ok"
    assert message(again) == ("I00002", "The subscription has already been canceled.")
    answer = subscriber.shop.call(
        "ARBUpdateSubscriptionRequest", subscriptionId=number, subscription={"name": "Silver"}
    )
    assert message(answer)[1] == "Subscriptions that are canceled cannot be updated."
    subscriber.drive("2027-06-12T18:00:00Z")
    assert len(subscriber.shop.truth()) == 1
    assert subscriber.status(number) == "canceled"


def test_a_kill_and_downtime_neither_lose_nor_repeat_a_payment(durable: Durable) -> None:
    subscriber = Subscriber(durable)
    number = subscriber.create("2027-01-31", total=4)
    subscriber.drive("2027-03-01T18:00:00Z")
    expected = subscriber.payments(number), subscriber.shop.truth()
    assert len(expected[1]) == 2
    durable.restart()
    assert (subscriber.payments(number), subscriber.shop.truth()) == expected
    subscriber.drive("2027-05-01T18:00:00Z")
    assert [each["payNum"] for each in subscriber.payments(number)] == [1, 2, 3, 4]
    assert subscriber.status(number) == "expired"
    assert {row["status"] for row in subscriber.shop.truth()} == {"settledSuccessfully"}
    other = subscriber.create("2027-06-01")
    assert int(other) == int(number) + 1
    assert b"4111111111111111" not in durable.file.read_bytes()


def test_payments_due_during_downtime_are_made_at_their_due_times(durable: Durable) -> None:
    subscriber = Subscriber(durable)
    shop, number = subscriber.shop, subscriber.create("2027-01-11")
    durable.process.kill()
    moved = '["clock",0,1802000000000]\n'  # 2027-02-06, as if time had passed
    with durable.file.open("a") as state:
        state.write(moved)
    durable.restart()
    (row,) = shop.truth()
    assert (row["submitted_at"], row["status"]) == ("2027-01-11T10:00:00Z", "settledSuccessfully")
    batch = shop.details(row["trans_id"])["batch"]
    assert batch["settlementTimeUTC"] == "2027-01-12T00:00:00Z"
    assert shop.details(row["trans_id"])["subscription"]["id"] == int(number)


def test_a_reset_deletes_subscriptions_and_reuses_no_id(durable: Durable) -> None:
    one, kept = Subscriber(durable), Subscriber(durable)
    number, stays = one.create("2027-01-11"), kept.create("2027-01-11")
    one.process.control("/reset", {"login": one.shop.login})
    assert one.listed("subscriptionActive") == []
    assert kept.listed("subscriptionActive") == [stays]
    one.drive("2027-01-12T18:00:00Z")
    assert (one.shop.truth(), len(kept.shop.truth())) == ([], 1)
    one.process.control("/reset")
    assert kept.listed("subscriptionActive") == []
    durable.restart()
    assert int(one.create("2027-02-01")) == int(stays) + 1 > int(number)


def test_a_clock_set_forward_by_centuries_answers_quickly(subscriber: Subscriber) -> None:
    number = subscriber.create("2027-01-11", length=12, total=3)
    subscriber.drive("2900-01-01T00:00:00Z")
    assert subscriber.status(number) == "expired"
    assert len(subscriber.shop.truth()) == 3


def test_a_card_becomes_a_profile_whose_ids_the_payments_have(subscriber: Subscriber) -> None:
    shop = subscriber.shop
    said = plan("2027-01-11") | {"customer": {"id": "c-1", "email": "jane@shop.example"}}
    ordered = {key: said[key] for key in ("name", "paymentSchedule", "amount", "payment", "order")}
    shipped = {"customer": said["customer"], "billTo": JANE, "shipTo": {"address": "1 Main St"}}
    answer = subscriber.ask(ordered | shipped)
    number, ids = answer["subscriptionId"], answer["profile"]
    profile = shop.call("getCustomerProfileRequest", customerProfileId=ids["customerProfileId"])
    assert profile["subscriptionIds"] == [number]
    assert profile["profile"]["description"] == f"Profile created by Subscription: {number}"
    assert profile["profile"]["paymentProfiles"][0]["billTo"] == JANE
    told = shop.call("ARBGetSubscriptionRequest", subscriptionId=number)["subscription"]["profile"]
    assert told["merchantCustomerId"] == "c-1"
    assert told["paymentProfile"]["customerPaymentProfileId"] == ids["customerPaymentProfileId"]
    assert told["shippingProfile"] == {
        "address": "1 Main St",
        "customerAddressId": ids["customerAddressId"],
    }
    subscriber.drive("2027-01-11T18:00:00Z")
    details = shop.details(subscriber.payments(number)[0]["transId"])
    assert details["profile"] == ids
    assert (details["customer"]["id"], details["billTo"]) == ("c-1", JANE)
    assert details["shipTo"] == {"address": "1 Main St"}
    (row,) = shop.call("ARBGetSubscriptionListRequest", searchType="subscriptionActive")[
        "subscriptionDetails"
    ]
    assert str(row["customerProfileId"]) == ids["customerProfileId"]
    assert str(row["customerShippingProfileId"]) == ids["customerAddressId"]


def test_a_payment_uses_the_profiles_current_payment_method(subscriber: Subscriber) -> None:
    shop = subscriber.shop
    ids = stored(shop)
    number = subscriber.create("2027-01-11", profile=ids)
    gone = {"customerProfileId": ids["customerProfileId"], "customerPaymentProfileId": "1"}
    assert code(subscriber.ask(plan("2027-02-11", profile=gone))) == "E00040"
    stranger = subscriber.process.merchant()
    answer = stranger.call(
        "ARBCreateSubscriptionRequest", subscription=plan("2027-02-11", profile=ids)
    )
    assert code(answer) == "E00040"
    nameless = stored(shop, {"firstName": "Jane"})
    assert code(subscriber.ask(plan("2027-02-11", profile=nameless))) == "E00014"

    subscriber.drive("2027-01-12T18:00:00Z")
    newer = {"billTo": JANE, "payment": card(MASTERCARD)}
    changed = update_payment(shop, ids["customerProfileId"], ids["customerPaymentProfileId"], newer)
    assert code(changed) == "I00001"
    subscriber.drive("2027-02-12T18:00:00Z")
    numbers = [
        shop.details(each["transId"])["payment"]["creditCard"]["cardNumber"]
        for each in subscriber.payments(number)
    ]
    assert numbers == ["XXXX1111", "XXXX0015"]


def test_a_payment_cut_off_the_state_file_is_made_again(durable: Durable) -> None:
    subscriber = Subscriber(durable)
    number = subscriber.create("2027-01-11")
    subscriber.drive("2027-01-11T10:00:00Z")
    lost = subscriber.payments(number)
    durable.process.kill()
    written = durable.file.read_bytes()
    assert written.splitlines()[-1].startswith(b'["subscription_charged"')
    durable.file.write_bytes(written[:-40])
    durable.restart()
    (row,) = subscriber.shop.truth()
    assert (row["submitted_at"], row["trans_id"]) == ("2027-01-11T10:00:00Z", lost[0]["transId"])
    assert subscriber.payments(number) == lost


def test_one_step_of_the_clock_has_the_effect_of_many(start: Callable[..., Process]) -> None:
    def live(step_days: int) -> list[dict[str, Any]]:
        subscriber = Subscriber(start("--seed", "7"))
        shop = subscriber.shop
        subscriber.create("2027-01-31", trial=(1, "1.00"), invoice="monthly")
        subscriber.create("2027-01-12", length=7, unit="days", total=5, invoice="weekly")
        broke = JANE | {"zip": "46282"}
        subscriber.create("2027-01-20", bill_to=broke, invoice="broke")
        shop.authorize(invoice="held")
        shop.charge(invoice="sale")
        for _ in range(81 // step_days):
            subscriber.process.control("/clock", {"advance_s": step_days * 86_400})
        rows = shop.truth()
        batches = [shop.details(row["trans_id"]).get("batch") for row in rows]
        return [{**row, "batch": batch} for row, batch in zip(rows, batches, strict=True)]

    at_once = live(81)
    assert len(at_once) == 11
    assert {row["status"] for row in at_once} == {"expired", "settledSuccessfully", "declined"}
    assert at_once == live(1)


def test_a_payment_above_the_accounts_maximum_is_not_made(subscriber: Subscriber) -> None:
    subscriber.shop.settings(max_amount="9.99")
    number = subscriber.create("2027-01-11")
    subscriber.drive("2027-01-11T18:00:00Z")
    assert subscriber.status(number) == "suspended"
    assert subscriber.shop.truth() == []
