"""A payment whose month was archived: every call says where it is, and nothing is sent."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from easypay import clock, ids
from easypay.archiving import archive, restore, session
from easypay.cache.forgetting import forget_merchant
from easypay.cache.url import parse
from harness import QUICK, Stack, old_month, until
from harness.valkey import Valkey, running


def quiet(what: str, done: int, total: int) -> None:
    """Show no progress."""


OLD = {"cache-control": "max-age=60"}


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    with running(tmp_path) as server:
        yield server


async def give_to(connection: Any, merchant: UUID) -> None:
    """Give the rows of one of the old month's merchants to another."""
    for table in ("payments", "operations", "events"):
        await connection.execute(
            f"UPDATE {table} SET merchant_id = $1, mode = 'test' WHERE merchant_id = $2",
            merchant,
            old_month.MERCHANTS[0],
        )


async def refund_in(connection: Any, month: datetime, merchant: UUID) -> None:
    """Write a refund of this month for the first payment of the old one."""
    refund, payment = old_month.id_in(month, 5), old_month.id_in(old_month.start(), 0)
    await connection.execute(
        "INSERT INTO operations (merchant_id, id, payment_id, mode, kind, state, amount_minor,"
        " currency, reference, voided, begun_at, finished_at)"
        " VALUES ($1, $2, $3, 'test', 'refund', 'approved', 100, 'USD', $4, false, $5, $5)",
        *(merchant, refund, payment, ids.reference(refund), month),
    )


async def test_an_archived_payment_says_where_it_is_until_it_is_restored(
    stack: Stack, tmp_path: Path, valkey: Valkey
) -> None:
    connection = await asyncpg.connect(stack.dsn)
    month = old_month.start()
    await old_month.make_tables(connection, month)
    await old_month.fill(connection, month)
    await old_month.number_events(connection)
    gateway = await stack.gateway(
        **QUICK, cache_url=valkey.url
    )  # it knows the month's tables by name
    shop = await stack.shop(gateway)
    await give_to(connection, shop.merchant_id)
    payment = ids.typed(ids.PAYMENT, old_month.id_in(month, 0))
    await refund_in(connection, old_month.start(old_month.AGE_MONTHS - 1), shop.merchant_id)
    no_refunds = {"data": [], "has_more": False, "next_cursor": None}
    (refund,) = (await shop.client.get("/refunds")).json()["data"]
    assert refund["payment_id"] == payment
    path = f"/payments/{payment}"
    read = [path, f"{path}/operations", f"{path}/events", f"{path}/refunds"]
    before = [(await shop.client.get(each)).json() for each in read]
    assert before[0]["id"] == payment
    assert len(before[1]["data"]) == 2

    async def in_both_layers() -> bool:
        await shop.client.get(path, headers=OLD)
        keys = [key for key in await valkey.keys() if b"{payment:" in key]
        return any([await is_value(key) for key in keys])

    async def is_value(key: bytes) -> bool:
        return (await valkey.ask("GET", key) or b"").startswith(b"V")

    await until(in_both_layers, what="it is in the shared cache")

    await session.prepare(connection)
    wish = archive.Wish(month, tmp_path / "a", "csv", "tape 7, shelf B", keep_tables=False)
    await archive.archive(connection, wish, quiet)

    answers = [await shop.client.get(each) for each in read]
    for ask in (shop.capture, shop.void, shop.refund):
        answers.append(await ask(payment))
    for answer in answers:
        assert answer.status_code == 410, answer.text
        problem = answer.json()
        assert (problem["code"], problem["type"]) == ("archived", "/problems/archived")
        assert problem["archive"] == "tape 7, shelf B"
        assert str(tmp_path) not in answer.text
    assert await stack.simulator.truth(login=shop.login) == []
    assert await connection.fetchval("SELECT count(*) FROM idempotency_keys") == 0
    listed = (await shop.client.get("/payments")).json()["data"]
    assert listed == []
    # It lies in the month after that of its payment.
    assert (await shop.client.get("/refunds")).json() == no_refunds
    # The ends of this stretch are counted from the month's own tables, which are gone.
    seven_past = clock.rfc3339(month + timedelta(minutes=7))
    asked = await shop.client.get("/payments/stats", params={"from": seven_past})
    assert asked.status_code == 200, asked.text
    never = ids.typed(ids.PAYMENT, old_month.id_in(old_month.start(3), 0))
    assert (await shop.client.get(f"/payments/{never}")).status_code == 404

    # What was cached may be told to those who allow it, until it is forgotten; a 410 is not kept.
    assert (await shop.client.get(path, headers=OLD)).json() == before[0]
    url = parse(valkey.url)
    assert await forget_merchant(url, shop.merchant_id, within_s=5)

    async def is_gone() -> bool:
        return (await shop.client.get(path, headers=OLD)).status_code == 410

    await until(is_gone, promised_s=2, what="the gateway has forgotten it")
    assert (await shop.client.get(path, headers=OLD)).status_code == 410
    await restore.restore(connection, tmp_path / "a", quiet)
    assert (await shop.client.get(path, headers=OLD)).json() == before[0]
    assert [(await shop.client.get(each)).json() for each in read] == before
    await connection.close()
    await shop.client.aclose()
