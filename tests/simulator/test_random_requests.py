"""Random requests: every reply fits the schema, and nothing that was answered is lost."""

import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from breadth import examples
from simulator import xml_client
from simulator.customers import code
from simulator.durable import Durable
from simulator.merchant_client import WIRE, Merchant, Process, card_sale
from simulator.parts import setting
from simulator.random_workload import Workload

pytestmark = pytest.mark.breadth
SEEDS = range(examples(1, 3))
_decode = msgspec.json.decode
_encode = msgspec.json.encode


def send(shop: Merchant, load: Workload) -> str:
    """Send a request in JSON, let the workload learn from the reply and return its code."""
    method, body = load.request()
    reply = shop.process.client.post(WIRE, json={method: body})
    assert reply.status_code == 200, (method, body)
    answer = _decode(reply.content[3:])
    load.learn(answer)
    return code(answer)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_reply_to_a_random_request_fits_the_schema(shop: Merchant, seed: int) -> None:
    """The client checks each reply against the schema (reply_schema_check.py)."""
    shop.settings(paypal=True)
    load = Workload(shop, seed)
    codes = Counter[str]()
    for count in range(400):
        codes[send(shop, load)] += 1
        method, body = load.request()
        document = xml_client.document(method, body).encode()
        root = xml_client.parse(xml_client.post(shop.process, document))
        codes[root.findtext("messages/message/code", "")] += 1
        if count == 250:
            shop.process.control("/settle")
    assert codes["E00001"] == 0  # every request was parsed
    assert codes["I00001"] > 150
    assert {"E00027", "E00040", "I00004"} < codes.keys()


TOLD = ("transactions", "settings", "accounts", "notifications?limit=1000", "clock")


def state_of(process: Process, shops: list[Merchant]) -> dict[str, Any]:
    """Return all state that the control API and the API show, in JSON."""
    told: dict[str, Any] = {path: process.control(f"/{path}", method="GET") for path in TOLD}
    for shop in shops:
        told[shop.login] = {
            "details": [
                shop.call("getTransactionDetailsRequest", transId=trans_id)
                for trans_id in sorted({row["trans_id"] for row in shop.truth()})
            ],
            "profiles": [
                shop.call("getCustomerProfileRequest", customerProfileId=each)
                for each in shop.call("getCustomerProfileIdsRequest").get("ids", [])
            ],
            "subscriptions": [
                shop.call("ARBGetSubscriptionListRequest", searchType=kind)
                for kind in ("subscriptionActive", "subscriptionInactive")
            ],
            "unsettled": shop.call("getUnsettledTransactionListRequest"),
            "held": shop.call("getUnsettledTransactionListRequest", status="pendingApproval"),
            "batches": shop.call("getSettledBatchListRequest", includeStatistics=True),
        }
    return told


@pytest.mark.parametrize("seed", SEEDS)
def test_the_state_after_random_requests_survives_kills(
    start: Callable[..., Process], tmp_path: Path, seed: int
) -> None:
    state = tmp_path / "state.jsonl"
    process = start("--state-file", state, "--seed", seed)
    process.control("/clock", {"now": "2026-07-01T12:00:00Z", "stopped": True})
    shops = [process.merchant(signature_key="00ff" * 16), process.merchant()]
    shops[0].settings(held_above="500.00", paypal=True)
    loads = [Workload(shop, 10 * seed + place) for place, shop in enumerate(shops)]
    for advance_s in (0, 86_400, 40 * 86_400):
        process.control("/clock", {"advance_s": advance_s})
        for _ in range(40):
            for shop, load in zip(shops, loads, strict=True):
                send(shop, load)
        before = state_of(process, shops)
        process.kill()
        process = start("--state-file", state, "--seed", seed)
        for shop in shops:
            shop.process = process
        assert state_of(process, shops) == before
    assert len(process.control("/transactions", method="GET")) > 10


@pytest.mark.parametrize("seed", SEEDS)
def test_every_answered_sale_survives_a_kill_under_load(durable: Durable, seed: int) -> None:
    """The process is killed during continuous requests. Then the state file is cut
    at several places, and all complete lines must be read."""
    process, shop = durable.process, durable.merchant()
    load = Workload(shop, seed)
    requests = []
    for count in range(400):
        method, body = load.request() if count % 2 else ("createTransactionRequest", sale(shop))
        content = _encode({method: body})
        head = f"POST {WIRE} HTTP/1.1\r\nHost: s\r\nContent-Type: application/json\r\n"
        requests.append(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    host, port = process.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as line:
        line.sendall(b"".join(requests))
        answers = b""
        while answers.count(b"HTTP/1.1 200") < 150 + 50 * (seed % 3):
            answers += line.recv(65536)
        process.kill()
        try:
            while more := line.recv(65536):
                answers += more
        except ConnectionError:
            pass
    told = approved(answers)
    assert len(told) > 50
    whole = durable.file.read_bytes()
    for torn in (0, 1, 40, 400):
        durable.file.write_bytes(whole[: len(whole) - torn])
        process = durable.restart()
        rows = process.control("/transactions", method="GET")
        kept = {row["trans_id"] for row in rows}
        if torn == 0:
            assert told <= kept
        else:
            assert kept  # only the incomplete line is lost
            assert len(kept) >= len(told) - 1 - torn // 40
        assert shop.charge()["responseCode"] == "1"
        process.kill()


def sale(shop: Merchant) -> dict[str, Any]:
    request = card_sale("1.00", **setting("duplicateWindow", "0"))
    return {"merchantAuthentication": shop.credentials, "transactionRequest": request}


def approved(answers: bytes) -> set[str]:
    """Return the ids in the complete replies of a connection."""
    found = set()
    for part in answers.split(b"HTTP/1.1 200")[1:]:
        body = part.partition(b"\r\n\r\n")[2].removeprefix(b"\xef\xbb\xbf")
        try:
            answer = _decode(body)
        except msgspec.DecodeError:
            continue  # the last reply is incomplete
        response = answer.get("transactionResponse") or {}
        if response.get("responseCode") == "1" and response.get("transId") != "0":
            found.add(response["transId"])
    return found
