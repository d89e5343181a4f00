"""The request log survives the loss of its reader."""

import asyncio
import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from easypay.card_numbers import contains_card_number
from easypay.ids import new_request_id
from easypay.observability.access_log import AccessLog, Line, LineAgain
from easypay.observability.log_output import LogOutput
from easypay.observability.trace import accept
from harness import until


def line(number: int) -> Line:
    return Line(
        time=datetime.now(UTC), level="info", logger="easypay.request", message="GET /livez 200",
        request_id=f"req_{number}", trace_id="0", method="GET", route="/livez", status=200,
        duration_ms=1.0,
    )  # fmt: skip


async def lines_of(reading: int, count: int) -> list[str]:
    """Return the request ids, else the messages, of the next lines."""
    came = b""

    async def complete() -> bool:
        nonlocal came
        with suppress(BlockingIOError):
            came += os.read(reading, 1 << 20)
        return came.count(b"\n") >= count

    await until(complete)
    lines = map(json.loads, came.splitlines())
    return [line.get("request_id", line["message"]) for line in lines]


async def test_an_unread_log_does_not_pile_up_and_resumes_when_it_is_read(tmp_path: Path) -> None:
    """A pipe whose reader goes away and comes back."""
    pipe = tmp_path / "log"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    writing = os.open(pipe, os.O_WRONLY)
    log = AccessLog(LogOutput(writing))
    os.close(reading)
    log.write(line(1))
    await asyncio.sleep(0)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    log.write(line(2))
    report, last = await lines_of(reading, 2)
    assert report.startswith("1 lines were dropped")
    assert last == "req_2"
    os.close(reading)
    os.close(writing)


async def test_lines_of_one_turn_are_written_together_and_an_error_at_once() -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    log = AccessLog(LogOutput(writing))
    log.write(line(1))
    log.write(line(2))
    with pytest.raises(BlockingIOError):
        os.read(reading, 1)
    log.write(msgspec.structs.replace(line(3), level="error"))
    at_once = os.read(reading, 1 << 16).splitlines()
    assert [json.loads(each)["request_id"] for each in at_once] == ["req_1", "req_2", "req_3"]
    log.write(line(4))
    assert await lines_of(reading, 1) == ["req_4"]
    os.close(reading)
    os.close(writing)


def test_our_own_trace_ids_never_look_like_a_card_number() -> None:
    """It has the form of a UUID. Of random digits, one in ten thousand would look like a card
    number, and a search of the logs for card numbers would find it."""
    for _ in range(50_000):
        assert not contains_card_number(accept(None, new_request_id()).trace_id.decode())


async def test_a_line_that_is_written_again_differs_only_in_what_is_its_own() -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    log = AccessLog(LogOutput(writing))
    first = msgspec.structs.replace(line(1), coding="gzip", bytes_out=99, merchant_id="mer_1")
    digits = "01a22d3fa96d75e3b87e46089c5729e9"
    before = datetime.now(UTC)
    log.write(first)
    log.write_again(LineAgain(first), f"req_{digits}".encode(), 0.0126)
    with pytest.raises(BlockingIOError):
        os.read(reading, 1)
    await asyncio.sleep(0)
    whole, again = (json.loads(each) for each in os.read(reading, 1 << 16).splitlines())
    own = {"request_id": f"req_{digits}", "trace_id": digits, "duration_ms": 0.013}
    assert before <= datetime.fromisoformat(again["time"]) <= datetime.now(UTC)
    assert again == whole | own | {"time": again["time"]}
    assert list(again) == list(whole), "in the same order"
