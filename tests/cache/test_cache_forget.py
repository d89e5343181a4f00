"""`easypay cache forget` makes every gateway ask the database again about one merchant."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from easypay import ids
from harness import run_easypay
from harness.cached_processes import Rows, processes
from harness.sessions import connected
from harness.shop import Shop
from harness.stack import Stack
from harness.valkey import Valkey, running
from harness.waiting import until


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with running(tmp_path_factory.mktemp("valkey")) as server:
        yield server


async def test_one_merchant_is_forgotten_everywhere_and_that_is_written_down(
    shop: Shop, shared_stack: Stack, valkey: Valkey, rows: Rows
) -> None:
    merchant = ids.typed(ids.MERCHANT, shop.merchant_id)
    name, other = rows.name(shop.merchant_id), rows.name()
    env = shared_stack.env | {"EASYPAY_CACHE_URL": valkey.url}
    async with connected(shared_stack.dsn) as database, processes(2, valkey.url, database) as both:
        for each in both:
            await each.read(rows, name)
            await each.read(rows, other)
        rows.versions[name] = 2  # by hand: nobody is told
        done = run_easypay("cache", "forget", merchant, "--actor", "ann", "--json", **env).data
        assert done == {"merchant_id": merchant, "was_cached": True}

        async def forgotten() -> bool:
            return not any(name in each.caches._near for each in both)

        await until(forgotten, promised_s=2)
        queries = sum(each.queries for each in both)
        for each in both:
            assert await each.body(rows, name) == rows.body(name)
            await each.read(rows, other)
        assert sum(each.queries for each in both) == queries + 1
        entry = await database.fetchrow(
            "SELECT actor, action, detail FROM audit_entries WHERE subject = $1", merchant
        )
        assert tuple(entry) == ("ann", "cache_forgotten", '{"was_cached": true}')


def test_what_is_wrong_is_said(shop: Shop, shared_stack: Stack, tmp_path: Path) -> None:
    merchant = ids.typed(ids.MERCHANT, shop.merchant_id)
    for url, said in (
        ("redis://127.0.0.1:1", "nothing is forgotten, the shared cache does not answer"),
        ("nonsense", "EASYPAY_CACHE_URL: it begins with redis://"),
        ("", "no shared cache known: set EASYPAY_CACHE_URL"),
    ):
        words = ("cache", "forget", merchant, "--data-dir", str(tmp_path))
        shown = run_easypay(*words, **shared_stack.env | {"EASYPAY_CACHE_URL": url})
        assert shown.code == 1
        assert re.search(re.escape(said), " ".join(shown.err.split())), shown.err
