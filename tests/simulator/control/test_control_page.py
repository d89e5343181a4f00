"""The page and the calls that it shows: masked, escaped, limited in number."""

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from authorizenet_simulator.control.masking import mask
from simulator import xml_client
from simulator.merchant_client import VISA, WIRE, Merchant, Process
from simulator.webhook_receiver import Rest, eventually

SECRETS = (VISA, "key-of-the-shop", '"987"')


def calls(shop: Merchant, query: str = "") -> list[dict[str, Any]]:
    found = shop.process.control(f"/calls?login={shop.login}{query}", method="GET")
    listed: list[dict[str, Any]] = found["calls"]
    return listed


@pytest.fixture
def shop(process: Process) -> Merchant:
    """A shop with its own process, so that the limit per second only counts its calls."""
    return process.merchant()


def test_a_call_is_shown_unchanged_except_for_secrets(shop: Merchant) -> None:
    sale = shop.charge(code="987", invoice="order-17", billTo={"address": f"card {VISA}"})
    (call,) = calls(shop)
    assert (call["method"], call["transaction_type"]) == (
        "createTransactionRequest",
        "authCaptureTransaction",
    )
    assert (call["login"], call["format"], call["http_status"]) == (shop.login, "JSON", 200)
    assert call["outcome"] == "I00001 1/1"
    assert re.fullmatch(r"127\.0\.0\.1:\d+", call["client"])
    assert 0 < call["duration_ms"] < 5000
    request = json.loads(call["request"])["createTransactionRequest"]
    assert request["merchantAuthentication"] == {"name": shop.login, "transactionKey": "***"}
    card = request["transactionRequest"]["payment"]["creditCard"]
    assert card == {"cardNumber": "XXXX1111", "expirationDate": "2040-12", "cardCode": "***"}
    assert request["transactionRequest"]["billTo"] == {"address": "card XXXX1111"}
    assert json.loads(call["reply"])["transactionResponse"]["transId"] == sale["transId"]
    assert not any(secret in json.dumps(call) for secret in SECRETS)


def test_a_call_in_xml_is_shown_masked(shop: Merchant) -> None:
    card = {"creditCard": {"cardNumber": VISA, "expirationDate": "2040-12", "cardCode": "987"}}
    request = xml_client.sale("12.50") | {"payment": card}
    root = xml_client.call(shop, "createTransactionRequest", transactionRequest=request)
    (call,) = calls(shop)
    assert (call["method"], call["transaction_type"], call["login"], call["format"]) == (
        "createTransactionRequest",
        "authCaptureTransaction",
        shop.login,
        "XML",
    )
    assert call["outcome"] == "I00001 1/1"
    assert "<cardNumber>XXXX1111</cardNumber>" in call["request"]
    assert "<cardCode>***</cardCode>" in call["request"]
    assert "<transactionKey>***</transactionKey>" in call["request"]
    assert f"<transId>{root.findtext('transactionResponse/transId')}</transId>" in call["reply"]
    assert not any(secret.strip('"') in json.dumps(call) for secret in SECRETS[:2])


def test_an_invalid_request_is_shown_masked(shop: Merchant) -> None:
    broken = (
        b'{"createTransactionRequest": {"merchantAuthentication": {"name": "'
        + shop.login.encode()
        + b'", "transactionKey": "key-of-the-shop"}, "cardNumber": '
        + VISA.encode()
        + b', "cardCode": "987"'
    )
    shop.process.client.post(WIRE, content=broken, headers={"content-type": "application/json"})
    (call,) = calls(shop)
    assert call["outcome"] == "E00001"
    assert call["request"].endswith('"cardNumber": XXXX1111, "cardCode": "***"')
    assert not any(secret in json.dumps(call) for secret in SECRETS)


def test_a_call_is_shown_with_its_fault(shop: Merchant) -> None:
    shop.fault("busy", count=1)
    shop.call("authenticateTestRequest")
    shop.fault("error_after", count=1, status=503)
    shop.post("authenticateTestRequest")
    after, busy = calls(shop)
    assert (busy["fault"], busy["outcome"], busy["http_status"]) == ("busy", "E00053", 200)
    assert (after["fault"], after["outcome"], after["http_status"]) == ("error_after", "", 503)


def test_calls_can_be_filtered(shop: Merchant) -> None:
    shop.charge(invoice="first")
    shop.call("authenticateTestRequest")
    shop.charge(invoice="second")
    shop.charge(billTo={"zip": "46282"}, invoice="third")
    assert [each["outcome"] for each in calls(shop, "&limit=2")] == ["I00001 2/2", "I00001 1/1"]
    (alive,) = calls(shop, "&method=authenticatetestrequest")
    assert alive["method"] == "authenticateTestRequest"
    (second,) = calls(shop, "&contains=second")
    assert "second" in second["request"]
    assert shop.process.control("/calls?login=nobody", method="GET")["calls"] == []


