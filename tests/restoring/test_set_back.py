"""Whether a gateway notices that its database is a copy of an earlier time, and only then."""

import subprocess
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from easypay.db import postgres_binaries, set_back
from easypay.db.embedded import Cluster
from easypay.db.pool import open_pool
from easypay.db.set_back import SetBack, SignsOfLife
from harness import QUICK, Gateway, Simulator, Stack, new_database, run_easypay, stack_over

OTHER_TIMELINE = "UPDATE configuration SET timeline = '0000000F'"
"""As a failover and a recovery to a point in time leave it: the mark is of the timeline before."""


@pytest.fixture
async def stack(
    cluster: Cluster, template: str, simulator: Simulator, tmp_path: Any
) -> AsyncIterator[Stack]:
    async with stack_over(cluster, template, simulator, tmp_path) as made:
        yield made


async def starts(stack: Stack) -> bool:
    async with stack.sessions.session() as connection:
        with suppress(SetBack):
            await set_back.check_at_start(connection)
            return True
    return False


async def silent_for(stack: Stack, seconds: int) -> None:
    sql = "UPDATE configuration SET alive_at = db_now() - make_interval(secs => $1)"
    await stack.fetch(sql, seconds)


async def test_a_failover_stops_no_gateway_and_a_recovery_does(stack: Stack) -> None:
    assert await starts(stack), "the first start"
    await silent_for(stack, 3 * 86_400)
    assert await starts(stack), "stopped for days, and nothing else"
    await stack.fetch(OTHER_TIMELINE)
    await silent_for(stack, 90)
    assert await starts(stack), "a failover: a gateway was there a moment before"
    await stack.fetch(OTHER_TIMELINE)
    await silent_for(stack, 3600)
    assert not await starts(stack)
    assert not await starts(stack), "a refused start is no sign of life"


async def test_a_running_gateway_goes_on_if_its_last_sign_is_there(stack: Stack) -> None:
    stopped: list[bool] = []
    assert await starts(stack)
    pool = await open_pool(stack.dsn, size=1)
    try:
        signs = SignsOfLife(pool, lambda: stopped.append(True))
        await signs.leave()
        last = await stack.value("SELECT alive_at FROM configuration")
        await stack.fetch(OTHER_TIMELINE)
        await stack.move_clock(7200)  # the database was away for two hours
        await signs.leave()
        assert not stopped
        await stack.fetch(OTHER_TIMELINE)
        set_back_by_a_second = (
            "UPDATE configuration SET alive_at = $1::timestamptz - interval '1 s'"
        )
        await stack.fetch(set_back_by_a_second, last)
        await signs.leave()
        assert stopped, "what it had written before is gone"
    finally:
        await pool.close()
    assert not await starts(stack)


async def test_a_restored_dump_is_served_after_somebody_accepted_it(
    stack: Stack, cluster: Cluster
) -> None:
    await starts(stack)
    dump = stack.folder / "easypay.dump"
    copy = Stack(await new_database(cluster.dsn, None), stack.simulator, stack.folder)
    programs = postgres_binaries.find().directory
    for program, *words in (
        ("pg_dump", "--format=custom", "--file", str(dump), stack.dsn),
        ("pg_restore", "--no-owner", "--exit-on-error", "--dbname", copy.dsn, str(dump)),
    ):
        subprocess.run([programs / program, *words], check=True)
    with copy:
        refused = Gateway(copy.folder, copy.dsn, copy.simulator, **QUICK)
        copy.processes.append(refused)
        assert refused.process.wait(20) != 0
        assert "it was restored from a dump or copied" in refused.logs()
        worker = copy.worker()
        assert worker.process.wait(20) != 0
        assert "easypay db after-restore" in worker.logs()

        words = ("db", "after-restore", "--accept")
        assert run_easypay(*words, **copy.env).code == 2, "not without a reason"
        done = run_easypay(*words, "--because", "a copy for trials", **copy.env)
        assert done.code == 0, done.err
        (entry,) = await copy.fetch("SELECT action, detail FROM audit_entries")
        assert entry["action"] == "database.accept"
        assert "a copy for trials" in entry["detail"]
        await copy.gateway(**QUICK)
