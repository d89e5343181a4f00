"""Reports as a test wants them: a server that answers each reporting call by its method and fields,
and the books of a processor that such a server shows page by page."""

import asyncio
import inspect
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from time import time
from typing import Any, Final, NamedTuple

from easypay.processors.base import Account
from recorded import bodies

from .example_requests import authorize_net_account

OK: Final = {"resultCode": "Ok", "message": [{"code": "I00001", "text": "Successful."}]}
NONE: Final = {"resultCode": "Ok", "message": [{"code": "I00004", "text": "No records found."}]}
GONE: Final = object()
"""In place of an answer: the connection closes without a word."""

Answer = Callable[[str, dict[str, Any]], object]
"""May be a coroutine function."""


@asynccontextmanager
async def reporting(answer: Answer) -> AsyncIterator[Account]:
    """A server that answers each call by its method and fields, in JSON or with these bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                ((method, fields),) = json.loads(await reader.readexactly(length)).items()
                told = answer(method, fields)
                told = await told if inspect.isawaitable(told) else told
                if told is GONE:
                    return
                body = told if isinstance(told, bytes) else bodies.BOM + json.dumps(told).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield authorize_net_account(f"http://127.0.0.1:{port}/", "a", "b")
    finally:
        server.close()


def line(number: int, name: str = "other", at: str = "2999-01-01T00:00:00Z") -> dict[str, Any]:
    return {"transId": str(number), "invoiceNumber": name, "submitTimeUTC": at}


def ago(seconds: float) -> str:
    """That long before now, as the processor writes it."""
    return datetime.fromtimestamp(time() - seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Listed(NamedTuple):
    """A batch, and what it settled, newest first."""

    lines: list[dict[str, Any]]
    settled: str | None
    state: str | None = "settledSuccessfully"


class Books:
    """What a processor would show. `asked` keeps each call in order: `held 1`, `unsettled 2`,
    `batches`, `batch 7 1`, `details 60001`; `before` has what is done, or awaited, when
    such a call (or any of `lists` or `details`) comes; where that gives GONE, no answer does."""

    def __init__(self) -> None:
        self.held: list[dict[str, Any]] = []
        self.unsettled: list[dict[str, Any]] = []
        self.batches: dict[str, Listed] = {}
        self.details: dict[str, dict[str, Any]] = {}
        self.before: dict[str, Callable[[], object]] = {}
        self.total: Callable[[str, int], int] = lambda _, total: total
        """What a page claims as the length of its list."""
        self.asked: list[str] = []
        self.going: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        """How many calls went on at once, at most: of lists, and of details."""

    def charge(self, number: int, name: str, at: str | None = None) -> dict[str, Any]:
        """A line for a list; its details are those of a sale of 25.00 that waits to settle."""
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
            told = self.before.get(call, self.before.get(sort, lambda: None))()
            told = await told if inspect.isawaitable(told) else told
            return GONE if told is GONE else self._told(call, page)
        finally:
            self.going[sort] -= 1

    def _told(self, call: str, page: int) -> object:
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
