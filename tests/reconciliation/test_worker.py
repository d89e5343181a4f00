"""A worker reads the books of each account in its turn, and shows what is open."""

import httpx

from easypay.reconciliation import run
from harness import until
from harness.processes import free_port

from .reconciled import Reconciled


async def test_a_worker_reconciles_and_its_metrics_show_what_is_open(books: Reconciled) -> None:
    await books.shop.paid(25_00)
    await books.portal.charge(7_77)
    key = await books.account()
    assert key not in await run.due(books.pool, 3600.0), "nothing settles within its first hour"
    await books.time.advance(3700)
    assert key in await run.due(books.pool, 3600.0)
    listens = f"127.0.0.1:{free_port()}"
    worker = books.stack.worker(metrics_listen=listens)
    try:

        async def metrics() -> str:
            async with httpx.AsyncClient() as client:
                return (await client.get(f"http://{listens}/metrics")).text

        async def shown() -> bool:
            found = await books.breaks()
            return bool(found) and 'reconciliations_total{result="done"} 0.0' not in await metrics()

        await until(shown, what="the worker has reconciled")
        text = await metrics()
        assert 'easypay_reconciliation_breaks{kind="unexplained_charge"} 1' in text
        assert 'easypay_reconciliation_breaks{kind="doubled"} 0' in text
    finally:
        assert worker.terminate() == 0, worker.logs()
    assert key not in await run.due(books.pool, 3600.0)
    for change in (
        "wanted_at = db_now(), last_started_at = db_now() - interval '1 minute'",
        "wanted_at = NULL, last_failure = 'x', last_started_at = db_now() - interval '6 minutes'",
        "last_failure = NULL, reader = gen_random_uuid(), leased_until = db_now()",
        "reader = NULL, leased_until = NULL, last_started_at = db_now() - interval '61 minutes'",
    ):
        await books.stack.fetch(f"UPDATE account_books SET {change} WHERE account = $1", key)
        assert key in await run.due(books.pool, 3600.0), change
