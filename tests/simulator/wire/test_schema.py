"""Every message of the schema, valid and with every single mistake, on a real process.

The first error of most integrations is E00003: the simulator must raise it for the same mistakes,
with the same text, and never for a valid request.
"""

import re
import socket
from collections.abc import Iterable, Iterator
from itertools import islice, product
from typing import Any

import msgspec
import pytest

from simulator.merchant_client import VISA, WIRE, Merchant, Process
from simulator.parts import bank
from simulator.schema_source import REQUESTS
from simulator.spoiled_requests import elements, hostile, spoiled, whole

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_AT_ONCE = 64


class Line:
    """A connection with pipelined requests."""

    def __init__(self, process: Process) -> None:
        host, port = process.url.removeprefix("http://").split(":")
        self._socket = socket.create_connection((host, int(port)), timeout=10)
        self._answers = self._socket.makefile("rb")

    def send(self, requests: Iterable[bytes]) -> Iterator[dict[str, Any]]:
        """Yield the message of each reply, in order."""
        pending = iter(requests)
        while some := list(islice(pending, _AT_ONCE)):
            self._socket.sendall(b"".join(map(_http, some)))
            for _ in some:
                yield self._read()

    def _read(self) -> dict[str, Any]:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self._answers.readline()
            assert line, "the connection ended"
            head += line
        assert head.startswith(b"HTTP/1.1 200 "), head
        length = _LENGTH.search(head)
        assert length is not None
        body = self._answers.read(int(length[1]))
        message: dict[str, Any] = _decode(body[3:])["messages"]["message"][0]
        return message

    def close(self) -> None:
        self._answers.close()
        self._socket.close()


def _http(body: bytes) -> bytes:
    head = f"POST {WIRE} HTTP/1.1\r\nHost: s\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.fixture
def line(shared: Process) -> Iterator[Line]:
    opened = Line(shared)
    yield opened
    opened.close()


def test_the_schema_has_all_messages_of_clients() -> None:
    assert len(REQUESTS) == 47
    assert {"createTransactionRequest", "getTransactionDetailsRequest"} <= set(REQUESTS)


TYPES = (
    "authCaptureTransaction",
    "authOnlyTransaction",
    "captureOnlyTransaction",
    "priorAuthCaptureTransaction",
    "refundTransaction",
    "voidTransaction",
    "authOnlyContinueTransaction",
    "authCaptureContinueTransaction",
    "getDetailsTransaction",
)


def test_a_valid_message_passes_validation(line: Line, shop: Merchant) -> None:
    """The credentials are valid, so that each method handles every allowed element."""
    shop.settings(paypal=True)
    requests = []
    for method, optional, pick in product(REQUESTS, (True, False), range(7)):
        body = whole(elements(method), optional=optional, pick=pick)
        if "merchantAuthentication" in body:
            body["merchantAuthentication"] = shop.credentials
        requests.append({method: body})
        if method == "createTransactionRequest":
            inner = body["transactionRequest"]
            requests += [
                {method: {**body, "transactionRequest": {**inner, "transactionType": kind}}}
                for kind in TYPES
            ]
    refused = [
        (request, message["text"])
        for request, message in zip(requests, line.send(map(_encode, requests)), strict=True)
        if message["code"] == "E00003"
    ]
    assert refused == []


def test_every_single_mistake_in_every_message_is_reported(line: Line) -> None:
    cases = [(method, case) for method in REQUESTS for case in spoiled(method)]
    messages = line.send(_encode({method: case.body}) for method, case in cases)
    silent = [
        f"{method}, {case.what}: {message['code']} {message['text']}"
        for (method, case), message in zip(cases, messages, strict=True)
        if message["code"] != "E00003" or not all(said in message["text"] for said in case.says)
    ]
    assert silent == []
    assert len(cases) > 8000  # a type that is not read any more would remove many


def test_no_text_in_any_element_breaks_a_charge(line: Line, shop: Merchant) -> None:
    """Whatever a customer types into a field, the reply is HTTP 200, which `send` asserts.
    The request is valid, so that every part of it is processed and reported."""
    payments: list[dict[str, Any]] = [
        {"creditCard": {"cardNumber": VISA, "expirationDate": "2040-12", "cardCode": "900"}},
        bank(accountType="checking", echeckType="WEB", bankName="Bank", checkNumber="1"),
        {"trackData": {"track1": "%B4111111111111111^DOE/JANE^40121011000000000000?"}},
        {"payPal": {"successUrl": "https://a.example", "cancelUrl": "https://a.example"}},
    ]
    shop.settings(paypal=True, required_fields=["zip"], echeck_monthly_limit="99999999.00")
    bodies = []
    for payment in payments:
        inner = {**whole(elements("createTransactionRequest"))["transactionRequest"]}
        for name in ("profile", "refTransId", "splitTenderId", "retail", "authCode"):
            del inner[name]
        proof = {"authenticationIndicator": "05", "cardholderAuthenticationValue": "AAAA"}
        window = [{"settingName": "duplicateWindow", "settingValue": "0"}]
        inner |= {
            "transactionType": "authCaptureTransaction",
            "amount": "1.00",
            "currencyCode": "USD",
            "payment": payment,
            "cardholderAuthentication": proof,
            "transactionSettings": {"setting": window},
        }
        request = {"merchantAuthentication": shop.credentials, "transactionRequest": inner}
        everything = payment is payments[0]
        body = {"createTransactionRequest": request}
        bodies += hostile(body) if everything else hostile(body, payment)
    codes = [message["code"] for message in line.send(bodies)]
    assert len(codes) > 1000
    assert codes.count("I00001") > len(codes) / 2
    pages = ({"paging": {"limit": 1000, "offset": page}} for page in range(1, 6))
    listed = [
        each["transId"]
        for page in pages
        for each in shop.call("getUnsettledTransactionListRequest", **page).get("transactions", [])
    ]
    details = [
        {
            "getTransactionDetailsRequest": {
                "merchantAuthentication": shop.credentials,
                "transId": trans_id,
            }
        }
        for trans_id in listed
    ]
    told = list(line.send(_encode(each) for each in details))
    assert len(told) > 500
    assert {message["code"] for message in told} == {"I00001"}


def test_no_text_in_any_element_breaks_another_message(line: Line, shop: Merchant) -> None:
    bodies: list[bytes] = []
    for method in REQUESTS:
        body = whole(elements(method))
        if "merchantAuthentication" in body and method != "createTransactionRequest":
            body["merchantAuthentication"] = shop.credentials
            bodies += hostile({method: body})
    codes = {message["code"] for message in line.send(bodies)}
    assert len(bodies) > 5000
    assert {"E00003", "E00040"} < codes
