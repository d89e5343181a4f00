"""Operations resolved by hand with `easypay operation` and `easypay late-charges`.

Here the gateway makes no inquiries of its own, except about its refunds and voids.
"""

import asyncio
import json
from typing import Any

import pytest
from typer.testing import CliRunner

from easypay import ids
from easypay.command_line.main import app
from harness import (
    WIRE_TYPE,
    Output,
    Shop,
    Stack,
    audit,
    own_stack,
    payment_uuid,
    run_easypay,
    until,
)

PATIENT = {"unknown_first_inquiry_s": "3600", "processor_deadline_s": "1", "resolver_poll_s": "0.1"}


world = own_stack(**PATIENT)


@pytest.fixture
def shared_stack(world: Stack) -> Stack:
    return world


def environment(world: Stack) -> dict[str, str]:
    return world.env | {"EASYPAY_PROCESSOR_DEADLINE_S": "1"}


async def cli(world: Stack, *words: str) -> Output:
    """Run `easypay …` in this process, which saves its start-up."""

    def run() -> Any:
        return CliRunner().invoke(app, words, env=environment(world))

    result = await asyncio.to_thread(run)
    assert isinstance(result.exception, SystemExit | None), result.exception
    return Output(result.exit_code, result.stdout, result.stderr)


async def run_process(world: Stack, *words: str) -> Output:
    return await asyncio.to_thread(run_easypay, *words, **environment(world))


async def resolve(world: Stack, reference: str, what: str, *more: str) -> Output:
    because = ("--because", "case 4711", "--actor", "ada")
    return await cli(world, "operation", "resolve", reference, "--as", what, *because, *more)


async def order_fault(world: Stack, shop: Shop, fault: str, kind: str, **more: Any) -> None:
    await world.simulator.fault(fault, shop.login, transaction_type=WIRE_TYPE[kind], **more)


async def reference_of(world: Stack, payment_id: str, kind: str) -> str:
    (row,) = await world.fetch(
        "SELECT reference FROM operations WHERE payment_id = $1 AND kind = $2",
        payment_uuid(payment_id),
        kind,
    )
    return str(row["reference"])


async def audited(world: Stack, reference: str) -> list[tuple[str, str, dict[str, Any]]]:
    (row,) = await world.fetch(
        "SELECT id FROM operations WHERE id BETWEEN $1 AND $2", *ids.reference_bounds(reference)
    )
    rows = await world.fetch(
        "SELECT actor, action, detail FROM audit_entries WHERE subject = $1 ORDER BY id",
        ids.typed(ids.OPERATION, row["id"]),
    )
    return [(row["actor"], row["action"], json.loads(row["detail"])) for row in rows]


async def test_a_charge_found_at_the_processor_is_adopted(world: Stack, shop: Shop) -> None:
    other = await shop.paid(700)
    await order_fault(world, shop, "drop_reply", "sale")
    lost = (await shop.pay(2500)).json()["id"]
    reference = await reference_of(world, lost, "sale")
    (truth,) = await world.simulator.truth(login=shop.login, invoice_number=reference)
    charged = ("charged", "--transaction-id")

    (listed,) = [
        row
        for row in (await cli(world, "operation", "list", "--open", "--json")).data["data"]
        if row["reference"] == reference
    ]
    assert (listed["state"], listed["amount"], listed["payment_id"]) == ("unknown", 2500, lost)

    wrong = await resolve(world, reference, *charged, other["processor"]["transaction_id"])
    assert wrong.code == 1
    assert "its invoice number is" in wrong.err
    for table, column, other_value, why in (
        ("payments", "card_last4", "'9999'", "the payment's card"),
        ("operations", "amount_minor", "2400", "another amount"),
    ):
        where = f"WHERE {'payment_id' if table == 'operations' else 'id'} = $1"
        (row,) = await world.fetch(
            f"SELECT {column}::text AS kept FROM {table} {where}", payment_uuid(lost)
        )
        change = f"UPDATE {table} SET {column} = {{}} {where}"
        await world.fetch(change.format(other_value), payment_uuid(lost))
        refused = await resolve(world, reference, *charged, truth["trans_id"])
        await world.fetch(change.format(f"'{row['kept']}'"), payment_uuid(lost))
        assert refused.code == 1
        assert why in refused.err
    assert await audited(world, reference) == []
    assert (await shop.payment(lost))["status"] == "processing"

    done = await resolve(world, reference, *charged, truth["trans_id"], "--json")
    assert done.data["after"] == {
        "operation": "approved",
        "payment": "captured",
        "late_charge": None,
    }
    assert (await shop.payment(lost))["status"] == "captured"
    ((actor, action, detail),) = await audited(world, reference)
    assert (actor, action, detail["reason"]) == ("ada", "operation.resolve", "case 4711")
    assert detail["before"]["payment"] == "processing"
    operation = (await shop.all(f"/payments/{lost}/operations"))[0]
    assert operation["evidence"]["source"] == "person"
    assert "ada" in operation["evidence"]["finding"]
    assert await audit(world, shop) == []

    shown = (await cli(world, "operation", "show", reference.lower(), "--json")).data
    assert shown["audit"][0]["actor"] == "ada"
    assert [event["type"] for event in shown["events"]] == ["payment.captured"]
    plain = await cli(world, "operation", "show", reference)
    assert "ada named it: case 4711" in plain.out
    again = await resolve(world, reference, "absent")
    assert (again.code, "is approved" in again.err) == (1, True)
    assert len(await audited(world, reference)) == 1


