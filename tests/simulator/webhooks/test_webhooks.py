"""Webhooks: events, signatures, retries, and the webhooks API."""

import queue
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from authorizenet_simulator.state.webhooks import (
    MOST_KEPT,
    Attempted,
    Notification,
    Notified,
    Webhooks,
    WebhookSet,
)
from authorizenet_simulator.webhooks.deliveries import signature
from simulator.durable import Durable
from simulator.merchant_client import VISA, Merchant, Process, card_sale
from simulator.parts import review, setting
from simulator.webhook_receiver import EVERYTHING, SIGNATURE_KEY, Receiver, Rest, Told, eventually

SALE = "net.authorize.payment.authcapture.created"


def test_the_signature_matches_that_of_a_real_notification() -> None:
    key = (
        "52CB4A002C634B84E397DC8A218E1A160BA7CAB7CBE4C05B35E9CBB05E14FE4A2385812E980CCF97D177F17863CE"
        "214D1BE6CE8E1E894487AACF3609C1A5FE17"
    )
    body = (
        b'{"notificationId":"182cbbff-cab2-4080-931d-80e5d818f23a","eventType":"net.authorize.paymen'
        b't.authcapture.created","eventDate":"2017-08-18T20:40:52.7722007Z","webhookId":"849eb87e-07'
        b'8a-4169-a34b-c0bded5019a8","payload":{"responseCode":0,"authCode":"Z3PV5H","avsResponse":"'
        b'Y","authAmount":0.0,"entityName":"transaction","id":"40005915599"}}'
    )
    assert signature(key, body) == (
        "A1E0CC0F8A7B6274E0951CAC5EB63579F70FC6B7B15384B146DCE02B98DEE395"
        "4A5A8E331661B51DE953E141E88994DFA7D267FFB8428BE0660511B6EFB94960"
    )


def test_a_sale_sends_a_signed_notification(shop: Merchant, rest: Rest, receiver: Receiver) -> None:
    webhook = rest.listen(receiver.url, SALE)
    sale = shop.charge("12.50", invoice="order-17")
    told = receiver.next()
    assert told.is_signed
    assert told.path == "/notifications?from=anet"
    assert told.headers["Content-Type"].startswith("application/json")
    assert re.fullmatch("[0-9a-f-]{36}", told.headers["X-Request-Id"])
    assert list(told.envelope) == [
        "notificationId",
        "eventType",
        "eventDate",
        "webhookId",
        "payload",
    ]
    assert told.envelope["webhookId"] == webhook
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z", told.envelope["eventDate"])
    assert told.payload == {
        "responseCode": 1,
        "invoiceNumber": "order-17",
        "authCode": sale["authCode"],
        "avsResponse": "Y",
        "authAmount": 12.5,
        "entityName": "transaction",
        "id": sale["transId"],
    }


def test_every_step_of_a_payment_sends_one_notification(
    shop: Merchant, rest: Rest, receiver: Receiver
) -> None:
    rest.listen(receiver.url)
    shop.settings(held_above="900.00")
    told: list[tuple[str, str]] = []

    def expect(*steps: tuple[str, str]) -> None:
        arrived = [receiver.next() for _ in steps]
        assert sorted((each.event, each.payload["id"]) for each in arrived) == sorted(steps)
        told.extend(steps)

    authorized = shop.authorize("10.00")["transId"]
    expect(("payment.authorization.created", authorized))
    shop.capture(authorized, amount="7.00")
    expect(("payment.priorAuthCapture.created", authorized))
    elsewhere = shop.charge(kind="captureOnlyTransaction", authCode="ABC123")["transId"]
    expect(("payment.capture.created", elsewhere))
    shop.void(elsewhere)
    expect(("payment.void.created", elsewhere))
    shop.process.control("/settle")
    refund = shop.refund(authorized, "3.00")["transId"]
    expect(("payment.refund.created", refund))
    held, lost = shop.charge("901.00")["transId"], shop.charge("902.00")["transId"]
    expect(("payment.fraud.held", held), ("payment.fraud.held", lost))
    review(shop, "approve", held)
    review(shop, "decline", lost)
    expect(("payment.fraud.approved", held), ("payment.fraud.declined", lost))
    # Declines, errors, repeated captures, tests and settlement send no notification.
    shop.charge(billTo={"zip": "46282"})
    shop.charge(number="4111111111111112")
    shop.capture(authorized)
    shop.charge(**setting("testRequest", "1"))
    shop.process.control("/settle")
    last = shop.charge()["transId"]
    expect(("payment.authcapture.created", last))
    assert len(rest.notifications()) == len(told)


