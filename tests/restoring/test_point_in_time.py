"""A base backup, an archived log, a recovery to a point in time: no repeat charges again."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from easypay.db.embedded import Cluster
from easypay.payments import statistics_check
from harness import (
    QUICK,
    Gateway,
    Shop,
    Simulator,
    Stack,
    card,
    mint_token,
    queued_payment,
    run_easypay,
)
from harness.point_in_time import archive_all, base_backup, name_point, recover, start_archiving
from harness.stack import migrated, with_database

POINT = "before_the_loss"
UNLISTED = ("voided", "declined")
"""What moves no money is in no list of the processor."""
WIRE = ("authorize_net_test_url", "authorize_net_live_url")


class Lost(NamedTuple):
    """A stack whose database was recovered to a point, after more had happened at the processor."""

    stack: Stack
    shop: Shop
    before: dict[str, dict[str, Any]]
    """Payments from before the point, as they were at the end."""
    after: dict[str, dict[str, Any]]
    """Payments from after it."""


@pytest.fixture
async def lost(simulator: Simulator, tmp_path: Path) -> AsyncIterator[Lost]:
    first = start_archiving(tmp_path / "first")
    second: Cluster | None = None
    try:
        dsn = with_database(first.tcp_dsn, "easypay")
        await migrated(dsn)
        with Stack(dsn, simulator, tmp_path) as stack:
            gateway = await stack.gateway(**QUICK)
            shop = await stack.shop(gateway)
            base_backup(first, tmp_path / "second")
            before = await _before(stack, shop)
            await name_point(first, POINT)
            before, after = await _after(stack, shop, before)
            gateway.kill()
        await archive_all(first)
        archive = first.home / "archive"
        first.stop()
        second = await recover(tmp_path / "second", archive, POINT)
        with Stack(with_database(second.tcp_dsn, "easypay"), simulator, tmp_path) as restored:
            await restored.move_clock(3600)  # the point is an hour ago
            yield Lost(restored, shop, before, after)
            await shop.client.aclose()
    finally:
        first.stop()
        if second is not None:
            second.stop()


async def _before(stack: Stack, shop: Shop) -> dict[str, dict[str, Any]]:
    return {
        "settled": await shop.paid(9000, order_reference="B-settled"),
        "captured": await shop.paid(1100, order_reference="B-captured", capture="manual"),
        "voided": await shop.paid(1200, order_reference="B-voided"),
        "queued": (await queued_payment(stack, shop, order_reference="B-queued")).json(),
        "untouched": await shop.paid(1300, order_reference="B-untouched"),
    }


async def _after(
    stack: Stack, shop: Shop, before: dict[str, dict[str, Any]]
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    worker = stack.worker(**QUICK)
    await shop.becomes(before["queued"]["id"], "captured")
    assert worker.terminate() == 0
    token = await mint_token(stack.simulator, shop.login, "5424000000000015")
    accept = {"type": "accept_token", "accept_token": token}
    captured = await shop.paid(2300, order_reference="A-captured", capture="manual")
    voided = await shop.paid(2400, order_reference="A-voided")
    assert (await shop.capture(captured["id"], 2000)).status_code == 201
    assert (await shop.capture(before["captured"]["id"])).status_code == 201
    assert (await shop.void(before["voided"]["id"])).status_code == 201
    assert (await shop.void(voided["id"])).status_code == 201
    after = {
        "sale": await shop.paid(2000, order_reference="A-sale"),
        "token": await shop.paid(2100, order_reference="A-token", payment_method=accept),
        "authorized": await shop.paid(2200, order_reference="A-authorized", capture="manual"),
        "captured": captured,
        "voided": voided,
        "nameless": await shop.paid(2500),
    }
    await stack.simulator.post("/settle")
    assert (await shop.refund(before["settled"]["id"], 500)).status_code == 201
    after["refunded"] = await shop.paid(2600, order_reference="A-refunded")
    await stack.simulator.post("/settle")
    assert (await shop.refund(after["refunded"]["id"])).status_code == 201
    await stack.simulator.post("/settings", login=shop.login, held_above="40.00")
    after["held"] = await shop.paid(4500, order_reference="A-held")
    declined = {"postal_code": "46282"}
    after["declined"] = await shop.paid(
        2700, order_reference="A-declined", billing_address=declined
    )
    ended = {name: await shop.payment(made["id"]) for name, made in before.items()}
    return ended, {name: await shop.payment(made["id"]) for name, made in after.items()}


def after_restore(lost: Lost, *words: str) -> dict[str, Any]:
    wire = {f"EASYPAY_{name.upper()}": lost.stack.simulator.wire for name in WIRE}
    done = run_easypay("db", "after-restore", "--json", *words, **lost.stack.env, **wire)
    assert done.code == 0, done.out + done.err
    report: dict[str, Any] = json.loads(done.out)
    return report


async def charges(lost: Lost) -> int:
    """Return how many charges of the shop the processor has approved or holds."""
    truth = await lost.stack.simulator.truth(login=lost.shop.login)
    kinds = ("authCaptureTransaction", "authOnlyTransaction", "refundTransaction")
    return sum(row["type"] in kinds and row["response_code"] in ("1", "4") for row in truth)


MONEY = ("amount", "captured_amount", "refunded_amount", "currency")


def money_of(payment: dict[str, Any]) -> dict[str, Any]:
    shown = {name: payment[name] for name in (*MONEY, "status", "capture")}
    return shown | {"transaction": payment["processor"]["transaction_id"]}


async def test_what_was_lost_comes_back_and_no_repeat_charges_again(lost: Lost) -> None:
    stack, money = lost.stack, await charges(lost)

    # 1. No gateway serves what was set back.
    refused = Gateway(stack.folder, stack.dsn, stack.simulator, **QUICK)
    stack.processes.append(refused)
    assert refused.process.wait(20) != 0
    assert "easypay db after-restore" in refused.logs()

    # 2. A dry run shows the same, and writes nothing.
    dry = after_restore(lost, "--dry-run")
    assert await stack.value("SELECT count(*) FROM payments") == len(lost.before)

    # 3. Everything comes back as it was, once.
    report = after_restore(lost)
    came_back = {name: was for name, was in lost.after.items() if name not in UNLISTED}
    assert [item["what"] for item in report["items"]].count("charge") == len(came_back) + 1
    assert {item["state"] for item in report["items"]} == {"restored"}
    seen = {(item["what"], item["transaction_id"]) for item in report["items"]}
    assert {(item["what"], item["transaction_id"]) for item in dry["items"]} <= seen
    again = after_restore(lost, "--since", report["since"])
    assert again["items"] == []

    assert await stack.value("SELECT count(*) FROM queued_operations") == 0, "sent already"
    gateway = await stack.gateway(**QUICK)
    shop = lost.shop.at(gateway.url)
    for name, was in lost.before.items():
        assert money_of(await shop.payment(was["id"])) == money_of(was), name
    charged = [item for item in report["items"] if item["what"] == "charge"]
    restored = {item["transaction_id"]: item for item in charged}
    shown: dict[str, dict[str, Any]] = {}
    for name, was in came_back.items():
        item = restored[was["processor"]["transaction_id"]]
        shown[name] = await shop.payment(item["payment_id"])
        assert money_of(shown[name]) == money_of(was), name
        assert shown[name].get("order_reference") == was.get("order_reference")
    events = await shop.all(f"/payments/{shown['captured']['id']}/events")
    assert [event["type"] for event in events] == ["payment.authorized", "payment.captured"]

    # 4. The shop repeats what it has no answer to: with its old key, whose row is lost.
    sale = {"amount": 2000, "order_reference": "A-sale"}
    refusal = await shop.pay(**sale, key="a-lost-key")
    assert refusal.status_code == 409, refusal.text
    problem = refusal.json()
    assert problem["code"] == "repeats_restored_payment"
    assert problem["payment_id"] == shown["sale"]["id"]
    token = await mint_token(stack.simulator, shop.login, "5424000000000015")
    accept = {"type": "accept_token", "accept_token": token}
    for repeat in (
        {"amount": 2100, "order_reference": "A-token", "payment_method": accept},
        {"amount": 2100, "order_reference": "A-token", "payment_method": card("5424000000000015")},
        {"amount": 2200, "order_reference": "A-authorized", "capture": "manual"},
        {"amount": 2300, "order_reference": "A-captured", "capture": "manual"},
        {"amount": 4500, "order_reference": "A-held"},
        {"amount": 2500},
    ):
        answer = await shop.pay(**repeat)
        assert (answer.status_code, answer.json()["code"]) == (409, "repeats_restored_payment")
    queued = await shop.post(
        "/payments",
        {"currency": "USD", "payment_method": accept, "amount": 2100, "order_reference": "A-token"},
        queue=True,
    )
    assert (queued.status_code, queued.json()["code"]) == (409, "repeats_restored_payment")
    refund = await shop.refund(lost.before["settled"]["id"], 500)
    assert (refund.status_code, refund.json()["code"]) == (409, "repeats_restored_payment")
    assert await charges(lost) == money, "no repeat was sent"

    # 5. What is no repeat goes through, also with the key that was refused.
    allowed = {"allow-duplicate": "true", "idempotency-key": "a-lost-key"}
    body = {"currency": "USD", "payment_method": card(), **sale}
    wanted = await shop.client.post("/payments", json=body, headers=allowed)
    assert wanted.status_code == 201, wanted.text
    assert (await shop.pay(**sale, key="a-lost-key")).json() == wanted.json()
    for other in (
        {"amount": 2001, "order_reference": "A-sale"},
        {"amount": 2000, "order_reference": "A-other"},
        {"amount": 2000, "order_reference": "A-sale", "payment_method": card("5424000000000015")},
        {"amount": 2400, "order_reference": "A-voided"},
        {"amount": 2700, "order_reference": "A-declined"},
    ):
        assert (await shop.pay(**other)).status_code == 201, other
    assert await charges(lost) == money + 6

    # 6. The books agree: nothing is counted twice or left out.
    async with stack.sessions.session() as connection:
        assert await statistics_check.verify(connection) == []
    await shop.client.aclose()
