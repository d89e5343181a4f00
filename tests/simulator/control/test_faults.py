"""Faults of API calls: throttling, maintenance, slow and wrong replies."""

import json
import time
from typing import Any

import httpx
import pytest

from simulator import xml_client
from simulator.customers import code
from simulator.merchant_client import WIRE, Merchant, card_sale
from simulator.webhook_receiver import eventually

ALIVE = "authenticateTestRequest"


def test_a_throttle_counts_each_method_separately(shop: Merchant) -> None:
    number = shop.fault("throttle", rate=3)
    answers = [code(shop.call(ALIVE)) for _ in range(6)]
    assert answers[:3] == ["I00001"] * 3
    assert "E00053" in answers[3:]
    assert shop.charge()["responseCode"] == "1"  # other methods are counted separately
    shop.process.control(f"/faults/{number}", method="DELETE")
    assert [code(shop.call(ALIVE)) for _ in range(6)] == ["I00001"] * 6


def test_a_throttled_sale_is_not_made_and_can_be_repeated(shop: Merchant) -> None:
    shop.fault("throttle", rate=1, transaction_type="authCaptureTransaction")
    assert shop.charge()["responseCode"] == "1"
    request = card_sale("3.00")
    assert code(shop.transaction(**request)) == "E00053"
    assert len(shop.truth()) == 1
    eventually(lambda: code(shop.transaction(**request)) != "E00053")
    assert len(shop.truth()) == 2


def test_during_maintenance_nothing_is_executed(shop: Merchant) -> None:
    shop.fault("maintenance", count=1, method="createTransactionRequest")
    assert code(shop.call(ALIVE)) == "I00001"
    request = {"transactionType": "voidTransaction", "refTransId": "1"}
    assert code(shop.transaction(**request)) == "E00104"
    assert shop.charge()["responseCode"] == "1"


def test_a_slow_body_is_complete_in_the_end(shop: Merchant) -> None:
    shop.fault("slow_body", count=2, step_bytes=40, delay_ms=15)
    begun = time.monotonic()
    assert shop.charge()["responseCode"] == "1"
    assert time.monotonic() - begun > 0.1
    # A client with a time-out per read gets the whole body; one with a total time-out
    # disconnects, and the charge stands.
    body = {"merchantAuthentication": shop.credentials, "transactionRequest": card_sale("4.00")}
    with (
        httpx.Client(base_url=shop.process.url) as client,
        client.stream("POST", WIRE, json={"createTransactionRequest": body}) as reply,
    ):
        first = next(reply.iter_raw())
        assert 0 < len(first) < int(reply.headers["content-length"])
    assert len(shop.truth()) == 2


def test_a_wrong_content_type_does_not_change_the_reply(shop: Merchant) -> None:
    shop.fault("wrong_content_type", count=1, content_type="text/html")
    reply = shop.post("createTransactionRequest", transactionRequest=card_sale())
    assert (reply.status_code, reply.headers["content-type"]) == (200, "text/html")
    answer = json.loads(reply.content.decode("utf-8-sig"))
    assert answer["transactionResponse"]["responseCode"] == "1"


@pytest.mark.parametrize("status", [200, 403, 503])
def test_a_page_of_the_cdn_means_that_nothing_was_executed(shop: Merchant, status: int) -> None:
    shop.fault("html", count=1, status=status)
    reply = shop.post("createTransactionRequest", transactionRequest=card_sale())
    assert reply.status_code == status
    assert reply.headers["content-type"].startswith("text/html")
    assert reply.text.startswith("<!DOCTYPE html>")
    assert shop.truth() == []


def test_faults_of_notifications_do_not_affect_calls(shop: Merchant) -> None:
    shop.fault("webhook_lose", count=1)
    assert shop.charge()["responseCode"] == "1"
    (fault,) = shop.process.control("/faults", method="GET")
    assert fault["count"] == 1


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"kind": "busy"}, "E00053"),
        ({"kind": "maintenance"}, "E00104"),
        ({"kind": "throttle", "rate": 0.001}, "E00053"),
    ],
)
def test_a_rejection_has_the_format_of_the_request(
    shop: Merchant, fault: dict[str, Any], expected: str
) -> None:
    shop.fault(**fault)
    if fault["kind"] == "throttle":
        xml_client.call(shop, ALIVE)  # the one call that the throttle allows
    assert code(shop.call(ALIVE)) == expected
    root = xml_client.call(shop, ALIVE)
    assert (root.tag, xml_client.error(root)[0]) == ("ErrorResponse", expected)


def test_a_wrong_content_type_does_not_change_a_reply_in_xml(shop: Merchant) -> None:
    shop.fault("wrong_content_type", count=1)
    shop.fault("slow_body", count=1, step_bytes=100)
    body = xml_client.document(ALIVE, {"merchantAuthentication": shop.credentials})
    for kind in ("text/plain", "text/xml; charset=utf-8"):
        reply = shop.process.client.post(WIRE, content=body, headers={"content-type": "text/xml"})
        assert reply.headers["content-type"] == kind
        assert xml_client.parse(reply.content).findtext("messages/resultCode") == "Ok"