def test_a_held_payment_sends_notifications(shop: Merchant, rest: Rest, receiver: Receiver) -> None:
    rest.listen(receiver.url, "net.authorize.payment.fraud.held")
    shop.settings(held_above="900.00")
    shop.charge("899.00")
    request = {"refId": "order-18", "transactionRequest": card_sale("950.00")}
    held = shop.call("createTransactionRequest", **request)["transactionResponse"]
    payload = receiver.next().payload
    assert payload["responseCode"] == 4
    assert payload["merchantReferenceId"] == "order-18"
    assert payload["authAmount"] == 950
    assert payload["fraudList"] == [{"fraudFilter": "AmountFilter", "fraudAction": "authAndHold"}]
    assert (payload["entityName"], payload["id"]) == ("transaction", held["transId"])


def test_webhooks_are_changed_and_deleted(shop: Merchant, rest: Rest, receiver: Receiver) -> None:
    assert sorted(each["name"] for each in rest.ask("GET", "eventtypes")) == sorted(EVERYTHING)
    assert rest.ask("GET", "webhooks") == []
    body = {"name": "mine", "url": receiver.url, "eventTypes": [SALE], "status": "inactive"}
    made = rest.ask("POST", "webhooks", body)
    number = made["webhookId"]
    assert made == {
        "_links": {"self": {"href": f"/rest/v1/webhooks/{number}"}},
        "webhookId": number,
        "eventTypes": [SALE],
        "status": "inactive",
        "url": receiver.url,
        "name": "mine",
    }
    assert rest.ask("GET", "webhooks") == [made]
    shop.charge()
    assert rest.notifications() == []
    rest.ask("POST", f"webhooks/{number}/pings")
    ping = receiver.next()
    assert ping.is_signed
    assert (ping.event, ping.payload["responseCode"]) == ("payment.authcapture.created", 0)
    receiver.answers.append(503)
    error = rest.ask("POST", f"webhooks/{number}/pings", status=500)
    assert "503" in error["message"]
    receiver.next()
    changed = rest.ask("PUT", f"webhooks/{number}", {"status": "active"})
    assert changed == made | {"status": "active"}
    rest.ask("POST", f"webhooks/{number}/pings", status=400)
    shop.charge()
    assert receiver.next().envelope["webhookId"] == number
    deleted = rest.raw("DELETE", f"webhooks/{number}")
    assert (deleted.status_code, deleted.content) == (200, b"")
    rest.ask("GET", f"webhooks/{number}", status=404)
    shop.charge()
    assert len(rest.notifications()) == 1


def test_invalid_webhooks_are_rejected(shop: Merchant, rest: Rest) -> None:
    good = {"url": "http://127.0.0.1:1/", "eventTypes": [SALE]}
    for bad in (
        {"url": "ftp://example.test/"},
        {"url": "http://"},
        {"url": "http://a b/"},
        {"url": "http://a:99999/"},
        {"eventTypes": []},
        {"eventTypes": ["net.authorize.payment.settled"]},
        {"status": "asleep"},
        {"url": 7},
    ):
        error = rest.ask("POST", "webhooks", good | bad, status=400)
        assert (error["status"], error["reason"]) == (400, "INVALID_DATA")
        assert error["message"]
        assert re.fullmatch("[0-9a-f-]{36}", error["correlationId"])
    assert rest.ask("GET", "webhooks") == []
    rest.ask("GET", "nothing", status=404)
    rest.ask("DELETE", "webhooks", status=405)
    unsigned = Rest(shop.process.merchant())
    assert "signature key" in unsigned.ask("POST", "webhooks", good, status=400)["message"]


