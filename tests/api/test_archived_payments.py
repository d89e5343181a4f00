"""A payment whose month was archived: every call says where it is, and nothing is sent."""

from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from easypay import ids
from easypay.archiving import archive, restore, session
from harness import QUICK, Stack, old_month


def quiet(what: str, done: int, total: int) -> None:
    """Show no progress."""


async def give_to(connection: Any, merchant: UUID) -> None:
    """Give the rows of one of the old month's merchants to another."""
    for table in ("payments", "operations", "events"):
        await connection.execute(
            f"UPDATE {table} SET merchant_id = $1, mode = 'test' WHERE merchant_id = $2",
            merchant,
            old_month.MERCHANTS[0],
        )


async def test_an_archived_payment_says_where_it_is_until_it_is_restored(
    stack: Stack, tmp_path: Path
) -> None:
    connection = await asyncpg.connect(stack.dsn)
    month = old_month.start()
    await old_month.make_tables(connection, month)
    await old_month.fill(connection, month)
    await old_month.number_events(connection)
    gateway = await stack.gateway(**QUICK)  # it knows the month's tables by name
    shop = await stack.shop(gateway)
    await give_to(connection, shop.merchant_id)
    payment = ids.typed(ids.PAYMENT, old_month.id_in(month, 0))
    path = f"/payments/{payment}"
    read = [path, f"{path}/operations", f"{path}/events", f"{path}/refunds"]
    before = [(await shop.client.get(each)).json() for each in read]
    assert before[0]["id"] == payment
    assert len(before[1]["data"]) == 1

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
    never = ids.typed(ids.PAYMENT, old_month.id_in(old_month.start(3), 0))
    assert (await shop.client.get(f"/payments/{never}")).status_code == 404

    await restore.restore(connection, tmp_path / "a", quiet)
    assert [(await shop.client.get(each)).json() for each in read] == before
    await connection.close()
    await shop.client.aclose()
