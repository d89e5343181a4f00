"""Reports made by a test: a server that answers each reporting call by its method and fields, and a
processor's books, which such a server shows page by page."""

import inspect
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from time import time
from typing import Any, Final, NamedTuple

from easypay.processors.base import Account
from json_server import GONE, serving
from recorded.player import Player

from .example_requests import authorize_net_account

OK: Final = {"resultCode": "Ok", "message": [{"code": "I00001", "text": "Successful."}]}
NONE: Final = {"resultCode": "Ok", "message": [{"code": "I00004", "text": "No records found."}]}

Answer = Callable[[str, dict[str, Any]], object]
"""May be a coroutine function."""


@asynccontextmanager
async def reporting(answer: Answer) -> AsyncIterator[Account]:
    """Serve reporting calls: `answer` returns what `serving` takes, by method and fields."""

    def by_method(request: dict[str, Any]) -> object:
        ((method, fields),) = request.items()
        return answer(method, fields)

    async with serving(by_method) as url:
        yield authorize_net_account(url, "a", "b")


@asynccontextmanager
async def playing(player: Player, *, whole: bool = True) -> AsyncIterator[Account]:
    """Yield an account whose processor plays a list. Every body must be used, unless `whole` is
    false, and no further request may come."""
    async with serving(player.answer) as url:
        yield authorize_net_account(url, "a", "b")
    assert len(player.asked) <= len(player.listed), f"more than expected: {player.asked}"
    assert not whole or not player.left, f"not used: {player.left}; requests: {player.asked}"


def line(number: int, name: str = "other", at: str = "2999-01-01T00:00:00Z") -> dict[str, Any]:
    return {"transId": str(number), "invoiceNumber": name, "submitTimeUTC": at}


def ago(seconds: float) -> str:
    """Return the time so many seconds ago, as the processor writes it."""
    return datetime.fromtimestamp(time() - seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Listed(NamedTuple):
    """A batch and its transactions, newest first."""

    lines: list[dict[str, Any]]
    settled: str | None
    state: str | None = "settledSuccessfully"


class Books:
    """A processor's books. `asked` lists the calls in order: `held 1`, `unsettled 2`, `batches`,
    `batch 7 1`, `details 60001`. `before` maps a call (or `lists` or `details` for any such) to a
    function, called or awaited before the answer; if it returns GONE, the connection closes."""

    def __init__(self) -> None:
        self.held: list[dict[str, Any]] = []
        self.unsettled: list[dict[str, Any]] = []
        self.batches: dict[str, Listed] = {}
        self.details: dict[str, dict[str, Any]] = {}
        self.before: dict[str, Callable[[], object]] = {}
        self.total: Callable[[str, int], int] = lambda _, total: total
        """The list length that a page claims."""
        self.asked: list[str] = []
        self.going: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        """The most simultaneous calls, of lists and of details."""

    def charge(self, number: int, name: str, at: str | None = None) -> dict[str, Any]:
        """Return a list's line; its details show a sale of 25.00 that is not settled yet."""
        self.details[str(number)] = {
            "transId": str(number),
            "transactionType": "authCaptureTransaction",
            "transactionStatus": "capturedPendingSettlement",
            "responseCode": 1,
            "responseReasonCode": 1,
            "order": {"invoiceNumber": name},
            "authAmount": 25.00,
            "settleAmount": 25.00,
        }
        return line(number, name, at or ago(0))

    def lists_asked(self) -> list[str]:
        return [call for call in self.asked if not call.startswith("details")]

    async def answer(self, method: str, fields: dict[str, Any]) -> object:
        page = fields.get("paging", {}).get("offset")
        unsettled = "held" if "status" in fields else "unsettled"
        call = {
            "getTransactionDetailsRequest": f"details {fields.get('transId')}",
            "getUnsettledTransactionListRequest": f"{unsettled} {page}",
            "getSettledBatchListRequest": "batches",
            "getTransactionListRequest": f"batch {fields.get('batchId')} {page}",
        }[method]
        self.asked.append(call)
        sort = "details" if call.startswith("details") else "lists"
        self.going[sort] += 1
        self.most[sort] = max(self.most[sort], self.going[sort])
        try:
            data = self.before.get(call, self.before.get(sort, lambda: None))()
            data = await data if inspect.isawaitable(data) else data
            return GONE if data is GONE else self._answer(call, page)
        finally:
            self.going[sort] -= 1

    def _answer(self, call: str, page: int) -> object:
        what, _, number = call.partition(" ")
        if what == "details":
            return {"transaction": self.details[number], "messages": OK}
        if what == "batches":
            listed = [
                {"batchId": name, "settlementTimeUTC": batch.settled}
                | ({} if batch.state is None else {"settlementState": batch.state})
                for name, batch in self.batches.items()
            ]
            return {"batchList": listed, "messages": OK} if listed else {"messages": NONE}
        lines: Sequence[dict[str, Any]] = {
            "held": lambda: self.held,
            "unsettled": lambda: self.unsettled,
            "batch": lambda: self.batches[number.split()[0]].lines,
        }[what]()
        total = self.total(call, len(lines))
        shown = lines[(page - 1) * 1000 : page * 1000]
        if not shown:
            return {"totalNumInResultSet": total, "messages": NONE}
        return {"transactions": shown, "totalNumInResultSet": total, "messages": OK}