def test_only_the_account_itself_sees_its_webhooks(shop: Merchant, rest: Rest) -> None:
    number = rest.listen("http://127.0.0.1:1/")
    for auth in (None, (shop.login, "wrong"), ("nobody", "key-of-the-shop")):
        reply = rest.client.get("/rest/v1/webhooks", auth=auth)
        assert reply.status_code == 401
        assert set(reply.json()) == {"status", "reason", "message", "correlationId"}
    other = Rest(shop.process.merchant(signature_key=SIGNATURE_KEY))
    assert other.ask("GET", "webhooks") == []
    for method in ("GET", "PUT", "DELETE"):
        other.ask(method, f"webhooks/{number}", {}, status=404)
    shop.charge()
    (notification,) = rest.notifications()
    other.ask("GET", f"notifications/{notification['notificationId']}", status=404)
    assert other.notifications() == []


def test_a_failed_delivery_is_retried_until_it_succeeds(
    shop: Merchant, rest: Rest, receiver: Receiver
) -> None:
    shop.settings(webhook_retry_s=[0.0, 0.0, 3600.0])
    rest.listen(receiver.url)
    receiver.answers += [500, 204]  # only a 200 counts as delivered
    shop.charge()
    arrived = [receiver.next() for _ in range(3)]
    assert len({each.body for each in arrived}) == 1
    assert len({each.headers["X-Request-Id"] for each in arrived}) == 3
    (listed,) = eventually(lambda: rest.notifications("?deliveryStatus=Delivered"))
    found = rest.ask("GET", f"notifications/{listed['notificationId']}")
    assert found["payload"] == arrived[0].payload
    assert found["httpStatus"] == 200
    assert [each["httpStatus"] for each in found["retryLog"]] == [500, 204, 200]


def test_retries_follow_the_clock(process: Process, receiver: Receiver) -> None:
    process.control("/clock", {"now": "2026-07-01T12:00:00Z", "stopped": True})
    shop = process.merchant(signature_key=SIGNATURE_KEY)
    rest = Rest(shop)
    webhook = rest.listen(receiver.url)
    receiver.answers += [500] * 11
    shop.charge()
    assert receiver.next().envelope["eventDate"] == "2026-07-01T12:00:00.0000000Z"
    waits_s = [180] * 3 + [8 * 3600] * 3 + [48 * 3600] * 4
    for tried, wait_s in enumerate(waits_s, 1):
        eventually(
            lambda tried=tried: (
                process.control("/notifications", method="GET")[0]["attempts"] == tried
            )
        )
        process.control("/clock", {"advance_s": wait_s - 1})
        assert receiver.told.empty()
        assert rest.status(webhook) == "active"
        process.control("/clock", {"advance_s": 1})
        receiver.next()
    eventually(lambda: rest.status(webhook) == "inactive")
    (failed,) = rest.notifications("?deliveryStatus=Failed")
    assert len(rest.ask("GET", f"notifications/{failed['notificationId']}")["retryLog"]) == 11
    shop.charge()
    assert len(rest.notifications()) == 1  # the webhook is inactive
    rest.ask("PUT", f"webhooks/{webhook}", {"status": "active"})
    shop.charge()
    assert receiver.next().event == "payment.authcapture.created"


def test_a_hanging_endpoint_does_not_delay_others(
    shop: Merchant, rest: Rest, receiver: Receiver
) -> None:
    stuck = Receiver()
    stuck.hanging.set()
    try:
        rest.listen(stuck.url)
        rest.listen(receiver.url)
        sent = {shop.charge()["transId"] for _ in range(40)}
        assert {receiver.next().payload["id"] for _ in range(40)} == sent
        assert stuck.told.qsize() <= 8
    finally:
        stuck.close()


def test_a_timeout_and_an_unreachable_server_are_logged(
    shop: Merchant, rest: Rest, receiver: Receiver
) -> None:
    shop.settings(webhook_timeout_s=0.05, webhook_retry_s=[3600.0])
    receiver.hanging.set()
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    for url in (receiver.url, f"http://127.0.0.1:{port}/"):
        rest.listen(url)
    shop.charge()

    def first_attempts() -> list[Any]:
        numbers = [each["notificationId"] for each in rest.notifications()]
        logs = [rest.ask("GET", f"notifications/{number}")["retryLog"] for number in numbers]
        return [log[0] for log in logs] if all(logs) else []

    logged = eventually(first_attempts)
    assert [each["httpStatus"] for each in logged] == [0, 0]
    assert any("no answer within 0.05 s" in each["message"] for each in logged)
    assert any("refused" in each["message"].lower() for each in logged)


