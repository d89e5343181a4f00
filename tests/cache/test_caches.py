"""One query for many readers, and never anything older than a reader allows."""

import asyncio
import uuid

import pytest

from easypay.cache.caches import Caches, Loaded
from easypay.cache.names import PAYMENT, Answer, payment_name
from easypay.clock import monotonic

NAME = payment_name(uuid.uuid4(), "test", uuid.uuid4())
OTHER = payment_name(uuid.uuid4(), "test", uuid.uuid4())


def answer(text: str) -> Answer:
    return Answer(text.encode(), [(b"etag", b'"v1"')], b"application/json", b"private")


class Database:
    """Counts its queries, each of which waits until it may go on."""

    def __init__(self, *, waits: bool = False) -> None:
        self.queries = 0
        self.may_go_on = asyncio.Event()
        self.missing = False
        if not waits:
            self.may_go_on.set()

    async def load(self) -> Loaded:
        self.queries += 1
        said = f"read {self.queries}"
        await self.may_go_on.wait()
        return Loaded(None) if self.missing else Loaded(answer(said), version=self.queries)


@pytest.fixture
def caches() -> Caches:
    made = Caches(1024 * 1024)
    made.connect(None, lambda: True)
    return made


async def test_fifty_readers_who_miss_together_share_one_query(caches: Caches) -> None:
    database = Database(waits=True)
    readers = [
        asyncio.create_task(caches.get_or_set(PAYMENT, NAME, 5, database.load)) for _ in range(50)
    ]
    await asyncio.sleep(0)
    database.may_go_on.set()
    found = await asyncio.gather(*readers)
    assert database.queries == 1
    assert {read.value.body for read in found if read.value} == {b"read 1"}
    assert [read.cached for read in found].count(False) == 1
    assert caches.counts["payment", "miss"] == 1
    assert caches.counts["payment", "hit"] == 49


async def test_a_reader_who_leaves_takes_nobody_with_him(caches: Caches) -> None:
    database = Database(waits=True)
    first = asyncio.create_task(caches.get_or_set(PAYMENT, NAME, 5, database.load))
    second = asyncio.create_task(caches.get_or_set(PAYMENT, NAME, 5, database.load))
    await asyncio.sleep(0)
    first.cancel()
    database.may_go_on.set()
    assert (await second).value == answer("read 1")
    assert database.queries == 1


async def test_an_error_reaches_every_reader_and_is_not_kept(caches: Caches) -> None:
    async def fails() -> Loaded:
        raise ConnectionError("away")

    tried = await asyncio.gather(
        *(caches.get_or_set(PAYMENT, NAME, 5, fails) for _ in range(3)), return_exceptions=True
    )
    assert all(isinstance(each, ConnectionError) for each in tried)
    database = Database()
    assert (await caches.get_or_set(PAYMENT, NAME, 5, database.load)).value == answer("read 1")


async def test_nothing_is_older_than_the_reader_allows(caches: Caches) -> None:
    database = Database()
    await caches.get_or_set(PAYMENT, NAME, 30, database.load)
    while (read := await caches.get_or_set(PAYMENT, NAME, 0.05, database.load)).cached:
        assert read.age_s <= 0.06
    assert database.queries == 2
    assert read.value == answer("read 2")
    assert caches.counts["payment", "stale"] == 1


async def test_a_reader_with_less_patience_does_not_wait_for_an_older_query(caches: Caches) -> None:
    database = Database(waits=True)
    first = asyncio.create_task(caches.get_or_set(PAYMENT, NAME, 5, database.load))
    await asyncio.sleep(0.02)
    second = asyncio.create_task(caches.get_or_set(PAYMENT, NAME, 0.01, database.load))
    await asyncio.sleep(0)
    database.may_go_on.set()
    assert (await first).value == answer("read 1")
    assert (await second).value == answer("read 2")


async def test_what_changed_while_it_was_read_is_not_kept(caches: Caches) -> None:
    database = Database(waits=True)
    slow = asyncio.create_task(caches.get_or_set(PAYMENT, NAME, 5, database.load))
    await asyncio.sleep(0)
    caches.delete(NAME)
    later = asyncio.create_task(caches.get_or_set(PAYMENT, NAME, 5, database.load))
    await asyncio.sleep(0)
    database.may_go_on.set()
    assert (await slow).value == answer("read 1")
    assert (await later).value == answer("read 2")
    found = await caches.get(PAYMENT, NAME, 5)
    assert found is not None
    assert found.value == answer("read 2")


async def test_an_overtaken_query_cannot_bring_back_the_past(caches: Caches) -> None:
    """Another query has taken its name, so the change does not find it."""
    slow, quick = Database(waits=True), Database(waits=True)
    first = asyncio.create_task(caches.get_or_set(PAYMENT, NAME, 60, slow.load))
    await asyncio.sleep(0)
    second = asyncio.create_task(caches.get_or_set(PAYMENT, NAME, 0.5, quick.load))
    await asyncio.sleep(0)
    caches.delete(NAME)
    for database, reader in ((quick, second), (slow, first)):
        database.may_go_on.set()
        await reader
    assert await caches.get(PAYMENT, NAME, 60) is None


async def test_who_hears_of_no_changes_keeps_nothing_for_more_than_a_second() -> None:
    caches = Caches(1024 * 1024)
    database = Database()
    began = monotonic()
    while not (read := await caches.get_or_set(PAYMENT, NAME, 60, database.load)).cached:
        pass
    while (read := await caches.get_or_set(PAYMENT, NAME, 60, database.load)).cached:
        assert read.age_s <= 1.0
        await asyncio.sleep(0.01)
    assert 1.0 <= monotonic() - began < 2.0
    assert database.queries == 2


async def test_that_there_is_none_is_kept_for_a_second(caches: Caches) -> None:
    database = Database()
    database.missing = True
    for _ in range(20):
        assert (await caches.get_or_set(PAYMENT, NAME, 60, database.load)).value is None
    assert database.queries == 1
    database.missing = False
    caches.delete(NAME)
    assert (await caches.get_or_set(PAYMENT, NAME, 60, database.load)).value == answer("read 2")


async def test_a_merchant_is_forgotten_and_no_other(caches: Caches) -> None:
    read_at = monotonic()
    await caches.set(NAME, Loaded(answer("mine")), read_at)
    await caches.set(OTHER, Loaded(answer("yours")), read_at)
    caches.delete_merchant(uuid.UUID(NAME.split(":")[1]))
    assert await caches.get(PAYMENT, NAME, 5) is None
    assert await caches.get(PAYMENT, OTHER, 5) is not None
