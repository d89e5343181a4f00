"""`easypay worker`: whatever is killed or stopped, every piece of work ends, and none is lost."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from list_for_tests import LETTERS, LISTS, SCHEDULE, TABLE, sender

from easypay import ids
from easypay.db import work_list
from easypay.db.embedded import Cluster
from easypay.db.pool import Pool, open_pool
from easypay.db.work_loop import Done, WorkLoop
from easypay.observability.metrics import Instruments
from easypay.worker import depths
from harness import new_database, until
from harness.http import http_client
from harness.processes import ENCRYPTION_KEY, free_port

HERE = Path(__file__).parent
PROGRAM = [sys.executable, str(HERE / "list_for_tests.py")]


@pytest.fixture
async def dsn(cluster: Cluster, template: str) -> str:
    return await new_database(cluster.dsn, template)


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    opened = await open_pool(dsn, size=8)
    await opened.execute(TABLE)
    yield opened
    await opened.close()


@pytest.fixture
def start(dsn: str, tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    """Start worker processes; kill those that are left after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*program: str, **settings: str) -> "subprocess.Popen[bytes]":
        environment = {
            **os.environ,
            "EASYPAY_DATABASE_URL": dsn,
            "EASYPAY_ENCRYPTION_KEY": ENCRYPTION_KEY,
            **settings,
        }
        with (tmp_path / f"worker-{len(started)}.log").open("wb") as log:
            started.append(
                subprocess.Popen(program or PROGRAM, stdout=log, stderr=log, env=environment)
            )
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


async def write(runner: Any, *words: str) -> list[Any]:
    letters = [(ids.new_id(), each) for each in words]
    async with runner.acquire() as connection:
        await connection.executemany("INSERT INTO letters (id, words) VALUES ($1, $2)", letters)
    return [letter_id for letter_id, _ in letters]


async def attempts(runner: Any, letter_id: Any) -> int:
    count: int = await runner.fetchval("SELECT count(*) FROM sent WHERE id = $1", letter_id)
    return count


async def is_empty(runner: Any) -> bool:
    return not await runner.fetchval("SELECT count(*) FROM letters WHERE parked_at IS NULL")


