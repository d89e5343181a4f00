"""Notifications of subscriptions as the clock advances."""

import pytest

from simulator.merchant_client import card
from simulator.subscriber import Subscriber
from simulator.webhook_receiver import SIGNATURE_KEY, Receiver, Rest, Told


@pytest.fixture
def listening(subscriber: Subscriber, receiver: Receiver) -> Subscriber:
    account = {"login": subscriber.shop.login, "transaction_key": "key-of-the-shop"}
    subscriber.process.control("/accounts", account | {"signature_key": SIGNATURE_KEY})
    types = [each["name"] for each in Rest(subscriber.shop).ask("GET", "eventtypes")]
    told = [name for name in types if ".subscription." in name or ".payment." in name]
    Rest(subscriber.shop).listen(receiver.url, *told)
    return subscriber


def arrived(receiver: Receiver, count: int) -> dict[str, Told]:
    """Receive `count` notifications; return them by event type without the common prefix."""
    told = [receiver.next() for _ in range(count)]
    assert receiver.told.empty()
    assert all(each.is_signed for each in told)
    return {each.event.removeprefix("customer."): each for each in told}


def test_all_payments_of_a_subscription_notify(listening: Subscriber, receiver: Receiver) -> None:
    number = listening.create("2027-01-11", total=3, name="Gold")
    (made,) = arrived(receiver, 1).values()
    assert made.event == "customer.subscription.created"
    assert made.payload["entityName"] == "subscription"
    assert (made.payload["id"], made.payload["name"]) == (number, "Gold")
    assert (made.payload["amount"], made.payload["status"]) == (10, "active")
    assert set(made.payload["profile"]) == {"customerProfileId", "customerPaymentProfileId"}
    listening.drive("2027-01-11T10:00:00Z")
    paid = arrived(receiver, 1)["payment.authcapture.created"]
    assert paid.payload["id"] == listening.payments(number)[0]["transId"]
    assert paid.payload["invoiceNumber"] == "sub-1"
    listening.drive("2027-02-11T10:00:00Z")
    assert set(arrived(receiver, 2)) == {"payment.authcapture.created", "subscription.expiring"}
    listening.drive("2027-03-11T18:00:00Z")
    told = arrived(receiver, 2)
    assert set(told) == {"payment.authcapture.created", "subscription.expired"}
    assert told["subscription.expired"].payload["status"] == "expired"


def test_an_expired_card_sends_notifications(listening: Subscriber, receiver: Receiver) -> None:
    number = listening.create("2027-01-11", payment=card(expiry="2027-01"))
    arrived(receiver, 1)
    listening.drive("2027-01-11T10:00:00Z")
    arrived(receiver, 1)
    listening.drive("2027-02-11T10:00:00Z")
    told = arrived(receiver, 2)
    assert set(told) == {"subscription.failed", "subscription.suspended"}
    assert told["subscription.suspended"].payload["id"] == number
    assert listening.update(number, payment=card(expiry="2027-02")) == "I00001"
    assert arrived(receiver, 1)["subscription.updated"].payload["status"] == "active"
    listening.drive("2027-03-11T10:00:00Z")
    arrived(receiver, 2)
    listening.drive("2027-04-11T10:00:00Z")
    assert arrived(receiver, 1)["subscription.terminated"].payload["status"] == "terminated"


def test_a_cancellation_sends_one_notification(listening: Subscriber, receiver: Receiver) -> None:
    number = listening.create("2027-01-11")
    arrived(receiver, 1)
    assert [listening.cancel(number) for _ in range(2)] == ["I00001", "I00002"]
    cancelled = arrived(receiver, 1)["subscription.cancelled"]
    assert cancelled.payload["status"] == "canceled"
