"""Caches as gateways have them, several in one test, and rows that take the database's place."""

import asyncio
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from easypay.cache.caches import Caches, Loaded, Read
from easypay.cache.names import PAYMENT, Answer, payment_name
from easypay.cache.shared import SharedCache, shared_by
from easypay.cache.url import parse
from easypay.clock import monotonic
from easypay.hmac_sha256 import keyed_digest
from harness.waiting import until

DIGEST = keyed_digest(b"k" * 32)


class Process:
    """The caches of one process, and the queries that it made. Merchants' numbers are used at once
    here: a test that two processes meet at a new number says so."""

    def __init__(self, url: str, database: Any, **more: Any) -> None:
        self.caches = Caches(8 * 1024 * 1024)
        self.shared: SharedCache = shared_by(
            parse(url),
            self.caches,
            database,
            more.get("digest", DIGEST),
            settles_s=more.get("settles_s", -1.0),
            form=more.get("form", ""),
        )
        self.queries = 0
        self.asked_at: defaultdict[str, list[float]] = defaultdict(list)
        """When the database was asked for each name, by the monotonic clock."""
        self.task = asyncio.create_task(self.shared.run())

    async def read(self, rows: "Rows", name: str, within_s: float = 60) -> Read:
        async def load() -> Loaded:
            self.queries += 1
            self.asked_at[name].append(monotonic())
            return await rows.load(name)

        return await self.caches.get_or_set(PAYMENT, name, within_s, load)

    async def body(self, rows: "Rows", name: str, within_s: float = 60) -> bytes:
        value = (await self.read(rows, name, within_s)).value
        assert value is not None
        return value.body

    def count(self, result: str) -> int:
        return self.caches.counts["payment", result]

    async def hears(self) -> None:
        async def does() -> bool:
            return self.shared.is_usable

        await until(does, what="the shared cache is in use")

    async def told(self) -> None:
        """Wait until what has changed here is told to the shared cache."""

        async def done() -> bool:
            return self.shared.telling.is_done

        await until(done)


class Rows:
    """The truth: what the database would answer. A read may take long."""

    def __init__(self) -> None:
        self.versions: dict[str, int] = {}
        self.reading = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def load(self, name: str) -> Loaded:
        version = self.versions[name]
        self.reading.set()
        await self.go_on.wait()
        body = f"{name} version {version}".encode()
        return Loaded(Answer(body, [(b"etag", b'"v1"')], b"json", b"private"), version)

    def name(self, merchant: uuid.UUID | None = None) -> str:
        name = payment_name(merchant or uuid.uuid4(), "test", uuid.uuid4())
        self.versions[name] = 1
        return name

    def body(self, name: str) -> bytes:
        return f"{name} version {self.versions[name]}".encode()


@asynccontextmanager
async def processes(count: int, url: str, database: Any) -> AsyncIterator[list[Process]]:
    made = [Process(url, database) for _ in range(count)]
    for each in made:
        await each.hears()
    try:
        yield made
    finally:
        for each in made:
            each.task.cancel()
        await asyncio.gather(*(each.task for each in made), return_exceptions=True)
