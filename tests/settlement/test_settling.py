"""Payments are told of their settlement once, and of what the bank does with the money later."""

import asyncio
from typing import Any

import pytest

from easypay.payments.model import PaymentKey
from easypay.settlement import settling
from easypay.settlement.model import steps_of
from easypay.settlement.purge import purge
from harness import Shop, Stack, audit, payment_uuid, until
from settlement.books import account_of, pool_of, read_books, settled, settled_at

CAPTURED, SETTLED = ("payment.captured", 2500), ("payment.settled", 2500)


async def types_of(shop: Shop, payment: Any) -> list[tuple[str, int]]:
    events = await shop.all(f"/payments/{payment['id']}/events")
    return [(event["type"], event["amount"]) for event in events]


def transaction_of(payment: Any) -> str:
    return str(payment["processor"]["transaction_id"])


async def becomes(stack: Stack, shop: Shop, payment: Any, status: str) -> None:
    """Let the processor give a payment's transaction this status, and read its books."""
    await stack.simulator.post("/status", trans_id=transaction_of(payment), status=status)
    await read_books(stack, shop)


async def test_a_payment_and_its_refund_settle_once(shared_stack: Stack, shop: Shop) -> None:
    payment = await shop.paid(2500, order_reference="order-7")
    held = await shop.paid(4000, capture="manual")
    assert "settlement_state" not in payment
    assert await read_books(shared_stack, shop) == [], "nothing has settled"
    changed = await settled(shared_stack, shop)
    assert [each.payment_id for each in changed] == [payment_uuid(payment["id"])]

    shown = await shop.payment(payment["id"])
    account = await account_of(shared_stack, shop)
    assert shown["settled_at"] == await settled_at(shared_stack, account)
    assert shown["settlement_state"] == "settled"
    assert shown["version"] == payment["version"] + 1
    assert "settled_at" not in await shop.payment(held["id"])

    refund = await shop.refund(payment["id"], 900)
    assert refund.status_code == 201, refund.text
    assert await settled(shared_stack, shop) == []
    assert await read_books(shared_stack, shop) == [], "nothing is told twice"
    assert await types_of(shop, payment) == [
        CAPTURED,
        SETTLED,
        ("refund.succeeded", 900),
        ("refund.settled", 900),
    ]
    assert await audit(shared_stack, shop) == []


async def test_settling_a_payment_changes_no_index(shared_stack: Stack) -> None:
    """So its row's new version stays on its page, and the hot path's indexes are as they were."""
    indexes = await shared_stack.fetch(
        "SELECT indexdef FROM pg_indexes WHERE tablename ~ '^payments_2'"
        " AND indexdef ~ 'settle|version|updated_at'"
    )
    assert indexes == []


async def test_events_show_the_payment_as_it_was_at_each_step(
    shared_stack: Stack, shop: Shop
) -> None:
    """A chargeback that is found 60 days later, and the bank's change of mind."""
    reader = await shared_stack.with_key(shop, scopes=["events:read"])
    payment = await shop.paid()
    await settled(shared_stack, shop)
    for status in ("chargeback", "chargebackReversal", "chargeback"):
        await becomes(shared_stack, shop, payment, status)
    told: list[Any] = []

    async def read() -> bool:
        told[:] = (await reader.client.get("/events")).json()["data"]
        return len(told) == 5

    await until(read, what="five events")
    await reader.client.aclose()
    assert [
        (each["type"], each["data"].get("settlement_state"), each["data"]["version"])
        for each in told
    ] == [
        ("payment.captured", None, 2),
        ("payment.settled", "settled", 3),
        ("payment.charged_back", "charged_back", 4),
        ("payment.chargeback_reversed", "chargeback_reversed", 5),
        ("payment.charged_back", "charged_back", 6),
    ]
    assert [each["data"].get("partial_refund") for each in told] == [
        *(None, "possible", "impossible", "possible", "impossible"),
    ]
    assert told[-1]["data"] == await shop.payment(payment["id"])
    assert "settled_at" not in told[0]["data"]
    assert await changes_of(shared_stack, shop) == [
        (1, "charged_back", None, 2500),
        (2, "chargeback_reversed", None, 2500),
        (3, "charged_back", None, 2500),
    ]


