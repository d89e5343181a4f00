"""Asks a database as a gateway does: through the connections for reading, and the pool for
questions. Measures the time that its answers take, and counts the pages of 8 KiB that they read.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import fmean
from time import perf_counter
from typing import Any, Final

import asyncpg
import msgspec

from easypay.api.paging import DEFAULT_LIMIT
from easypay.db.partitions import Months
from easypay.db.pool import open_pool
from easypay.db.reading import Reading
from easypay.errors import DatabaseUnavailable
from easypay.payments import search, statistics
from easypay.payments.lists import PAYMENTS, Lists
from easypay.payments.statistics import Question
from easypay.settings import QUESTION_CONNECTIONS, Settings
from easypay_bench.counters import counting
from easypay_bench.finding.databases import Made
from easypay_bench.finding.examples import Examples, look_up
from easypay_bench.finding.questions import Draw, Page
from easypay_bench.performance_bars import percentile

_RESET: Final = """
    SELECT pg_stat_statements_reset(0, oid, 0) FROM pg_database WHERE datname = current_database()
"""
_BUFFERS: Final = """
    SELECT coalesce(sum(shared_blks_hit + shared_blks_read), 0)::bigint, coalesce(sum(calls), 0)
      FROM pg_stat_statements
     WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND query NOT LIKE '%pg_stat_statements%'
"""

Asked = Page | Question


_WARM: Final = """
    SELECT sum(pg_prewarm(c.oid::regclass, 'read'))
      FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid
      JOIN pg_class t ON t.oid = coalesce(i.indrelid, c.oid)
     WHERE c.relkind IN ('r', 'i') AND c.relnamespace = 'public'::regnamespace
       AND t.relname ~ '^(payment_search|payment_counts|decline_counts|payments_)'
"""


async def warm(connection: Any) -> None:
    """Have the system keep in memory what questions read, as it does on a server that has run for a
    while. What does not fit is read from the disk."""
    await connection.execute("CREATE EXTENSION IF NOT EXISTS pg_prewarm")
    await connection.fetchval(_WARM, timeout=600)


class Answers(msgspec.Struct):
    """What one question took: milliseconds of database time, and pages of 8 KiB."""

    asked: int
    """How often. Fewer than planned if it took too long in all."""
    refused: int
    """How many of them got no answer, because it took too long."""
    p50_ms: float
    p99_ms: float
    max_ms: float
    buffers: float | None = None
    """On average. None, like the next two, if the server does not count."""
    most_buffers: int | None = None
    statements: float | None = None
    most_for: str = ""
    """The question that read the most pages."""


class Asker:
    """One database, with the connections of a gateway."""

    def __init__(self, made: Made, examples: Examples, connection: Any) -> None:
        self.made = made
        self.examples = examples
        self.connection = connection
        self.spent_s = 0.0
        """Database time since it was last set to zero."""
        self.refused = 0
        self.months = Months()
        self.reading: Reading
        self.pool: Any
        self.lists: Lists

    async def open(self) -> None:
        usual = {name: field.default for name, field in Settings.model_fields.items()}
        self.reading = Reading(
            self.made.dsn,
            connections=usual["database_reading_connections"],
            queue=usual["reading_queue"],
            limit_s=usual["reading_timeout_s"],
            patience_s=usual["database_patience_s"],
            watcher=lambda sql, took_s: self.spent(took_s),
        )
        self.pool = await open_pool(self.made.dsn, size=QUESTION_CONNECTIONS, name="questions")
        await self.months.load(self.connection)
        self.lists = Lists(self.reading, self.months)

    async def close(self) -> None:
        await asyncio.gather(self.reading.close(), self.pool.close())

    def spent(self, took_s: float) -> None:
        self.spent_s += took_s

    async def ask(self, asked: Asked) -> float:
        """Ask, and return the seconds that the database took, also if it gave up. Statistics count
        with the work on their rows, since they are several statements in one transaction."""
        self.spent_s = 0.0
        began = perf_counter()
        try:
            await self._ask(asked)
        except (DatabaseUnavailable, asyncpg.QueryCanceledError, TimeoutError):
            self.refused += 1
        return perf_counter() - began if isinstance(asked, Question) else self.spent_s

    async def _ask(self, asked: Asked) -> None:
        if isinstance(asked, Question):
            await statistics.of(self.pool, self.months, asked)
            return
        source = self.lists.source(PAYMENTS)
        if asked.filters:
            source = search.source(self.lists, asked.filters)
        await source.rows(asked.span, DEFAULT_LIMIT + 1)


@asynccontextmanager
async def askers(databases: Sequence[Made]) -> AsyncIterator[list[Asker]]:
    """Connect to all databases."""
    async with AsyncExitStack() as stack:
        opened = []
        for made in databases:
            connection = await asyncpg.connect(made.dsn)
            stack.push_async_callback(connection.close)
            asker = Asker(made, await look_up(connection, made), connection)
            await asker.open()
            stack.push_async_callback(asker.close)
            opened.append(asker)
        yield opened


Make = Callable[[Draw], Asked]
_ROUNDS: Final = 3
_MOST_S: Final = 5.0
"""After so long in one round a question is asked no more: its figures miss their bar anyway."""


async def times(
    askers: Sequence[Asker], make: Make, *, warm_up: int, questions: int
) -> list[Answers]:
    """Ask one question of all databases, in turn so that all meet the same machine."""
    took_ms: list[list[float]] = [[] for _ in askers]
    draws = [Draw(asker.examples, 1) for asker in askers]
    for asker, draw in zip(askers, draws, strict=True):
        await _ask_many(asker, make, draw, warm_up)
        asker.refused = 0
    for _ in range(_ROUNDS):
        for asker, draw, took in zip(askers, draws, took_ms, strict=True):
            took += await _ask_many(asker, make, draw, max(1, questions // _ROUNDS))
    found = []
    for asker, each in zip(askers, took_ms, strict=True):
        each.sort()
        p50, p99 = percentile(each, 0.5), percentile(each, 0.99)
        found.append(Answers(len(each), asker.refused, p50, p99, each[-1]))
    return found


async def _ask_many(asker: Asker, make: Make, draw: Draw, questions: int) -> list[float]:
    """Ask so many questions, fewer if they take long. Returns the milliseconds of each."""
    took_ms: list[float] = []
    ends_at = perf_counter() + _MOST_S
    while len(took_ms) < questions and perf_counter() < ends_at:
        took_ms.append(await asker.ask(make(draw)) * 1000)
    return took_ms


async def count(
    askers: Sequence[Asker], make: Make, answers: Sequence[Answers], *, questions: int
) -> None:
    """Ask again, and add how many pages of 8 KiB the statements read to the answers."""
    async with counting(askers[0].connection) as counts:
        for asker, each in zip(askers, answers, strict=True):
            if counts:
                await _count(asker, make, each, questions)


async def _count(asker: Asker, make: Make, answers: Answers, questions: int) -> None:
    draw = Draw(asker.examples, 2)
    pages: list[int] = []
    statements = 0
    await asker.ask(make(draw))  # sessions notice after a statement that they are to count
    ends_at = perf_counter() + _MOST_S
    while len(pages) < questions and (not pages or perf_counter() < ends_at):
        asked = make(draw)
        await asker.connection.execute(_RESET)
        await asker.ask(asked)
        buffers, calls = await asker.connection.fetchrow(_BUFFERS)
        if not pages or buffers > max(pages):
            answers.most_for = repr(asked)
        pages.append(buffers)
        statements += calls
    answers.buffers, answers.most_buffers = fmean(pages), max(pages)
    answers.statements = float(statements) / len(pages)
