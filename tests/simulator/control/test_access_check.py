"""Web pages of other origins cannot use the control API; invalid requests change nothing."""

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

from simulator.merchant_client import WIRE, Merchant, Process, reason

FOREIGN: list[dict[str, str]] = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:1"},
    {"Origin": "https://127.0.0.1.evil.example"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Host": "evil.example"},
    {"Host": "evil.example:9000"},
    {"Host": "localhost.evil.example"},
    {"Host": "127.0.0.1.evil.example"},
    {"Host": "127.0.0.1@evil.example"},
    {"Host": "2130706433"},
    {"Host": "[::1].evil.example"},
    {"Host": "evil.example", "Origin": "http://evil.example"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_other_origins_and_host_names_are_rejected(shop: Merchant, headers: dict[str, str]) -> None:
    client = shop.process.client
    for method, path in (
        ("GET", ""),
        ("GET", "/"),
        ("GET", "/transactions"),
        ("POST", "/reset"),
        ("POST", "/clock"),
        ("DELETE", "/faults"),
        ("OPTIONS", "/clock"),
        ("GET", "/nowhere"),
    ):
        reply = client.request(method, f"/simulator{path}", headers=headers, content=b"{}")
        assert reply.status_code == 403, (method, path)
        assert "access-control-allow-origin" not in reply.headers
        assert "error" in reply.json()


def test_the_page_itself_and_programs_have_access(process: Process) -> None:
    own = process.url
    port = own.rpartition(":")[2]
    for headers in (
        {},
        {"Origin": own, "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Host": f"localhost:{port}"},
        {"Host": "LOCALHOST"},
        {"Host": f"[::1]:{port}"},
        {"Host": "192.168.1.20"},
        {"Host": "sim.localhost", "Origin": "http://sim.localhost"},
    ):
        assert process.client.get("/simulator", headers=headers).status_code == 200, headers
        assert process.client.get("/simulator/clock", headers=headers).status_code == 200, headers
    alive = process.client.get("/simulator/livez", headers={"Host": "sim.internal"})
    assert alive.status_code == 200, "the liveness check is open to everybody"
    wire = process.client.post(WIRE, content=b"{}", headers={"Origin": "http://shop.example"})
    assert wire.status_code == 200, "the API is open to the pages of every shop"


def test_a_host_name_given_by_option_is_allowed(start: Callable[..., Process]) -> None:
    process = start("--allow-host", "Simulator", "--allow-host", "pay.example")
    for name, status in (("simulator:9000", 200), ("PAY.example", 200), ("other", 403)):
        reply = process.client.get("/simulator/clock", headers={"Host": name})
        assert reply.status_code == status, name


NONSENSE: list[dict[str, Any] | str] = [
    {},
    {"now": ""},
    {"now": "tomorrow"},
    {"now": "0001-01-01T00:00:00Z"},
    {"now": "0001-01-01T00:00:00+14:00"},
    {"now": "1999-12-31T23:59:59Z"},
    {"now": "3000-01-01T00:00:00Z"},
    {"now": "9999-12-31T23:59:59Z"},
    {"now": "9999-12-31T23:59:59-14:00"},
    {"now": "2026-02-30T00:00:00Z"},
    {"now": "2026-07-01T24:00:00Z"},
    {"now": "2026-07-01T23:59:60Z"},
    {"now": "2026-W27-3"},
    {"now": "20260701T120000Z"},
    {"now": "2026-07-01T12:00:00+99:00"},
    {"now": "2026-07-01T12:00:00\n"},
    {"now": 1_800_000_000},
    {"advance_s": 1e300},
    {"advance_s": -1e300},
    {"advance_s": 1e11},
    {"advance_s": -1e11},
    '{"advance_s": 1e999}',
    '{"advance_s": NaN}',
    '{"advance_s": Infinity}',
    {"advance_s": "60"},
    {"real": True, "stopped": True},
    {"real": True, "stopped": False},
    {"real": True, "advance_s": 1},
    {"now": "2026-07-01T12:00:00Z", "advance_s": 1},
    {"stopped": True},
    {"now": "2026-07-01T12:00:00Z", "zone": "UTC"},
    "[" * 100_000,
    '{"now": "\\ud800"}',
]


def test_an_invalid_clock_request_does_not_change_the_clock(process: Process) -> None:
    process.control("/clock", {"now": "2026-07-01T12:00:00Z", "stopped": True})
    before = process.control("/clock", method="GET")
    assert before == {"now": "2026-07-01T12:00:00Z", "real": False, "stopped": True}
    for order in NONSENSE:
        body = order if isinstance(order, str) else json.dumps(order)
        reply = process.client.post("/simulator/clock", content=body.encode())
        assert reply.status_code == 400, body[:80]
        assert reply.json()["error"]
        assert process.control("/clock", method="GET") == before, body[:80]


def test_the_simulator_works_after_the_clock_went_back(process: Process) -> None:
    shop = process.merchant()
    process.control("/clock", {"now": "2030-01-01"})
    sale = shop.charge("2.00")
    for order in ({"advance_s": -86_400}, {"now": "2000-01-01T00:00:00Z"}):
        process.control("/clock", order)
        assert shop.charge()["responseCode"] == "1"
        assert shop.status(sale["transId"]) == "capturedPendingSettlement"
        listed = shop.call("getUnsettledTransactionListRequest")["transactions"]
        assert sale["transId"] in [each["transId"] for each in listed]
    process.control("/settle")
    assert shop.status(sale["transId"]) == "settledSuccessfully"
    process.control("/clock", {"now": "2999-12-31T23:59:59Z"})
    assert reason(shop.charge()) == "8", "the card has expired by then"
    process.control("/clock", {"real": True})
    assert shop.charge()["responseCode"] == "1"


ODD: list[tuple[str, str]] = [
    *(
        ("/accounts", json.dumps({"login": "odd", "transaction_key": "k", **odd}))
        for odd in (
            {"login": "a\0b"},
            {"login": "a b"},
            {"login": "a\n"},
            {"login": ""},
            {"login": "x" * 26},
            {"login": "é"},
            {"login": "\u200b"},
            {"transaction_key": "k\n"},
            {"transaction_key": "\ufeffk"},
            {"currencies": ["USD\n"]},
            {"currencies": []},
            {"signature_key": "AB\n"},
            {"signature_key": "ABC"},
        )
    ),
    *(
        ("/faults", json.dumps({"kind": "latency", **odd}))
        for odd in (
            {"ms": 1e300},
            {"ms": -1},
            {"delay_ms": 1e300},
            {"kind": "refuse", "duration_ms": 1e300},
            {"sigma": 1e300},
            {"count": 10**30},
            {"count": 0},
            {"probability": 2},
            {"kind": "throttle", "rate": 1e300},
            {"kind": "slow_body", "step_bytes": 10**12},
            {"kind": "wrong_content_type", "content_type": "a\r\nb: c"},
            {"kind": "wrong_content_type", "content_type": ""},
            {"kind": "nothing"},
            {"kind": "throttle"},
            {"kind": "busy", "rate": 2},
            {"kind": "slow_body", "step_bytes": 0},
            {"kind": "html", "status": 100},
            {"kind": "error_after", "status": 200},
            {"kind": "busy", "event_type": "net.authorize.payment.void.created"},
            {"kind": "webhook_lose", "method": "createTransactionRequest"},
            {"kind": "webhook_reorder"},
        )
    ),
    *(
        ("/settings", json.dumps(odd))
        for odd in (
            {"reporting_lag_ms": 10**30},
            {"reporting_lag_ms": -1},
            {"recorded_calls_per_s": 10**30},
            {"webhook_retry_s": [1e300]},
            {"webhook_timeout_s": 0},
            {"max_amount": "1e300"},
            {"held_above": "NaN"},
            {"held_above": "lots"},
            {"login": "nobody"},
            {"login": 7},
            {"nothing": 1},
        )
    ),
    *((path, body) for path in ("/accounts", "/faults", "/settings") for body in ("", "[]", "{")),
    ("/accounts", '{"login": "\\ud800", "transaction_key": "k"}'),
    ("/reset", '{"login": "nobody"}'),
    ("/status", '{"trans_id": "\\u0664", "status": "voided"}'),
    ("/returns", '{"trans_id": "1", "code": "R01\\n"}'),
]


def test_invalid_control_requests_are_rejected_and_change_nothing(process: Process) -> None:
    def state() -> list[Any]:
        return [
            process.control(path, method="GET") for path in ("/accounts", "/settings", "/faults")
        ]

    before = state()
    for path, body in ODD:
        reply = process.client.post(f"/simulator{path}", content=body.encode())
        assert reply.status_code == 400, (path, body[:80], reply.text)
        assert reply.json()["error"]
    for limit in ("-1", "x", "1_0", "\u0661", "1" * 5000, "1e3", " 1"):
        for path in ("/transactions", "/calls", "/notifications"):
            reply = process.client.get(f"/simulator{path}", params={"limit": limit})
            assert reply.status_code == 400, (path, limit[:9])
            assert reply.json()["error"]
    assert state() == before


@pytest.mark.parametrize("pieces", [1, 2, 40])
def test_a_request_that_offers_an_upgrade_keeps_its_body(shop: Merchant, pieces: int) -> None:
    """Without its body, this request would reset everything. Java's client and `curl --http2` offer
    an upgrade with every request."""
    reset = b'{"login": "nobody"}'
    login = b'{"merchantAuthentication": {"name": "a", "transactionKey": "b"}}'
    test = b'{"authenticateTestRequest": %b}' % login
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    said = b"".join(
        b"POST %b HTTP/1.1\r\nHost: localhost\r\n%bContent-Length: %d\r\n\r\n%b"
        % (path, offer, len(body), body)
        for path, body in ((b"/simulator/reset", reset), (WIRE.encode(), test))
        for _ in range(2)
    )
    size = -(-len(said) // pieces)
    url = shop.process.client.base_url
    with socket.create_connection((url.host, url.port), timeout=10) as line:
        for at in range(0, len(said), size):
            line.sendall(said[at : at + size])
        heard = b""
        while heard.count(b"E00007") < 2:
            heard += line.recv(65_536) or pytest.fail(str(heard))
    assert heard.count(b"no account 'nobody'") == 2
    assert heard.count(b"HTTP/1.1 ") == 4
