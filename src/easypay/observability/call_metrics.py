"""Wrappers that measure: a processor and a database pool whose calls are timed and counted."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from copy import copy
from functools import lru_cache
from typing import Any, Final

from easypay.clock import stopwatch
from easypay.observability.measured_calls import MeasuredCalls, Result
from easypay.observability.metrics import Instruments
from easypay.observability.vault_metrics import MeasuredVault
from easypay.processors.base import (
    Account,
    AccountCheck,
    AuthorizeRequest,
    CaptureRequest,
    Deadline,
    Finding,
    InquiryRequest,
    OnFound,
    Outcome,
    Passed,
    PassRequest,
    Processor,
    RefundRequest,
    ReviewRequest,
    VoidRequest,
)
from easypay.processors.books import books_of
from easypay.processors.customer_vault import vault_of
from easypay.processors.integration import ConnectionFigures, ReportsConnections
from easypay.processors.notifications import webhooks_of

Measured = Coroutine[Any, Any, Result]


class MeasuredProcessor(MeasuredCalls):
    """A processor whose calls are timed and counted by outcome.

    Most methods return the coroutine of `_measured` instead of awaiting it: each coroutine between
    a request and what it waits for costs whenever it goes on.
    """

    def __init__(self, name: str, processor: Processor, instruments: Instruments) -> None:
        super().__init__(name, instruments)
        self._processor = processor
        vault = vault_of(processor)
        if vault is not None:  # whoever has this attribute has a vault
            self.vault = MeasuredVault(name, vault, instruments)
        books = books_of(processor)
        if books is not None:
            self.books = books
        self.webhooks = webhooks_of(processor)

    def authorize(self, request: AuthorizeRequest, deadline: Deadline) -> Measured[Outcome]:
        operation = "sale" if request.capture else "authorize"
        return self._measured(operation, self._processor.authorize(request, deadline))

    def capture(self, request: CaptureRequest, deadline: Deadline) -> Measured[Outcome]:
        return self._measured("capture", self._processor.capture(request, deadline))

    def void(self, request: VoidRequest, deadline: Deadline) -> Measured[Outcome]:
        return self._measured("void", self._processor.void(request, deadline))

    def refund(self, request: RefundRequest, deadline: Deadline) -> Measured[Outcome]:
        return self._measured("refund", self._processor.refund(request, deadline))

    def refund_or_void(self, request: RefundRequest, deadline: Deadline) -> Measured[Outcome]:
        return self._measured("refund", self._processor.refund_or_void(request, deadline))

    def review(self, request: ReviewRequest, deadline: Deadline) -> Measured[Outcome]:
        operation = "approve" if request.approve else "decline"
        return self._measured(operation, self._processor.review(request, deadline))

    def inquire(self, request: InquiryRequest, deadline: Deadline) -> Measured[Finding]:
        return self._measured("inquiry", self._processor.inquire(request, deadline))

    def inquire_transaction(
        self, request: InquiryRequest, transaction_id: str, deadline: Deadline
    ) -> Measured[Finding]:
        asked = self._processor.inquire_transaction(request, transaction_id, deadline)
        return self._measured("inquiry", asked)

    def look(
        self, request: PassRequest, deadline: Deadline, *, on_found: OnFound | None = None
    ) -> Measured[Passed]:
        return self._measured("pass", self._processor.look(request, deadline, on_found=on_found))

    async def closed_batches(
        self, account: Account, since_ms: int, now_ms: int, deadline: Deadline
    ) -> frozenset[str] | None:
        return await self._processor.closed_batches(account, since_ms, now_ms, deadline)

    async def check_account(self, account: Account, deadline: Deadline) -> AccountCheck:
        return await self._processor.check_account(account, deadline)

    async def close(self) -> None:
        await self._processor.close()

    def connection_figures(self) -> ConnectionFigures | None:
        """Return what its client says of its connections; None if it says nothing."""
        if isinstance(self._processor, ReportsConnections):
            return self._processor.connection_figures()
        return None


class MeasuredPool:
    """A pool that times its statements, by the name that OpenTelemetry's `db.query.summary` has.

    Statements run in the order of their arrival. asyncpg's own pool gives a free connection to the
    next caller, and sends the one that has waited longest back to the end.
    """

    def __init__(
        self,
        pool: Any,
        instruments: Instruments,
        saw: Callable[[str, float], None] = lambda sql, took_s: None,
    ) -> None:
        """`saw` is told of every statement and how long it took."""
        self._pool = pool
        self._saw = saw
        self._patience_s: float | None = None
        self._turns = asyncio.Semaphore(pool.get_max_size())
        self._database = instruments.database
        self.acquire = pool.acquire
        self.close = pool.close
        self.get_size = pool.get_size
        self.get_idle_size = pool.get_idle_size

    def for_clients(self, patience_s: float) -> "MeasuredPool":
        """Return the same pool with a time limit, after which it raises TimeoutError."""
        limited = copy(self)
        limited._patience_s = patience_s
        return limited

    async def fetch(self, sql: str, *arguments: object) -> Any:
        return await self._timed(self._pool.fetch, sql, arguments)

    async def fetchrow(self, sql: str, *arguments: object) -> Any:
        return await self._timed(self._pool.fetchrow, sql, arguments)

    async def fetchval(self, sql: str, *arguments: object) -> Any:
        return await self._timed(self._pool.fetchval, sql, arguments)

    async def execute(self, sql: str, *arguments: object) -> Any:
        return await self._timed(self._pool.execute, sql, arguments)

    async def _timed(
        self, run: Callable[..., Awaitable[Any]], sql: str, arguments: Sequence[object]
    ) -> Any:
        async with asyncio.timeout(self._patience_s), self._turns:
            begun = stopwatch()
            try:
                return await run(sql, *arguments)
            finally:
                took_s = stopwatch() - begun
                self._database.observe(took_s, summary(sql))
                self._saw(sql, took_s)


_LOCK: Final = r"(?<!FOR )"  # SELECT ... FOR UPDATE changes nothing
_VERB: Final = re.compile(rf"{_LOCK}\b(INSERT|UPDATE|DELETE|SELECT)\b", re.IGNORECASE)
_TABLE: Final = re.compile(
    rf"(?:\b(?:FROM|INTO)|{_LOCK}\bUPDATE)\s+([a-z_]+)\b(?!\s*\()", re.IGNORECASE
)
_MONTH: Final = re.compile(r"_[0-9]{4}_[0-9]{2}\b")


def without_months(sql: str) -> str:
    """Return a statement with the parents of its months' tables."""
    return _MONTH.sub("", sql)


@lru_cache(512)
def summary(sql: str) -> str:
    """Return `SELECT payments`: the first verb that changes something, or SELECT, and its table.
    A month's table counts as its parent."""
    sql = without_months(sql)
    verbs = list(_VERB.finditer(sql))
    changing = [verb for verb in verbs if verb[1].upper() != "SELECT"]
    if not verbs:
        return "OTHER"
    verb = (changing or verbs)[0]
    table = _TABLE.search(sql, verb.start())
    return f"{verb[1].upper()} {table[1].lower()}" if table else verb[1].upper()