async def changes_of(stack: Stack, shop: Shop) -> list[tuple[Any, ...]]:
    rows = await stack.fetch(
        "SELECT number, became, code, amount_minor FROM settlement_changes WHERE account = $1"
        " ORDER BY transaction_id, number",
        await account_of(stack, shop),
    )
    return [tuple(row) for row in rows]


async def test_what_was_settled_is_refunded_and_not_voided(shared_stack: Stack, shop: Shop) -> None:
    """Where it is known, nothing is sent. Money that a bank took back is not given back again."""
    payment = await shop.paid()
    await settled(shared_stack, shop)
    before = len(await shared_stack.simulator.truth(login=shop.login))
    void = await shop.void(payment["id"], key="void")
    assert (void.status_code, void.json()["code"]) == (409, "already_settled")
    assert "refund it instead" in void.json()["detail"]
    assert (await shop.refund(payment["id"], 100)).status_code == 201
    await becomes(shared_stack, shop, payment, "chargeback")
    twice = await shop.refund(payment["id"], 100, key="twice")
    assert (twice.status_code, twice.json()["code"]) == (409, "invalid_state")
    assert "charged_back" in twice.json()["detail"]
    assert len(await shop.all(f"/payments/{payment['id']}/operations")) == 2
    assert len(await shared_stack.simulator.truth(login=shop.login)) == before + 1
    for key in ("void", "twice"):
        assert (await shop.client.get(f"/idempotency-keys/{key}")).status_code == 404


async def test_a_bank_returns_a_payment_and_a_refund(shared_stack: Stack, shop: Shop) -> None:
    account = {
        "account_type": "checking",
        "routing_number": "121042882",
        "account_number": "1234567890",
        "name_on_account": "Ada Lovelace",
    }
    method = {"type": "bank_account", "bank_account": account}
    payment, other = [await shop.paid(5000, payment_method=method) for _ in range(2)]
    await settled(shared_stack, shop)
    refund = (await shop.refund(other["id"], 1200)).json()
    await settled(shared_stack, shop)
    for returned in (payment, refund):
        await shared_stack.simulator.post("/returns", trans_id=transaction_of(returned))
    await read_books(shared_stack, shop)
    assert (await shop.payment(payment["id"]))["settlement_state"] == "returned"
    assert (await shop.payment(other["id"]))["settlement_state"] == "settled"
    assert await types_of(shop, payment) == [
        ("payment.captured", 5000),
        ("payment.settled", 5000),
        ("payment.returned", 5000),
    ]
    assert (await types_of(shop, other))[-2:] == [
        ("refund.settled", 1200),
        ("refund.returned", 1200),
    ]
    assert await changes_of(shared_stack, shop) == [
        (1, "returned", "R01", 5000),
        (1, "returned", "R01", 1200),
    ]


async def test_only_what_is_captured_here_by_that_very_transaction_is_told(
    shared_stack: Stack, shop: Shop
) -> None:
    """A second charge of the same reference, and an outcome that is still open here, are told to
    nobody; once the outcome is known, the next run tells of it."""
    payment, open_ = await shop.paid(), await shop.paid()

    async def write(payment: Any, values: str) -> None:
        """Make a payment's row what no request can make it."""
        async with shared_stack.sessions.session() as connection:
            await connection.execute(
                "SET session_replication_role = replica;"
                f"UPDATE payments SET {values} WHERE id = '{payment_uuid(payment['id'])}';"
                "SET session_replication_role = DEFAULT"
            )

    await write(payment, "transaction_id = '1'")
    await write(open_, "status = 'processing', captured_minor = 0")
    assert await settled(shared_stack, shop) == []
    await write(open_, "status = 'captured', captured_minor = 2500")
    changed = await read_books(shared_stack, shop)
    assert [each.payment_id for each in changed] == [payment_uuid(open_["id"])]
    assert await types_of(shop, payment) == [CAPTURED]


