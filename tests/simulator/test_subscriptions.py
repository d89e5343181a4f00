"""Subscriptions (ARB): their rules, and the payments that the clock brings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator.driving import VISA, Merchant, Process

JANE = {"firstName": "Jane", "lastName": "Doe"}
MASTERCARD = "5424000000000015"


def card(number: str = VISA, expiry: str = "2040-12") -> dict[str, Any]:
    return {"creditCard": {"cardNumber": number, "expirationDate": expiry}}


def plan(
    start: str,
    *,
    name: str = "Gold",
    length: int = 1,
    unit: str = "months",
    total: int = 9999,
    amount: str | None = "10.00",
    trial: tuple[int | None, str | None] = (None, None),
    payment: dict[str, Any] | None = None,
    invoice: str = "sub-1",
    bill_to: dict[str, str] | None = None,
    **profile: Any,
) -> dict[str, Any]:
    """A subscription in the order of the schema."""
    occurrences, trial_amount = trial
    schedule: dict[str, Any] = {
        "interval": {"length": length, "unit": unit},
        "startDate": start,
        "totalOccurrences": total,
    }
    if occurrences is not None:
        schedule["trialOccurrences"] = occurrences
    said: dict[str, Any] = {"name": name, "paymentSchedule": schedule}
    if amount is not None:
        said["amount"] = amount
    if trial_amount is not None:
        said["trialAmount"] = trial_amount
    if not profile:
        said["payment"] = payment or card()
    said["order"] = {"invoiceNumber": invoice}
    if not profile:
        said["billTo"] = bill_to or JANE
    return said | profile


class Subscriber:
    """A merchant's subscriptions, on a clock that is stopped."""

    def __init__(self, process: Process, now: str = "2027-01-10T18:00:00Z") -> None:
        self.process = process
        self.shop: Merchant = process.merchant()
        self.drive(now)

    def drive(self, now: str) -> None:
        self.process.control("/clock", {"now": now, "stopped": True})

    def create(self, start: str, **said: Any) -> str:
        answer = self.ask(plan(start, **said))
        assert code(answer) == "I00001", answer
        found: str = answer["subscriptionId"]
        return found

    def ask(self, subscription: dict[str, Any]) -> dict[str, Any]:
        return self.shop.call("ARBCreateSubscriptionRequest", subscription=subscription)

    def update(self, number: str, **changes: Any) -> str:
        return code(
            self.shop.call(
                "ARBUpdateSubscriptionRequest", subscriptionId=number, subscription=changes
            )
        )

    def cancel(self, number: str) -> str:
        return code(self.shop.call("ARBCancelSubscriptionRequest", subscriptionId=number))

    def status(self, number: str) -> str:
        found: str = self.shop.call("ARBGetSubscriptionStatusRequest", subscriptionId=number)[
            "status"
        ]
        return found

    def payments(self, number: str) -> list[dict[str, Any]]:
        answer = self.shop.call(
            "ARBGetSubscriptionRequest", subscriptionId=number, includeTransactions=True
        )
        found: list[dict[str, Any]] = answer["subscription"]["arbTransactions"]
        return found

    def moments(self, number: str) -> list[str]:
        return [each["submitTimeUTC"] for each in self.payments(number)]

    def listed(self, search: str, **asked: Any) -> list[str]:
        answer = self.shop.call("ARBGetSubscriptionListRequest", searchType=search, **asked)
        return [str(each["id"]) for each in answer.get("subscriptionDetails", [])]


def code(answer: dict[str, Any]) -> str:
    found: str = answer["messages"]["message"][0]["code"]
    return found


def text(answer: dict[str, Any]) -> str:
    found: str = answer["messages"]["message"][0]["text"]
    return found


@pytest.fixture
def subscriber(start: Callable[..., Process]) -> Subscriber:
    return Subscriber(start("--seed", "1"))


