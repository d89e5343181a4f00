"""The feed after a dump was restored on another server: a client goes on with its old cursor."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from easypay import ids
from easypay.db import embedded, postgres_binaries
from easypay.db.embedded import Cluster
from harness import QUICK, Shop, Stack, run_easypay, until, with_database

SCOPES = ("events:read", "payments:read", "payments:write")


@pytest.fixture
def other_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Run another PostgreSQL, whose transactions have lower numbers."""
    settings = {"fsync": "off", "shared_buffers": "8MB"}
    with embedded.running(tmp_path / "other", settings=settings) as running:
        yield running


def carry_over(dsn: str, other_dsn: str, file: Path) -> None:
    """Dump a database, and restore it as the operator's page says."""
    programs = postgres_binaries.find().directory
    dump = ["pg_dump", "--format=custom", "--file", str(file), dsn]
    restore = ["pg_restore", "--no-owner", "--exit-on-error", "--dbname", other_dsn, str(file)]
    for program, *arguments in (dump, restore):
        done = subprocess.run([programs / program, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


async def page(shop: Shop, **query: Any) -> dict[str, Any]:
    answer = await shop.client.get("/events", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def follow(shop: Shop, cursor: str | None, count: int) -> tuple[list[str], str]:
    """Read on until so many events have come. Return their ids, and the new cursor."""
    got: list[str] = []

    async def enough() -> bool:
        nonlocal cursor
        found = await page(shop, limit=2, **({"after": cursor} if cursor else {}))
        got.extend(each["id"] for each in found["data"])
        cursor = found["next_cursor"]
        return len(got) >= count

    await until(enough, what=("events", got))
    assert cursor is not None
    return got, cursor


async def test_a_restored_feed_neither_repeats_nor_misses_an_event(
    stack: Stack, other_cluster: Cluster, tmp_path: Path
) -> None:
    before = await stack.gateway(**QUICK)
    shop = await stack.with_key(await stack.shop(before), scopes=SCOPES)
    for _ in range(4):
        await shop.paid()
    written, cursor = await follow(shop, None, 4)
    old, old_cursor = written[:2], (await page(shop, limit=2))["next_cursor"]
    other_dsn = with_database(other_cluster.dsn, "easypay")
    before.process.kill()  # so that nobody gives the last event its place
    await stack.fetch(
        "INSERT INTO events (merchant_id, id, payment_id, operation_id, mode, type, status,"
        " amount_minor, currency, created_at) SELECT merchant_id, $1, payment_id, operation_id,"
        " mode, type, status, amount_minor, currency, now() FROM events ORDER BY id DESC LIMIT 1",
        ids.new_id(),
    )
    carry_over(stack.dsn, other_dsn, tmp_path / "easypay.dump")

    restored = Stack(other_dsn, stack.simulator, tmp_path)
    with restored:
        words = ("db", "after-restore", "--accept", "--because", "nothing was paid since")
        assert run_easypay(*words, **restored.env).code == 0
        after = await restored.gateway(**QUICK)
        shop = shop.at(after.url)
        late, cursor = await follow(shop, cursor, 1)
        await shop.paid()
        new, cursor = await follow(shop, cursor, 1)
        assert (await page(shop, after=cursor))["data"] == []
        again, _ = await follow(shop, old_cursor, 4)
        assert old + again == written + late + new
        assert len({*old, *again}) == 6
        await shop.client.aclose()
