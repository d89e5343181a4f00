"""Errors of all processes are grouped by kind, and nothing that a client sent is kept."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from easypay.db.pool import Pool, open_pool
from easypay.observability import error_kinds
from easypay.observability.error_kinds import MOST_KINDS, MOST_WAITING, ErrorKinds, kind_of
from harness.commands import run_easypay

CARD = "4111111111111111"
log = logging.getLogger("easypay.somewhere")


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database, size=4)
    yield opened
    await opened.close()


def record(
    text: object, *arguments: object, error: BaseException | None = None
) -> logging.LogRecord:
    info = None if error is None else (type(error), error, error.__traceback__)
    level = logging.ERROR
    return logging.LogRecord(log.name, level, "somewhere.py", 7, text, arguments, info, "work")


def raised(text: str) -> ValueError:
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


def test_a_kind_is_the_place_and_the_text_without_what_varies() -> None:
    first = kind_of(record("request %s failed", "req_1", error=raised(f"card {CARD} of Jane")))
    second = kind_of(record("request %s failed", "req_2", error=raised("jane@example.com")))
    assert first == second
    assert first.exception == "ValueError"
    assert first.place == "raised (observability/test_error_kinds.py)"
    assert first.message == "request %s failed"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Task exception was never retrieved\nfuture: <Task 'Jane'>",
         "Task exception was never retrieved"),
        ("cannot pay 'Jane Doe' at jane@example.com for req_019b", "cannot pay … at … for …"),
        (f"card {CARD} was refused", "card … was refused"),
        ("<Protocol fd=7> said \"no\"", "… said …"),
    ],
)  # fmt: skip
def test_a_text_that_is_whole_already_loses_every_value(text: str, kept: str) -> None:
    assert kind_of(record(text)).message == kept


def test_the_text_of_an_exception_is_not_kept_if_it_is_the_line() -> None:
    kind = kind_of(record(ValueError("no account for Jane Doe")))
    assert (kind.exception, kind.message) == ("ValueError", "")


async def test_a_text_that_nobody_can_store_holds_up_no_other(pool: Pool) -> None:
    """PostgreSQL refuses NUL, UTF-8 half a character, and a terminal obeys an escape."""
    process = ErrorKinds(lambda _: None)
    process.handle(record("half \udc80 nothing \x00 red \x1b[31m"))
    process.handle(record("another"))
    await process.write(pool)
    assert {each.message for each in await error_kinds.kinds(pool, 10)} == {
        "half … nothing … red …", "another",
    }  # fmt: skip


async def test_the_last_errors_of_a_process_are_written_when_it_stops(pool: Pool) -> None:
    running = asyncio.create_task(ErrorKinds(lambda _: None).run(pool))
    await asyncio.sleep(0)
    log.error("why it stops")
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert [each.message for each in await error_kinds.kinds(pool, 10)] == ["why it stops"]


async def test_what_is_locked_is_forgotten_later_and_nothing_counts_twice(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    await pool.execute(
        "INSERT INTO error_kinds SELECT sha256(n::text::bytea), 'error', '', '', n::text, 1,"
        " 'epoch', to_timestamp(n) FROM generate_series(1, 600) n"
    )
    process = ErrorKinds(lambda _: None)
    process.handle(record("the newest"))
    async with pool.acquire() as other, other.transaction():
        await other.execute("SELECT FROM error_kinds WHERE message = '1' FOR UPDATE")
        with caplog.at_level(logging.WARNING, "easypay.observability.error_kinds"):
            async with asyncio.timeout(8):
                await process.write(pool)
    assert len(caplog.messages) == 1
    await process.write(pool)
    rows = await error_kinds.kinds(pool, 1_000)
    assert (rows[0].message, rows[0].count) == ("the newest", 1)
    assert len(rows) == MOST_KINDS + 1, "all but the one that was locked"


async def test_kinds_are_added_up_over_processes_and_a_new_one_is_told_once(
    pool: Pool, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    levels: list[str] = []
    found: list[None] = []
    processes = [ErrorKinds(levels.append, lambda: found.append(None)) for _ in range(3)]
    with caplog.at_level(logging.WARNING, "easypay.observability.error_kinds"):
        for n, process in enumerate(processes):
            for _ in range(n + 1):
                process.handle(record("request %s failed", f"req_{n}", error=raised(CARD)))
        await asyncio.gather(*(process.write(pool) for process in processes))
    assert levels == ["error"] * 6
    assert len(found) == 1
    (told,) = caplog.messages
    assert told.startswith("a new kind of error: error ValueError at raised (observability/")
    env = {"EASYPAY_DATABASE_URL": database, "EASYPAY_ENCRYPTION_KEY": "A" * 43 + "="}
    shown = run_easypay("errors", "--json", **env).data["data"]
    (row,) = shown
    assert (row["count"], row["message"]) == (6, "request %s failed")
    assert row["first_seen"] <= row["last_seen"]
    assert CARD not in str(shown)
    for process in processes:
        await process.write(pool)
    assert [each.count for each in await error_kinds.kinds(pool, 10)] == [6], "none counts twice"


async def test_what_cannot_be_written_waits_and_memory_and_rows_are_bounded(database: str) -> None:
    process = ErrorKinds(lambda _: None)
    gone = await open_pool(database, size=1)
    await gone.close()
    for n in range(MOST_WAITING + 50):
        process.handle(record("x" * (n + 1) if n < 150 else f"{'y ' * (n - 149)}"))
    await process.write(gone)
    pool = await open_pool(database, size=1)
    try:
        await process.write(pool)
        rows = await error_kinds.kinds(pool, 1_000)
        assert sum(each.count for each in rows) == MOST_WAITING + 50
        assert len(rows) <= MOST_WAITING + 1
        await pool.execute(
            "INSERT INTO error_kinds SELECT sha256(n::text::bytea), 'error', '', '', n::text, 1,"
            " 'epoch', 'epoch' FROM generate_series(1, 600) n"
        )
        process.handle(record("the newest"))
        await process.write(pool)
        rows = await error_kinds.kinds(pool, 1_000)
        assert len(rows) == MOST_KINDS
        assert rows[0].message == "the newest"
    finally:
        await pool.close()
