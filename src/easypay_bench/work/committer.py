"""Takes payments through begin and record as a gateway does, without HTTP and without a processor:
`python -m easypay_bench.work.committer`.

The statements, groups and lanes are the gateway's of this commit. So the database sees what it sees
under a gateway, and most of the machine is left for what follows the payments.

It reads its order as one JSON line, says `ready` when every lane has been used, waits for `go`,
takes payments by the clock, and reports in one JSON line.
"""

import asyncio
import sys
from time import perf_counter
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec
import uvloop

from easypay import clock, ids
from easypay.db import partitions
from easypay.db.group_commit import GroupCommitter
from easypay.merchants.model import Caller
from easypay.mode import Mode
from easypay.payments import statements
from easypay.payments.begin import Ask, new_payment
from easypay.payments.requests import CreatePayment
from easypay.payments.statements import Recorder, Statement
from easypay.processors.base import Approved
from easypay_bench.generator import cpu_s
from easypay_bench.payment_request import AMOUNTS, LOWEST_MINOR, body_of
from easypay_bench.yardstick import Groups, groups_of

_AT_ONCE: Final = 1_000
"""Payments that have begun and are not recorded. If there are more, the rate is not reached."""
_WARMUP: Final = 200
_PATIENCE_S: Final = 30.0
_INQUIRY_S: Final = 5.0
_DIGEST: Final = bytes(32)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Take so many payments of a merchant, so many per second."""

    database_url: str
    merchant_id: UUID
    count: int
    rate: float


class Taken(msgspec.Struct, frozen=True):
    """What came of an order."""

    seconds: float
    cpu_s: float


class Committer:
    """A gateway's way from a request to the recorded outcome, with the calls left out."""

    def __init__(self, order: Order, months: partitions.Months, groups: Groups) -> None:
        def committer(statement: Statement[Any, Any]) -> GroupCommitter[Any, Any]:
            lanes = [
                statements.lane(statement, order.database_url, n + 1)
                for n in range(groups.in_flight)
            ]
            return statements.group_committer(
                statement,
                lanes,
                month_of=months.of,
                size=groups.size,
                limit=None,
                patience_s=_PATIENCE_S,
            )

        self._order = order
        self._begin = committer(statements.BEGIN)
        self._record = committer(statements.RECORD_CHANGES)
        self._recorder = Recorder(self._record, None, first_inquiry_s=_INQUIRY_S)
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._caller = Caller(
            merchant_id=order.merchant_id,
            mode=Mode.TEST,
            key_id=order.merchant_id,
            scopes=frozenset(),
            currencies=frozenset(),
            allow_raw_cards=True,
            expires_at=None,
            login=None,
        )

    async def close(self) -> None:
        """Close the lanes."""
        await asyncio.gather(self._begin.close(), self._record.close())

    async def take(self, count: int, rate: float) -> Taken:
        """Take payments by the clock. Later ones wait while too many are under way."""
        started, used_s = perf_counter(), cpu_s()
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                if (early_s := started + number / rate - perf_counter()) > 0:
                    await asyncio.sleep(early_s)
                await self._room.acquire()
                group.create_task(self._pay(number))
        return Taken(perf_counter() - started, cpu_s() - used_s)

    async def _pay(self, number: int) -> None:
        ask = Ask(self._caller, ids.new_id().hex, _DIGEST)
        asked = body_of(amount=LOWEST_MINOR + number % AMOUNTS, order_reference=f"order-{number}")
        body = msgspec.convert(asked, CreatePayment)
        new = new_payment(ask, body, "authorize_net", lambda _: _DIGEST, clock.now())
        assert await self._begin.submit(new), "its key is new"
        approved = Approved(transaction_id=f"{number}", amount_minor=body.amount)
        recorded = await self._recorder.record(new.operation, new.payment, approved)
        assert recorded.first, "nobody else knows it"
        self._room.release()


async def _main() -> None:
    loop = asyncio.get_running_loop()
    line = await loop.run_in_executor(None, sys.stdin.readline)
    order, months = msgspec.json.decode(line, type=Order), partitions.Months()
    connection = await asyncpg.connect(order.database_url)
    await months.load(connection)
    await connection.close()
    committer = Committer(order, months, groups_of({}))
    await committer.take(min(_WARMUP, order.count), order.rate)
    _say("ready")
    await loop.run_in_executor(None, sys.stdin.readline)
    taken = await committer.take(order.count, order.rate)
    await committer.close()
    _say(msgspec.json.encode(taken).decode())


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(_main())