def test_a_certificate_is_verified(
    start: Callable[..., Process],
    shop: Merchant,
    rest: Rest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    authority = trustme.CA()
    chain = tmp_path / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(chain))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    receiver = Receiver(chain)
    try:
        number = rest.listen(receiver.url, status="inactive")
        error = rest.ask("POST", f"webhooks/{number}/pings", status=500)
        assert "certificate" in error["message"]
        assert receiver.told.empty()
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        trusting = start().merchant(signature_key=SIGNATURE_KEY)
        Rest(trusting).listen(receiver.url)
        trusting.charge()
        assert receiver.next().is_signed
    finally:
        receiver.close()


def test_undelivered_notifications_survive_a_kill(durable: Durable, receiver: Receiver) -> None:
    shop = durable.merchant(signature_key=SIGNATURE_KEY)
    rest = Rest(shop)
    webhook = rest.listen(receiver.url)
    first = shop.charge()["transId"]
    assert receiver.next().payload["id"] == first
    eventually(lambda: rest.notifications("?deliveryStatus=Delivered"))
    receiver.hanging.set()
    sent = {shop.charge(f"{n}.00", invoice=VISA)["transId"] for n in range(1, 21)}
    receiver.next()  # in flight, not answered
    durable.process.kill()
    receiver.hanging.clear()
    assert VISA not in durable.file.read_text()
    while not receiver.told.empty():
        receiver.told.get()

    process = durable.restart()
    rest = Rest(shop)
    assert rest.status(webhook) == "active"
    arrived: list[Told] = [receiver.next() for _ in range(20)]
    assert {each.payload["id"] for each in arrived} == sent
    assert all(each.is_signed for each in arrived)
    eventually(lambda: len(rest.notifications("?deliveryStatus=Delivered")) == 21)
    with pytest.raises(queue.Empty):
        receiver.next(0.05)  # a delivered notification is not repeated

    process.control("/reset")
    assert rest.notifications() == []
    durable.restart()
    assert Rest(shop).notifications() == []
    assert Rest(shop).status(webhook) == "active"


def test_notifications_can_be_paged_and_filtered(shop: Merchant, rest: Rest) -> None:
    rest.listen("http://127.0.0.1:1/", SALE)
    ids = []
    for _ in range(5):
        shop.charge()
        ids.append(rest.notifications()[0]["notificationId"])
    page = [each["notificationId"] for each in rest.notifications("?offset=1&limit=2")]
    assert page == ids[::-1][1:3]
    assert rest.notifications("?deliveryStatus=Delivered") == []
    assert len(rest.notifications("?deliveryStatus=RetryPending")) == 5
    assert rest.notifications("?from_date=2999-01-01") == []
    assert len(rest.notifications("?from_date=2020-01-01&to_date=2999-01-01T00:00:00Z")) == 5
    for bad in ("offset=-1", "limit=many", "from_date=yesterday"):
        rest.ask("GET", f"notifications?{bad}", status=400)


def test_an_unreachable_endpoint_uses_bounded_memory() -> None:
    """A load test with an unreachable webhook must not exhaust memory."""
    store = Webhooks()
    store.apply(WebhookSet("w", "shop", "", "http://127.0.0.1:1/", [SALE], True))
    for number in range(3 * MOST_KEPT):
        store.apply(Notified(f"n{number}", "w", SALE, number, "{}"))
        store.apply(Attempted(f"n{number}", number, 0, "refused", 10**15))
    assert len(store.history["shop"]) == MOST_KEPT
    assert next(iter(store.history["shop"])) == f"n{2 * MOST_KEPT}"
    webhook = store.webhooks["w"]
    assert len(webhook.queue) <= 2 * MOST_KEPT
    assert store.next_due(webhook, 10**14) == 10**15
    found = store.next_due(webhook, 10**15)
    assert isinstance(found, Notification)
    assert found.event.notification_id == f"n{2 * MOST_KEPT}"