async def test_what_settled_too_long_ago_is_forgotten(shared_stack: Stack, shop: Shop) -> None:
    """Whole batches; the younger one stays, and the payments with their events do."""
    old = await shop.paid(2500)
    await settled(shared_stack, shop)
    account = await account_of(shared_stack, shop)
    await becomes(shared_stack, shop, old, "chargeback")
    young = await shop.paid(2600)
    await settled(shared_stack, shop)
    for table in ("settled_batches", "settled_transactions"):
        await shared_stack.fetch(
            f"UPDATE {table} SET settled_at = settled_at - interval '8 years' WHERE account = $1"
            " AND batch_id = (SELECT batch_id FROM settled_transactions"
            " WHERE account = $1 AND transaction_id = $2)",
            *(account, transaction_of(old)),
        )
    before = await types_of(shop, old)
    async with pool_of(shared_stack) as pool:
        assert await purge(pool, years=9) == 0
        assert await purge(pool, years=7) == 1
    kept = [
        await shared_stack.value(f"SELECT count(*) FROM {table} WHERE account = $1", account)
        for table in ("settled_batches", "settled_transactions", "settlement_changes")
    ]
    assert kept == [1, 1, 0]
    assert await types_of(shop, old) == before
    assert (await shop.payment(old["id"]))["settlement_state"] == "charged_back"
    left = await shop.all(f"/payments/{young['id']}/events")
    assert [event["type"] for event in left] == ["payment.captured", "payment.settled"]


async def test_a_payment_that_is_being_refunded_is_not_waited_for(
    shared_stack: Stack, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups of two: what is locked is left for the next call. Three calls at once tell it once."""
    monkeypatch.setattr(settling, "AT_ONCE", 2)
    payments = [await shop.paid() for _ in range(5)]
    async with shared_stack.sessions.session() as connection, connection.transaction():
        locked = payment_uuid(payments[1]["id"])
        await connection.execute("SELECT FROM payments WHERE id = $1 FOR UPDATE", locked)
        assert len(await asyncio.wait_for(settled(shared_stack, shop), 30)) == 4
    account = await account_of(shared_stack, shop)
    async with pool_of(shared_stack) as pool:
        await asyncio.gather(*(settling.settle(pool, account) for _ in range(3)))
    for payment in payments:
        assert await types_of(shop, payment) == [CAPTURED, SETTLED]


class Killed(Exception):
    pass


async def test_killed_between_two_groups_the_next_run_does_the_rest(
    shared_stack: Stack, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "AT_ONCE", 2)
    payments = [await shop.paid() for _ in range(5)]
    await shared_stack.simulator.post("/settle")

    def die(_: PaymentKey) -> None:
        raise Killed

    with pytest.raises(Killed):
        await read_books(shared_stack, shop, die)
    assert len(await read_books(shared_stack, shop)) == 3
    for payment in payments:
        assert await types_of(shop, payment) == [CAPTURED, SETTLED]


@pytest.mark.parametrize(
    ("told", "now", "steps"),
    [
        (None, "settled", "settled"),
        (None, "returned", "settled returned"),
        (None, "chargeback_reversed", "settled charged_back chargeback_reversed"),
        ("settled", "charged_back", "charged_back"),
        ("settled", "chargeback_reversed", "charged_back chargeback_reversed"),
        ("charged_back", "chargeback_reversed", "chargeback_reversed"),
        ("chargeback_reversed", "charged_back", "charged_back"),
        ("returned", "settled", "settled"),
        ("charged_back", "settled", "settled"),
        ("returned", "charged_back", "charged_back"),
    ],
)
def test_no_step_is_left_out(told: str | None, now: str, steps: str) -> None:
    assert steps_of(told, now) == tuple(steps.split())
