"""A log that nobody reads blocks nothing, and later states how many lines are missing."""

import asyncio
import gc
import json
import logging
import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from easypay.observability import logs
from easypay.observability.error_kinds import ErrorKinds
from easypay.observability.log_output import MOST_BYTES, MOST_GATHERED_BYTES, LogOutput
from harness import QUICK, Gateway, Stack, http_client, until

LINE = b"x" * 1023 + b"\n"


def pipe_pair() -> tuple[int, int]:
    return os.pipe()


def socket_pair() -> tuple[int, int]:
    reading, writing = socket.socketpair()
    return reading.detach(), writing.detach()


@pytest.mark.parametrize("pair", [pipe_pair, socket_pair])
async def test_lines_without_room_are_dropped_counted_and_reported(pair: object) -> None:
    """The reader comes back after far more lines than the buffers hold."""
    reading, writing = pair()  # type: ignore[operator]
    output = LogOutput(writing)
    lines = 4 * MOST_BYTES // len(LINE)
    for _ in range(lines):
        output.write(LINE)
    assert os.get_blocking(writing), "the descriptor's flags must stay: others share it"
    os.set_blocking(reading, False)
    came = b""

    async def complete() -> bool:
        nonlocal came
        try:
            while more := os.read(reading, 1 << 20):
                came += more
        except BlockingIOError:
            pass
        return b"were dropped" in came

    await until(complete)
    whole = came.splitlines(keepends=True)
    (notice,) = (json.loads(line) for line in whole if line != LINE)
    assert notice["message"].startswith(f"{lines - (len(whole) - 1)} lines were dropped")
    output.write(b"after\n")
    await until(complete)
    assert came.endswith(b"after\n")
    os.close(reading)
    os.close(writing)


def test_a_closed_pipe_and_a_file_do_not_stop_the_log(
    tmp_path: Path,
) -> None:
    reading, writing = os.pipe()
    output = LogOutput(writing)
    os.close(reading)
    for _ in range(10):
        output.write(LINE)
    output.flush()
    os.close(writing)
    with (tmp_path / "log").open("wb") as file:
        LogOutput(file.fileno()).write(LINE * 3000)
    assert (tmp_path / "log").read_bytes() == LINE * 3000


def test_lines_of_many_threads_are_written_whole() -> None:
    reading, writing = os.pipe()
    output = LogOutput(writing)
    whole = 4 * 200 * 100
    came = b""

    def write(line: bytes) -> None:
        for _ in range(200):
            output.write(line * 50)

    writers = [threading.Thread(target=write, args=(b"%d\n" % n,)) for n in range(4)]
    for writer in writers:
        writer.start()
    while len(came) < whole:
        output.flush()
        came += os.read(reading, 1 << 16)
    for writer in writers:
        writer.join()
    assert len(came) == whole
    assert set(came.splitlines()) == {b"0", b"1", b"2", b"3"}
    os.close(reading)
    os.close(writing)


def test_a_line_that_the_collector_logs_while_one_is_written_holds_up_nobody(
    tmp_path: Path,
) -> None:
    """Python's collector runs at any allocation, and logs the error of a task that nobody awaited:
    in the same thread, which may have the log's lock."""
    record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "%s", ("y",), None, "f")
    kinds = ErrorKinds(lambda _: None)
    with (tmp_path / "log").open("wb") as file:
        output = LogOutput(file.fileno())

        def log_something() -> None:
            kinds.handle(record)
            output.write(LINE)

        def collected(phase: str, info: object) -> None:
            if threading.current_thread() is thread and phase == "start":
                log_something()

        thread = threading.Thread(target=lambda: [log_something() for _ in range(3)], daemon=True)
        before = gc.get_threshold()
        gc.callbacks.append(collected)
        gc.set_threshold(1, 1 << 30, 1 << 30)
        try:
            thread.start()
            thread.join(10)
        finally:
            gc.set_threshold(*before)
            gc.callbacks.remove(collected)
        assert not thread.is_alive(), "it waits for itself"
    assert (tmp_path / "log").read_bytes().count(LINE) > 3


def test_a_line_that_cannot_be_written_shows_none_of_its_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = logs._Lines()
    handler.setFormatter(logs.JsonLines())
    card = "4111111111111111"
    with (tmp_path / "log").open("wb") as file:
        monkeypatch.setattr(logs, "standard_error", lambda: LogOutput(file.fileno()))
        handler.handle(
            logging.LogRecord("somewhere", logging.INFO, "x.py", 1, "%d of", (card,), None, "pay")
        )
    shown = (tmp_path / "log").read_text()
    assert json.loads(shown)["message"] == "a line of x.pay cannot be written: TypeError"
    assert card not in shown


async def test_gathered_lines_keep_their_place_and_are_bounded() -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    output = LogOutput(writing)
    output.gather(b"first\n")
    output.write(b"second\n")
    assert os.read(reading, 100) == b"first\nsecond\n", "what is written at once comes after it"
    for _ in range(MOST_GATHERED_BYTES // len(LINE) + 1):
        output.gather(LINE)
    came = os.read(reading, 2 * MOST_GATHERED_BYTES)
    assert came.count(b"\n") > 1, "too many to wait for the end of the turn"
    output.flush()
    os.close(reading)
    os.close(writing)


def test_lines_of_the_last_turn_are_written_when_the_process_ends() -> None:
    """Whether it ends by itself or by an exception that nobody caught."""
    program = """
import asyncio, sys
from easypay.observability import logs

async def main():
    logs.configure()
    logs.standard_error().gather(b"gathered\\n")
    if sys.argv[1] == "crash":
        raise SystemError

asyncio.run(main())
"""
    for how in ("end", "crash"):
        done = subprocess.run(
            [sys.executable, "-c", program, how], capture_output=True, text=True, check=False
        )
        assert done.stderr.count("gathered\n") == 1, done.stderr
        assert done.returncode == (1 if how == "crash" else 0)


async def test_a_gateway_whose_log_nobody_reads_still_takes_payments(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its standard error is a pipe that is full from the start."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, LINE)
    os.set_blocking(writing, True)
    monkeypatch.setattr(Path, "open", lambda self, mode="r": os.fdopen(os.dup(writing), "wb"))
    gateway = Gateway(stack.folder, stack.dsn, stack.simulator, **QUICK)
    monkeypatch.undo()
    stack.processes.append(gateway)
    async with http_client(base_url=gateway.url, timeout=5) as client:

        async def answers() -> bool:
            try:
                return (await client.get("/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        await until(answers)
        shop = await stack.shop(gateway)
        await asyncio.gather(*(shop.paid() for _ in range(20)))
        for _ in range(20):
            assert (await client.get("/nothing")).status_code == 404
    code = asyncio.create_task(asyncio.to_thread(gateway.terminate))
    assert await code == 0
    os.close(reading)
    os.close(writing)