async def test_the_late_charge_of_an_absent_operation_is_found_and_returned(
    world: Stack, shop: Shop
) -> None:
    await order_fault(world, shop, "late_charge", "sale", delay_ms=1300)
    lost = (await shop.pay(2500)).json()["id"]
    reference = await reference_of(world, lost, "sale")
    both = await resolve(world, reference, "absent", "--transaction-id", "1")
    typo = await run_process(world, "operation", "show", "nonsense")
    assert (both.code, typo.code) == (2, 2)
    assert "neither a reference" in typo.err

    done = await resolve(world, reference, "absent")
    assert (done.code, "its payment is failed" in done.out) == (0, True), done.err
    assert (await shop.payment(lost))["status"] == "failed"
    (watched,) = [
        row
        for row in (await cli(world, "operation", "list", "--watched", "--json")).data["data"]
        if row["reference"] == reference
    ]
    assert (watched["purpose"], watched["looks"]) == ("absent", 0)

    async def charge() -> list[dict[str, Any]]:
        return await world.simulator.truth(login=shop.login, invoice_number=reference)

    (truth,) = await until(charge, what="the charge arrives late")
    found = await resolve(world, reference, "charged", "--transaction-id", truth["trans_id"])
    assert (found.code, "late charge is returning" in found.out) == (0, True), found.err

    async def returned() -> bool:
        rows = await world.fetch(
            "SELECT state FROM late_charges WHERE merchant_id = $1", shop.merchant_id
        )
        return [row["state"] for row in rows] == ["returned"]

    await until(returned, what="the charge is returned")
    (truth,) = await charge()
    assert truth["status"] == "voided"
    assert (await shop.payment(lost))["status"] == "failed"
    assert await audit(world, shop) == []
    assert [entry[2]["as"] for entry in await audited(world, reference)] == ["absent", "charged"]

    closed = await run_process(world, "late-charges", "close", reference, "--because", "done")
    assert (closed.code, "late charge is returned" in closed.err) == (1, True)


async def test_a_capture_is_verified_by_its_authorization(world: Stack, shop: Shop) -> None:
    held = await shop.paid(2500, capture="manual")
    parent = held["processor"]["transaction_id"]
    await order_fault(world, shop, "reset_before", "capture")
    await shop.capture(held["id"])
    reference = await reference_of(world, held["id"], "capture")
    other = await resolve(world, reference, "charged", "--transaction-id", "60000000001")
    early = await resolve(world, reference, "charged", "--transaction-id", parent)
    assert (other.code, parent in other.err) == (1, True)
    assert (early.code, "does not show it done" in early.err) == (1, True)
    absent = await resolve(world, reference, "absent")
    assert absent.code == 0, absent.err
    await order_fault(world, shop, "drop_reply", "capture")
    second = await shop.capture(held["id"])
    assert second.status_code == 202, second.text
    (row,) = await world.fetch(
        "SELECT reference FROM operations WHERE payment_id = $1 AND state = 'unknown'",
        payment_uuid(held["id"]),
    )
    done = await resolve(world, row["reference"], "charged", "--transaction-id", parent)
    assert done.code == 0, done.err
    assert (await shop.payment(held["id"]))["status"] == "captured"
    assert await audit(world, shop) == []