def test_the_number_of_kept_calls_is_limited(shop: Merchant) -> None:
    shop.process.control("/settings", {"recorded_calls_per_s": 100_000})
    for _ in range(250):
        shop.call("authenticateTestRequest")
    assert len(calls(shop)) == 200
    shop.process.control("/settings", {"recorded_calls_per_s": 0})
    eventually(  # in the next second
        lambda: (
            shop.call("authenticateTestRequest")
            and shop.process.control("/calls", method="GET")["not_kept"]
        )
    )
    newest = calls(shop)[0]["number"]
    shop.call("authenticateTestRequest")
    assert calls(shop)[0]["number"] == newest
    shop.process.control("/reset")
    assert calls(shop) == []


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (
            '{"cardNumber":4111111111111111,"cardCode":["987"]}',
            '{"cardNumber":XXXX1111,"cardCode":***}',
        ),
        (r'{"card\u004eumber":"\u0034111111111111111"}', '{"cardNumber":"XXXX1111"}'),
        ('{"cardCode":"9\\"87","x":1}', '{"cardCode":"***","x":1}'),
        ('{"cardCode":"987', '{"cardCode":"***"'),
        ('{"token":{"cardNumber":"4111111111111111"}}', '{"token":{"cardNumber":"XXXX1111"}}'),
        ("<cardCode><![CDATA[987]]></cardCode>", "<cardCode>***</cardCode>"),
        (
            "<a:cardNumber x='1'>4111&#49;11111111111</a:cardNumber>",
            "<a:cardNumber x='1'>XXXX1111</a:cardNumber>",
        ),
        ("<cardCode/><cardNumber>41111", "<cardCode/><cardNumber>***"),
        (
            "<transactionKey>secret</transactionKey><refId>1</refId>",
            "<transactionKey>***</transactionKey><refId>1</refId>",
        ),
        ('{"x":"note 4111 1111-1111 1111."}', '{"x":"note XXXX1111."}'),
        ('{"x":"4111111111111111 987"}', '{"x":"XXXX"}'),
        ('{"x":"00004111111111111111"}', '{"x":"XXXX"}'),
        ('{"cvv":"987", "card_code": 987}', '{"cvv":"***", "card_code": ***}'),
        (
            '{"accountNumber":"XXXX1111","transId":"66417696055"}',
            '{"accountNumber":"XXXX1111","transId":"66417696055"}',
        ),
    ],
)
def test_secrets_and_card_numbers_are_masked(sent: str, kept: str) -> None:
    assert mask(sent.encode()) == kept
    assert mask(sent.encode("utf-16")) == kept


def test_a_long_body_is_cut_without_part_of_a_number() -> None:
    for before in range(65_510, 65_540):
        kept = mask(b"<" + b"x" * before + VISA.encode())
        assert len(kept) <= 65_537
        assert re.search("[0-9]{5}", kept) is None


def test_a_body_that_is_no_json_or_xml_is_not_kept() -> None:
    kept = mask(b"x_card_num=4111111111111111&x_card_code=987")
    assert kept == "(43 bytes that are neither JSON nor XML are not kept)"


class Markup(HTMLParser):
    """Collects what a page loads, and what its markup would run."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href", "action", "srcset"):
                self.loads.append(value or "")
            if name.startswith("on") or name == "style":
                self.handlers.append(name)


def test_the_page_never_runs_text_of_a_client(shop: Merchant) -> None:
    attack = "<img src=x onerror=alert(1)>"
    shop.charge(invoice=attack[:20], billTo={"address": "</script><script>alert(1)</script>"})
    reply = shop.process.client.get("/simulator")
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    page = reply.text
    # The page contains no data; it fetches JSON, which browsers do not render as markup...
    assert shop.login not in page
    assert "alert" not in page
    listed = shop.process.client.get("/simulator/calls")
    assert listed.headers["content-type"].startswith("application/json")
    assert listed.headers["x-content-type-options"] == "nosniff"
    assert "<script>alert(1)" in listed.json()["calls"][0]["request"]
    # ... and inserts it as text: it uses no function that parses text as markup,
    parsers = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write")
    for way in (*parsers, "eval(", "Function("):
        assert way not in page
    # and if it did, the policy lets only the page's own script run.
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/=]{44}';", policy)


def test_the_page_needs_no_network(shop: Merchant) -> None:
    markup = Markup()
    markup.feed(shop.process.client.get("/simulator/").text)
    assert markup.loads == ["data:,"]
    assert markup.handlers == []


def test_notifications_of_every_account_are_listed(shop: Merchant) -> None:
    assert shop.process.control("/notifications", method="GET") == []
    account = {"login": shop.login, "transaction_key": "key-of-the-shop", "signature_key": "AB"}
    shop.process.control("/accounts", account)
    url, sold = "http://127.0.0.1:1/", "net.authorize.payment.authcapture.created"
    Rest(shop).listen(url, sold)
    sale = shop.charge()
    (told,) = shop.process.control(f"/notifications?login={shop.login}", method="GET")
    assert (told["event_type"], told["payload"]["id"]) == (sold, sale["transId"])
    assert told["url"] == url
