"""The control API: faults, reset, invalid requests, and persistence over a kill -9."""

import json
import time
from collections.abc import Callable
from contextlib import suppress

import httpx
import pytest

from simulator.durable import Durable
from simulator.merchant_client import VISA, WIRE, Merchant, Process, card_sale, reason
from simulator.parts import nonce
from simulator.webhook_receiver import eventually


def test_a_charge_whose_reply_is_dropped_is_made(shop: Merchant) -> None:
    shop.fault("drop_reply", count=1)
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        shop.charge(invoice="lost")
    assert [row["invoice_number"] for row in shop.truth()] == ["lost"]
    assert shop.charge(invoice="next")["responseCode"] == "1"


def test_a_charge_whose_connection_is_reset_is_not_made(shop: Merchant) -> None:
    shop.fault("reset_before", count=1)
    with pytest.raises(httpx.ReadError):
        shop.charge()
    assert shop.truth() == []


def test_server_errors_come_before_or_after_the_charge(shop: Merchant) -> None:
    shop.fault("error_before", count=1)
    assert shop.post("authenticateTestRequest").status_code == 500
    shop.fault("error_after", count=1, status=503, method="createTransactionRequest")
    assert shop.post("authenticateTestRequest").status_code == 200
    reply = charge_raw(shop)
    assert (reply.status_code, len(shop.truth())) == (503, 1)


def charge_raw(shop: Merchant, invoice: str = "raw") -> httpx.Response:
    return shop.post(
        "createTransactionRequest", transactionRequest=card_sale(order={"invoiceNumber": invoice})
    )


def test_garbage_and_truncated_replies_hide_a_charge(shop: Merchant) -> None:
    shop.fault("truncate", count=1)
    reply = charge_raw(shop, "half")
    assert reply.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(reply.content.decode("utf-8-sig"))
    shop.fault("garbage", count=1)
    reply = charge_raw(shop, "html")
    assert reply.headers["content-type"].startswith("text/html")
    assert [row["invoice_number"] for row in shop.truth()] == ["half", "html"]


def test_a_busy_server_charges_nothing(shop: Merchant) -> None:
    shop.fault("busy", count=2)
    for _ in range(2):
        answer = shop.call("authenticateTestRequest")
        assert answer["messages"]["message"] == [{"code": "E00053", "text": "Server too busy"}]
    assert shop.call("authenticateTestRequest")["messages"]["resultCode"] == "Ok"


def time_out(shop: Merchant, amount: str = "10.00") -> None:
    """Send a sale, and give up before its reply comes."""
    body = {"merchantAuthentication": shop.credentials, "transactionRequest": card_sale(amount)}
    with httpx.Client(base_url=shop.process.url, timeout=0.1) as impatient:
        with pytest.raises(httpx.ReadTimeout):
            impatient.post(WIRE, json={"createTransactionRequest": body})


def test_replies_and_charges_can_be_late(shop: Merchant) -> None:
    shop.fault("late_reply", count=1, delay_ms=500)
    time_out(shop)
    assert len(shop.truth()) == 1
    shop.fault("late_charge", count=1, delay_ms=300)
    time_out(shop, "11.00")
    assert len(shop.truth()) == 1
    eventually(lambda: len(shop.truth()) == 2)
    assert shop.truth()[-1]["amount"] == "11.00"


def test_a_late_charge_by_the_clock_is_made_when_the_clock_is_set_forward(process: Process) -> None:
    shop = process.merchant()
    shop.fault("late_charge", count=1, delay_ms=3_600_000, by_clock=True)
    time_out(shop)
    process.control("/clock", {"advance_s": 3_500})
    assert shop.truth() == []
    process.control("/clock", {"advance_s": 200})
    eventually(shop.truth)


def test_connections_are_refused_until_the_fault_ends(process: Process) -> None:
    number = process.control("/faults", {"kind": "refuse"})["id"]
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{process.url}/simulator/livez")
    # The connection that requested the fault stays open, so that it can delete it.
    process.control(f"/faults/{number}", method="DELETE")
    assert httpx.get(f"{process.url}/simulator/livez").status_code == 200
    process.control("/faults", {"kind": "refuse", "duration_ms": 800})
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{process.url}/simulator/livez")

    def answers() -> bool:
        with suppress(httpx.ConnectError):
            return bool(httpx.get(f"{process.url}/simulator/livez").json() == {"status": "ok"})
        return False

    eventually(answers)
    assert process.control("/faults", method="GET") == []


def test_latency_adds_to_every_matching_call(shop: Merchant) -> None:
    shop.fault("latency", ms=60, distribution="constant", method="authenticateTestRequest")
    begun = time.monotonic()
    shop.call("authenticateTestRequest")
    assert time.monotonic() - begun >= 0.06


