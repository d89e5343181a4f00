"""A process that writes months: `python -m easypay.seeding.worker`, started by `run`.

It reads one line of JSON with the database and the plan, then a line for each month to write; it
answers with a line for each part that it has written, and one for each month or failure. It ends
when its input ends, so that it does not outlive the command that started it.
"""

import asyncio
import os
import sys
import threading
from datetime import datetime
from typing import Any, Literal

import asyncpg
import msgspec

from easypay.seeding.month import Writer
from easypay.seeding.plan import Plan


class Start(msgspec.Struct):
    """The first line of input."""

    database_url: str
    plan: Plan


class Said(msgspec.Struct):
    """A line of output."""

    what: Literal["wrote", "done", "failed"]
    payments: int = 0
    month: datetime | None = None
    why: str = ""


def _say(said: Said) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
    sys.stdout.buffer.flush()


async def _work(start: Start, months: "asyncio.Queue[datetime]") -> None:
    connection: Any = await asyncpg.connect(
        start.database_url,
        timeout=10,
        server_settings={"application_name": "easypay seed", "maintenance_work_mem": "128MB"},
    )
    writer = Writer(connection, start.plan, lambda n: _say(Said("wrote", payments=n)))
    while True:
        month = await months.get()
        await writer.write(month)
        _say(Said("done", month=month))


async def _run() -> None:
    loop = asyncio.get_running_loop()
    start = msgspec.json.decode(sys.stdin.buffer.readline(), type=Start)
    months: asyncio.Queue[datetime] = asyncio.Queue()

    def read() -> None:
        for line in sys.stdin.buffer:
            month = msgspec.json.decode(line, type=datetime)
            loop.call_soon_threadsafe(months.put_nowait, month)
        os._exit(0)  # the server ends the transaction of a client that is gone

    threading.Thread(target=read, daemon=True).start()
    await _work(start, months)


def main() -> None:
    """The program."""
    try:
        asyncio.run(_run())
    except Exception as error:  # noqa: BLE001 - whatever it is, the command reports it
        _say(Said("failed", why=f"{type(error).__name__}: {error}"))
        sys.exit(1)


if __name__ == "__main__":
    main()