def test_a_year_in_one_step_pays_on_each_date_and_settles_in_between(
    subscriber: Subscriber,
) -> None:
    number = subscriber.create("2027-01-31", total=14)
    subscriber.drive("2028-01-10T18:00:00Z")
    assert subscriber.moments(number) == [
        "2027-01-31T10:00:00",
        "2027-02-28T10:00:00",
        "2027-03-31T09:00:00",  # 2 am is summer time now
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


def test_a_payment_is_listed_with_its_subscription_until_it_settles(
    subscriber: Subscriber,
) -> None:
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


def test_what_begins_today_is_paid_in_the_next_night(subscriber: Subscriber) -> None:
    number = subscriber.create("2027-01-10", length=7, unit="days", total=2)
    assert subscriber.payments(number) == []
    subscriber.drive("2027-01-11T10:00:00Z")
    assert subscriber.moments(number) == ["2027-01-11T10:00:00"]
    subscriber.drive("2027-01-17T10:00:00Z")
    assert subscriber.moments(number)[1:] == ["2027-01-17T10:00:00"]
    assert subscriber.status(number) == "expired"


def test_the_trial_comes_first_and_a_free_one_takes_no_money(subscriber: Subscriber) -> None:
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


def test_a_failed_payment_suspends_and_a_new_card_saves_the_subscription(
    subscriber: Subscriber,
) -> None:
    lost = subscriber.create("2027-01-11", invoice="lost", payment=card(expiry="2027-02"))
    saved = subscriber.create("2027-01-11", invoice="saved", payment=card(expiry="2027-02"))
    subscriber.drive("2027-03-12T18:00:00Z")
    assert subscriber.status(lost) == subscriber.status(saved) == "suspended"
    failed = subscriber.payments(saved)[-1]
    assert (failed["payNum"], failed["response"]) == (3, "The credit card has expired.")
    assert "transId" not in failed
    assert subscriber.update(saved, payment=card(expiry="2027-02")) == "E00018"
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


def test_a_cancelled_subscription_takes_no_more_money(subscriber: Subscriber) -> None:
    number = subscriber.create("2027-01-11")
    subscriber.drive("2027-01-12T18:00:00Z")
    assert subscriber.cancel(number) == "I00001"
    again = subscriber.shop.call("ARBCancelSubscriptionRequest", subscriptionId=number)
    assert again["messages"]["resultCode"] == "Ok"
    assert (code(again), text(again)) == ("I00002", "The subscription has already been canceled.")
    answer = subscriber.shop.call(
        "ARBUpdateSubscriptionRequest", subscriptionId=number, subscription={"name": "Silver"}
    )
    assert text(answer) == "Subscriptions that are canceled cannot be updated."
    subscriber.drive("2027-06-12T18:00:00Z")
    assert len(subscriber.shop.truth()) == 1
    assert subscriber.status(number) == "canceled"


def test_the_status_in_json_keeps_its_old_spelling(subscriber: Subscriber) -> None:
    number = subscriber.create("2027-01-11")
    answer = subscriber.shop.call("ARBGetSubscriptionStatusRequest", subscriptionId=number)
    del answer["messages"]
    assert answer == {
        "note": "Status with a capital 'S' is obsolete.",
        "status": "active",
        "Status": "active",
        "statusSpecified": True,
    }


def without(subscription: dict[str, Any], *path: str) -> dict[str, Any]:
    inner = subscription
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return subscription


@pytest.mark.parametrize(
    ("subscription", "expected"),
    [
        (without(plan("2027-02-01"), "paymentSchedule"), "E00030"),
        (without(plan("2027-02-01"), "paymentSchedule", "interval"), "E00014"),
        (without(plan("2027-02-01"), "paymentSchedule", "startDate"), "E00032"),
        (without(plan("2027-02-01"), "paymentSchedule", "totalOccurrences"), "E00014"),
        (without(plan("2027-02-01"), "amount"), "E00031"),
        (without(plan("2027-02-01"), "payment"), "E00029"),
        (plan("2027-02-01", payment={"payPal": {}}), "E00016"),
        (plan("2027-02-01", amount="0.00"), "E00003"),
        (plan("2027-02-01", amount="1.005"), "E00013"),
        (plan("2027-02-01", name="n" * 51), "E00003"),
        (plan("2027-02-30"), "E00013"),
        (plan("2027-01-09"), "E00017"),
        (plan("2027-02-01", length=6, unit="days"), "E00022"),
        (plan("2027-02-01", length=366, unit="days"), "E00022"),
        (plan("2027-02-01", length=13), "E00022"),
        (plan("2027-02-01", total=38), "E00023"),
        (plan("2027-02-01", trial=(None, "1.00")), "E00024"),
        (plan("2027-02-01", trial=(1, None)), "E00026"),
        (plan("2027-02-01", total=3, trial=(3, "1.00")), "E00028"),
        (plan("2027-02-01", payment=card("4111111111111112")), "E00013"),
        (plan("2027-02-01", payment=card(expiry="2027-13")), "E00013"),
        (plan("2027-02-01", payment=card(expiry="2027-01")), "E00018"),
        (plan("2027-02-01", bill_to={"firstName": "Jane"}), "E00014"),
        (plan("2027-02-01", profile={"customerProfileId": "7"}), "E00040"),
        (
            plan("2027-02-01", payment=card()) | {"profile": {"customerProfileId": "7"}},
            "E00090",
        ),
    ],
)
def test_a_subscription_that_cannot_be(
    shared: Process, subscription: dict[str, Any], expected: str
) -> None:
    shared.control("/clock", {"now": "2027-01-10T18:00:00Z"})
    try:
        shop = shared.merchant()
        answer = shop.call("ARBCreateSubscriptionRequest", subscription=subscription)
        assert (code(answer), "subscriptionId" in answer) == (expected, False)
        listed = shop.call("ARBGetSubscriptionListRequest", searchType="subscriptionActive")
        assert listed["totalNumInResultSet"] == 0
    finally:
        shared.control("/clock", {"real": True})


def test_what_is_still_allowed(subscriber: Subscriber) -> None:
    subscriber.create("2027-01-10", length=365, unit="days", total=4, invoice="span")
    subscriber.create("2027-02-01", total=37, invoice="to the day")
    subscriber.create("2027-02-01", payment=card(expiry="2027-02"), invoice="last month")
    subscriber.create("2027-02-01", trial=(2, "0.00"), total=3, invoice="trial")
    bank = {"routingNumber": "121042882", "accountNumber": "123456789", "nameOnAccount": "Jane"}
    number = subscriber.create("2027-01-11", payment={"bankAccount": bank}, invoice="bank")
    subscriber.drive("2027-01-11T18:00:00Z")
    (row,) = [row for row in subscriber.shop.truth() if row["invoice_number"] == "bank"]
    told = subscriber.shop.details(row["trans_id"])
    assert told["payment"]["bankAccount"]["accountNumber"] == "XXXX6789"
    assert subscriber.status(number) == "active"


def test_a_nonce_pays_once_for_one_subscription(subscriber: Subscriber) -> None:
    token = {"cardNumber": MASTERCARD, "expirationDate": "122040", "cardCode": "900"}
    data = {"type": "TOKEN", "id": "1", "token": token}
    nonce = subscriber.shop.call("securePaymentContainerRequest", data=data)["opaqueData"]
    number = subscriber.create("2027-01-11", payment={"opaqueData": nonce})
    again = subscriber.ask(plan("2027-01-11", payment={"opaqueData": nonce}, invoice="2"))
    assert code(again) == "E00114"
    subscriber.drive("2027-01-11T18:00:00Z")
    told = subscriber.shop.details(subscriber.payments(number)[0]["transId"])
    assert told["payment"]["creditCard"]["cardNumber"] == "XXXX0015"
    assert "cardCodeResponse" not in told


def test_the_same_again_is_a_duplicate_while_the_first_one_runs(subscriber: Subscriber) -> None:
    number = subscriber.create("2027-02-01")
    answer = subscriber.ask(plan("2027-02-01"))
    assert code(answer) == "E00012"
    assert text(answer) == (
        f"You have submitted a duplicate of Subscription {number}."
        " A duplicate subscription will not be created."
    )
    other = subscriber.create("2027-02-01", amount="10.01")
    assert subscriber.update(other, amount="10.00") == "E00012"
    subscriber.process.merchant()
    subscriber.cancel(number)
    assert subscriber.create("2027-02-01") > number


def test_what_may_change_and_what_may_not(subscriber: Subscriber) -> None:
    number = subscriber.create("2027-01-11", total=12)
    subscriber.drive("2027-02-12T18:00:00Z")
    assert subscriber.update(number, paymentSchedule={"startDate": "2027-03-11"}) == "E00033"
    weekly = {"interval": {"length": 7, "unit": "days"}}
    assert subscriber.update(number, paymentSchedule=weekly) == "E00034"
    bank = {"routingNumber": "121042882", "accountNumber": "123456789", "nameOnAccount": "Jane"}
    assert subscriber.update(number, payment={"bankAccount": bank}) == "E00036"
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


def test_nobody_elses_subscription(subscriber: Subscriber) -> None:
    number = subscriber.create("2027-02-01")
    stranger = subscriber.process.merchant()
    for method in ("ARBCancelSubscriptionRequest", "ARBGetSubscriptionRequest"):
        for merchant, asked in ((stranger, number), (subscriber.shop, "1"), (stranger, "9" * 30)):
            assert code(merchant.call(method, subscriptionId=asked)) == "E00035"
    assert subscriber.status(number) == "active"


def test_a_subscription_is_told_as_it_was_asked_for(subscriber: Subscriber) -> None:
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


def test_the_list_searches_sorts_and_pages(subscriber: Subscriber) -> None:
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


def test_kill_9_and_downtime_lose_no_payment_and_repeat_none(
    start: Callable[..., Process], tmp_path: Path
) -> None:
    file = tmp_path / "state.jsonl"
    before = Subscriber(start("--seed", "1", "--state-file", file))
    number = before.create("2027-01-31", total=4)
    before.drive("2027-03-01T18:00:00Z")
    expected = before.payments(number), before.shop.truth()
    assert len(expected[1]) == 2
    login = before.shop.login
    before.process.kill()

    process = start("--seed", "2", "--state-file", file)
    after = Subscriber.__new__(Subscriber)
    after.process, after.shop = process, Merchant(process, login)
    assert (after.payments(number), after.shop.truth()) == expected
    after.drive("2027-05-01T18:00:00Z")
    assert [each["payNum"] for each in after.payments(number)] == [1, 2, 3, 4]
    assert after.status(number) == "expired"
    assert {row["status"] for row in after.shop.truth()} == {"settledSuccessfully"}
    other = after.create("2027-06-01")
    assert int(other) == int(number) + 1
    assert b"4111111111111111" not in file.read_bytes()


def test_what_fell_due_while_the_process_was_down_comes_at_its_own_moment(
    start: Callable[..., Process], tmp_path: Path
) -> None:
    file = tmp_path / "state.jsonl"
    before = Subscriber(start("--state-file", file))
    number = before.create("2027-01-11")
    login = before.shop.login
    before.process.kill()
    moved = '["clock",0,1802000000000]\n'  # 2027-02-06, as if it had run on meanwhile
    with file.open("a") as state:
        state.write(moved)
    process = start("--state-file", file)
    shop = Merchant(process, login)
    (row,) = shop.truth()
    assert (row["submitted_at"], row["status"]) == ("2027-01-11T10:00:00Z", "settledSuccessfully")
    batch = shop.details(row["trans_id"])["batch"]
    assert batch["settlementTimeUTC"] == "2027-01-12T00:00:00Z"
    assert shop.details(row["trans_id"])["subscription"]["id"] == int(number)


def test_a_reset_forgets_subscriptions_and_no_id_comes_twice(
    start: Callable[..., Process], tmp_path: Path
) -> None:
    file = tmp_path / "state.jsonl"
    one = Subscriber(start("--state-file", file))
    kept = Subscriber(one.process)
    number, stays = one.create("2027-01-11"), kept.create("2027-01-11")
    one.process.control("/reset", {"login": one.shop.login})
    assert one.listed("subscriptionActive") == []
    assert kept.listed("subscriptionActive") == [stays]
    one.drive("2027-01-12T18:00:00Z")
    assert (one.shop.truth(), len(kept.shop.truth())) == ([], 1)
    one.process.control("/reset")
    login = one.shop.login
    assert kept.listed("subscriptionActive") == []
    one.process.kill()
    again = Subscriber(start("--state-file", file))
    again.shop.login = login
    assert int(again.create("2027-02-01")) == int(stays) + 1 > int(number)


def test_a_clock_driven_over_centuries_answers_soon(subscriber: Subscriber) -> None:
    number = subscriber.create("2027-01-11", length=12, total=3)
    subscriber.drive("2900-01-01T00:00:00Z")
    assert subscriber.status(number) == "expired"
    assert len(subscriber.shop.truth()) == 3


def test_a_card_becomes_a_profile_that_the_payments_name(subscriber: Subscriber) -> None:
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


def stored(shop: Merchant, bill_to: dict[str, str] = JANE, **pays: Any) -> dict[str, str]:
    """A customer profile with one payment profile."""
    answer = shop.call(
        "createCustomerProfileRequest",
        profile={
            "email": f"{len(bill_to)}@shop.example",
            "paymentProfiles": {"billTo": bill_to, "payment": pays or card()},
        },
    )
    return {
        "customerProfileId": answer["customerProfileId"],
        "customerPaymentProfileId": answer["customerPaymentProfileIdList"][0],
    }


def test_a_stored_profile_pays_with_what_it_has_when_it_is_due(subscriber: Subscriber) -> None:
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
    changed = shop.call(
        "updateCustomerPaymentProfileRequest",
        customerProfileId=ids["customerProfileId"],
        paymentProfile={
            "billTo": JANE,
            "payment": card(MASTERCARD),
            "customerPaymentProfileId": ids["customerPaymentProfileId"],
        },
    )
    assert code(changed) == "I00001"
    subscriber.drive("2027-02-12T18:00:00Z")
    numbers = [
        shop.details(each["transId"])["payment"]["creditCard"]["cardNumber"]
        for each in subscriber.payments(number)
    ]
    assert numbers == ["XXXX1111", "XXXX0015"]


def test_a_profile_that_still_pays_cannot_be_deleted(subscriber: Subscriber) -> None:
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


def test_a_new_address_goes_to_the_profile(subscriber: Subscriber) -> None:
    number = subscriber.create("2027-01-11")
    assert subscriber.update(number, billTo={"lastName": "Roe"}, shipTo={"zip": "1"}) == "I00001"
    subscriber.drive("2027-01-11T18:00:00Z")
    details = subscriber.shop.details(subscriber.payments(number)[0]["transId"])
    assert details["billTo"] == {"firstName": "Jane", "lastName": "Roe"}
    assert details["shipTo"] == {"zip": "1"}
    assert subscriber.update(number, billTo={"lastName": ""}) == "E00014"