@pytest.fixture
async def run(dsn: str, pool: Pool) -> AsyncIterator[Callable[..., WorkLoop]]:
    """Run loops in this process."""
    running: list[tuple[WorkLoop, asyncio.Task[None]]] = []

    def begin(**over: Any) -> WorkLoop:
        options = {"at_once": 8, "lease_s": 5.0, "schedule": SCHEDULE, **over}
        loop = WorkLoop("letters", LETTERS, dsn, options.pop("do", sender(pool)), **options)
        running.append((loop, asyncio.create_task(loop.run())))
        return loop

    yield begin
    for loop, task in running:
        await loop.stop(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_each_piece_ends_as_it_says_and_failures_follow_the_schedule(
    pool: Pool, run: Callable[..., WorkLoop]
) -> None:
    ends: list[str] = []
    good, fails, refused, back = await write(pool, "", "fails", "is refused", "comes back")
    run(ended=ends.append)
    await until(lambda: is_empty(pool))
    assert [await attempts(pool, each) for each in (good, fails, refused, back)] == [1, 3, 1, 2]
    parked = await work_list.parked(pool, LETTERS, most=9)
    assert {each.key[0]: each.reason for each in parked} == {
        fails: "ConnectionResetError: they hung up",
        refused: "410 Gone",
    }

    async def told() -> bool:
        return sorted(ends) == ["done"] * 2 + ["later"] * 3 + ["parked"] * 2

    await until(told)


async def test_one_that_hangs_holds_up_no_other_and_is_ended_before_its_lease(
    pool: Pool, run: Callable[..., WorkLoop]
) -> None:
    (hangs,) = await write(pool, "hangs")
    run(at_once=2, lease_s=0.5)
    await until(lambda: attempts(pool, hangs))
    others = await write(pool, *[""] * 20)
    await until(lambda: is_empty(pool))
    (parked,) = await work_list.parked(pool, LETTERS, most=9)
    assert (parked.key, parked.attempt, parked.reason) == ((hangs,), 3, "it took too long")
    assert await attempts(pool, hangs) == 3, "no attempt began while another was under way"
    assert [await attempts(pool, each) for each in others] == [1] * 20


async def test_a_wake_is_served_at_once(pool: Pool, run: Callable[..., WorkLoop]) -> None:
    started = asyncio.Event()

    async def note(_: Any) -> Any:
        started.set()
        return Done()

    loop = run(do=note, schedule=SCHEDULE)
    await until(lambda: pool.fetchval("SELECT true FROM pg_stat_activity LIMIT 1"))
    await write(pool, "")
    loop.wake()
    await asyncio.wait_for(started.wait(), 30)


async def test_a_stop_finishes_what_is_claimed_and_gives_back_the_rest(
    pool: Pool, run: Callable[..., WorkLoop]
) -> None:
    entered, may_end = asyncio.Event(), asyncio.Event()
    slow, hangs = await write(pool, "slow", "hangs")
    send = sender(pool)

    async def do(work: work_list.Work) -> Any:
        if work.payload == ("slow",):
            entered.set()
            await may_end.wait()
            return await send(work)
        return await send(work)

    loop = run(do=do, lease_s=60.0)
    await entered.wait()
    await until(lambda: attempts(pool, hangs))
    stopping = asyncio.create_task(loop.stop(0.3))
    may_end.set()
    await stopping
    rows = await pool.fetch("SELECT id, due_at <= db_now(), attempt, reason FROM letters")
    assert [tuple(row) for row in rows] == [(hangs, True, 1, None)], "given back, due at once"
    assert await attempts(pool, slow) == 1


async def is_working(log: Path) -> bool:
    return "working on" in log.read_text()


async def test_work_of_killed_workers_is_done_by_others(
    pool: Pool, start: Callable[..., Any], tmp_path: Path
) -> None:
    """Of three workers one is killed and one is stopped beyond its lease, then continued."""
    letters = await write(pool, *["hangs"] * 4)
    first, second = start(), start()
    await until(lambda: pool.fetchval("SELECT count(*) >= 4 FROM sent"))
    await until(lambda: is_working(tmp_path / "worker-1.log"), what="the second has begun")
    first.kill()
    second.send_signal(signal.SIGSTOP)
    await pool.execute("UPDATE letters SET words = ''")
    more = await write(pool, *[""] * 300)
    start()
    await until(lambda: is_empty(pool))
    second.send_signal(signal.SIGCONT)
    second.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(second.wait, 20) == 0
    assert await pool.fetchval("SELECT count(*) FROM letters") == 0
    counts = await pool.fetch("SELECT id, count(*), count(DISTINCT attempt) FROM sent GROUP BY id")
    done = {row[0]: (row[1], row[2]) for row in counts}
    assert set(done) == {*letters, *more}
    assert all(count == different for count, different in done.values()), "each attempt once"


async def test_a_worker_starts_quickly_shows_its_metrics_and_drains(
    pool: Pool, start: Callable[..., Any]
) -> None:
    address = f"127.0.0.1:{free_port()}"
    await write(pool, "is refused", "")
    worker = start(EASYPAY_METRICS_LISTEN=address)
    wanted = [
        'easypay_work_ended_total{how="done",list="letters"} 1.0',
        'easypay_work_ended_total{how="parked",list="letters"} 1.0',
        'easypay_work_rows{list="letters",state="ready"}',
        'easypay_work_age_seconds{list="letters"}',
    ]
    async with http_client() as client:

        async def shown() -> bool:
            try:
                text = (await client.get(f"http://{address}/metrics")).text
            except httpx.ConnectError:
                return False
            return all(line in text for line in wanted)

        await until(shown)
    worker.terminate()
    assert await asyncio.to_thread(worker.wait, 20) == 0


async def test_the_depths_are_copied_into_the_metrics(pool: Pool) -> None:
    instruments = Instruments()
    await write(pool, "", "", "")
    (work,) = await work_list.claim(pool, LETTERS, most=1, lease_s=60)
    await work_list.park(pool, LETTERS, [(work.key, 1, "gone")])
    watching = asyncio.create_task(depths.watch(pool, LISTS, instruments))
    try:

        async def shown() -> bool:
            text = instruments.registry.text().decode()
            return (
                'easypay_work_rows{list="letters",state="ready"} 2.0' in text
                and 'easypay_work_rows{list="letters",state="parked"} 1.0' in text
            )

        await until(shown)
    finally:
        watching.cancel()


async def test_the_command_works_without_any_list_and_refuses_an_old_schema(
    dsn: str, pool: Pool, start: Callable[..., Any], tmp_path: Path
) -> None:
    command = (sys.executable, "-m", "easypay", "worker")
    worker = start(*command)

    async def working() -> bool:
        return b"working on" in (tmp_path / "worker-0.log").read_bytes()

    await until(working)
    worker.terminate()
    assert await asyncio.to_thread(worker.wait, 20) == 0
    await pool.execute("DELETE FROM migrations WHERE name LIKE '0018%'")
    old = start(*command)
    assert await asyncio.to_thread(old.wait, 20) == 1
    assert b"run `easypay migrate`" in (tmp_path / "worker-1.log").read_bytes()