async def test_a_refund_is_verified_by_its_transaction_or_its_payments_void(
    world: Stack, shop: Shop
) -> None:
    settled = await shop.paid(2500)
    await world.simulator.post("/settle", login=shop.login)
    fresh = await shop.paid(1300)
    for payment, lost in ((settled, "refund"), (fresh, "void")):
        await order_fault(world, shop, "drop_reply", lost)
        answer = await shop.refund(payment["id"])
        assert answer.status_code == 202, answer.text
    references = [await reference_of(world, p["id"], "refund") for p in (settled, fresh)]
    (truth,) = await world.simulator.truth(login=shop.login, invoice_number=references[0])
    parents = [p["processor"]["transaction_id"] for p in (settled, fresh)]

    wrong = await resolve(world, references[0], "charged", "--transaction-id", parents[0])
    assert (wrong.code, f"transaction, {truth['trans_id']}" in wrong.err) == (1, True), wrong.err
    for reference, transaction in zip(references, (truth["trans_id"], parents[1]), strict=True):
        done = await resolve(world, reference, "charged", "--transaction-id", transaction)
        assert done.code == 0, done.err
    assert (await shop.payment(settled["id"]))["refunded_amount"] == 2500
    assert (await shop.payment(fresh["id"]))["status"] == "voided"
    assert await audit(world, shop) == []


async def test_a_call_that_may_be_in_progress_is_left_alone_and_a_late_charge_closed(
    world: Stack, shop: Shop
) -> None:
    await world.simulator.slow(shop.login, ms=900)
    paying = asyncio.create_task(shop.pay(2500))

    async def begun() -> str | None:
        rows = await world.fetch(
            "SELECT reference FROM operations WHERE merchant_id = $1", shop.merchant_id
        )
        return rows[0]["reference"] if rows else None

    reference = await until(begun, what="the operation is begun")
    await world.fetch(
        "UPDATE operations SET begun_at = db_now() + interval '1 min' WHERE merchant_id = $1",
        shop.merchant_id,
    )
    refused = await resolve(world, reference, "absent")
    assert refused.code == 1
    assert ("still be running" in refused.err) or ("is approved" in refused.err), refused.err
    assert (await paying).status_code == 201

    await world.fetch(
        "INSERT INTO late_charges (merchant_id, operation_id, payment_id, mode, kind,"
        " transaction_id, amount_minor, currency, state, reason, evidence, found_at, changed_at)"
        " SELECT merchant_id, id, payment_id, mode, kind, '1', amount_minor, currency,"
        " 'needs_person', 'for a test', 'seen', now(), now() FROM operations"
        " WHERE merchant_id = $1",
        shop.merchant_id,
    )
    needs = (await cli(world, "late-charges", "list", "--open", "--json")).data["data"]
    assert reference in [row["reference"] for row in needs]
    closed = await cli(
        world, "late-charges", "close", reference, "--because", "paid back in cash", "--actor", "bo"
    )
    assert closed.code == 0, closed.err
    ((actor, action, detail),) = await audited(world, reference)
    assert (actor, action, detail["reason"]) == ("bo", "late_charge.close", "paid back in cash")
    left = (await cli(world, "late-charges", "list", "--open", "--json")).data["data"]
    assert reference not in [row["reference"] for row in left]


async def test_a_reference_of_no_year_names_no_operation(world: Stack) -> None:
    shown = await cli(world, "operation", "show", "Z" * 20)
    assert (shown.code, shown.out) == (1, "")
    assert f"there is no operation {'Z' * 20}" in shown.err
