"""Faults of notifications: duplicated, reordered, lost, delayed."""

import time

from simulator.merchant_client import Merchant
from simulator.webhook_receiver import Receiver, Rest, eventually

SALE = "net.authorize.payment.authcapture.created"


def test_a_notification_can_be_duplicated(shop: Merchant, rest: Rest, receiver: Receiver) -> None:
    rest.listen(receiver.url)
    shop.fault("webhook_duplicate", count=1, event_type=SALE)
    shop.authorize()
    shop.charge()
    shop.charge()
    arrived = [receiver.next().envelope["notificationId"] for _ in range(4)]
    assert len(set(arrived)) == 3
    assert len(rest.notifications()) == 3


def test_notifications_can_be_reordered(shop: Merchant, rest: Rest, receiver: Receiver) -> None:
    rest.listen(receiver.url)
    shop.fault("webhook_reorder", count=3)
    sent = [shop.charge()["transId"] for _ in range(2)]
    assert receiver.told.empty()
    sent.append(shop.charge()["transId"])
    assert [receiver.next().payload["id"] for _ in range(3)] == sent[::-1]
    number = shop.fault("webhook_reorder", count=3)
    sent = [shop.charge()["transId"] for _ in range(2)]
    shop.process.control(f"/faults/{number}", method="DELETE")  # before the count of three
    assert [receiver.next().payload["id"] for _ in range(2)] == sent[::-1]


def test_a_notification_can_be_lost(shop: Merchant, rest: Rest, receiver: Receiver) -> None:
    rest.listen(receiver.url)
    shop.fault("webhook_lose", count=1, transaction_type="authCaptureTransaction")
    authorized = shop.authorize()["transId"]
    lost, last = shop.charge()["transId"], shop.charge()["transId"]
    assert {receiver.next().payload["id"] for _ in range(2)} == {authorized, last}
    delivered = eventually(
        lambda: len(found := rest.notifications("?deliveryStatus=Delivered")) == 3 and found
    )
    told = [rest.ask("GET", f"notifications/{each['notificationId']}") for each in delivered]
    (quiet,) = [each for each in told if each["payload"]["id"] == lost]
    assert quiet["retryLog"][0]["message"] == "lost by a fault"


def test_a_notification_can_be_delayed(shop: Merchant, rest: Rest, receiver: Receiver) -> None:
    rest.listen(receiver.url)
    shop.fault("webhook_delay", count=1, delay_ms=200)
    begun = time.monotonic()
    late, prompt = shop.charge()["transId"], shop.charge()["transId"]
    assert [receiver.next().payload["id"] for _ in range(2)] == [prompt, late]
    assert time.monotonic() - begun >= 0.2