def test_faults_match_by_probability_and_transaction_type(shop: Merchant) -> None:
    shop.fault("busy", probability=0.0)
    shop.fault("busy", probability=1.0, transaction_type="voidTransaction")
    sale = shop.charge()
    assert sale["responseCode"] == "1"
    answer = shop.transaction(transactionType="voidTransaction", refTransId=sale["transId"])
    assert answer["messages"]["message"][0]["code"] == "E00053"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("DELETE", "/faults/fault-0", 404), ("PUT", "/clock", 405), ("GET", "/nothing", 404)],
)
def test_an_unknown_path_or_method_is_told(
    shared: Process, method: str, path: str, status: int
) -> None:
    reply = shared.client.request(method, f"/simulator{path}")
    assert reply.status_code == status
    assert reply.json()["error"]


def test_transactions_are_listed_by_invoice_and_newest(shop: Merchant) -> None:
    for name in ("a", "b", "c"):
        shop.charge(invoice=name)
    found = shop.process.control(f"/transactions?login={shop.login}&invoice_number=b", method="GET")
    assert [row["invoice_number"] for row in found] == ["b"]
    newest = shop.process.control(f"/transactions?login={shop.login}&limit=2", method="GET")
    assert [row["invoice_number"] for row in newest] == ["b", "c"]


def test_a_reset_clears_one_account_or_all(process: Process) -> None:
    one, other = process.merchant(), process.merchant()
    first = one.charge(invoice="x")
    other.charge(invoice="x")
    one.fault("busy")
    process.control("/reset", {"login": one.login})
    assert (one.truth(), len(other.truth())) == ([], 1)
    assert process.control("/faults", method="GET") == []
    again = one.charge(invoice="x")
    assert again["responseCode"] == "1"
    assert int(again["transId"]) > int(first["transId"])
    process.control("/reset")
    assert process.control("/transactions", method="GET") == []
    assert int(one.charge(invoice="x")["transId"]) > int(again["transId"])


def test_all_state_survives_a_kill(durable: Durable) -> None:
    process, shop = durable.process, durable.merchant(currencies=["CAD", "USD"])
    process.control("/clock", {"now": "2026-07-01T12:00:00Z", "stopped": True})
    shop.settings(held_above="900.00")
    token = nonce(shop, cardCode="987")
    settled = shop.charge("20.00")
    process.control("/settle")
    shop.refund(settled["transId"], "5.00")
    held = shop.authorize("10.00")
    shop.capture(held["transId"], amount="7.00")
    shop.void(shop.authorize()["transId"])
    shop.charge("901.00")
    shop.charge(billTo={"zip": "46282"})
    shop.charge(invoice="dup", code="987", billTo={"address": f"card {VISA}"})
    before = shop.truth()
    details = [shop.details(row["trans_id"]) for row in before]
    process.kill()
    with durable.file.open("ab") as file:
        file.write(b'["transaction",[1,"torn')

    process = durable.restart()
    assert shop.truth() == before
    assert [shop.details(row["trans_id"]) for row in before] == details
    assert process.control("/clock", method="GET")["now"] == "2026-07-01T12:00:00Z"
    assert reason(shop.charge(invoice="dup", code="987", billTo={"address": f"card {VISA}"})) == (
        "11"
    )
    assert reason(shop.refund(settled["transId"], "15.01")) == "55"
    paid = shop.charge(payment={"opaqueData": token})
    assert paid["accountNumber"] == "XXXX1111"
    assert shop.charge("902.00")["responseCode"] == "4"
    assert int(paid["transId"]) > max(int(row["trans_id"]) for row in before)
    process = durable.restart()
    assert len(process.control("/transactions", method="GET")) == len(before) + 2
    process.control("/reset")
    durable.restart()
    assert shop.truth() == []
    assert shop.call("authenticateTestRequest")["messages"]["resultCode"] == "Ok"
    assert int(shop.charge()["transId"]) > int(paid["transId"]) + 1


def test_the_state_file_has_no_card_number(durable: Durable) -> None:
    shop = durable.merchant()
    shop.charge(code="987", invoice=VISA, billTo={"address": VISA})
    nonce(shop, cardCode="987")
    shop.charge(number="4222222222222", amount="27.00")
    text = durable.file.read_text()
    assert text.count("\n") >= 5
    for secret in (VISA, "4222222222222", '"987"'):
        assert secret not in text
    assert VISA not in json.dumps(shop.truth())


def test_a_seed_makes_ids_and_codes_repeatable(start: Callable[..., Process]) -> None:
    def first_charges(seed: str) -> list[tuple[str, str, str]]:
        shop = start("--seed", seed).merchant()
        responses = [shop.charge() for _ in range(3)]
        return [(r["transId"], r["authCode"], r["networkTransId"]) for r in responses]

    assert first_charges("7") == first_charges("7")
    assert first_charges("7") != first_charges("8")


def test_sigterm_stops_it_with_status_0(process: Process) -> None:
    process.merchant().charge()
    assert process.terminate() == 0
