"""`easypay jobs`: what is parked is seen, retried or dropped, and that is written down."""

import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from list_for_tests import LETTERS, LISTS, TABLE

from easypay import ids
from easypay.db import work_list
from easypay.db.embedded import Cluster
from easypay.db.pool import Pool, open_pool
from easypay.db.work_list import WorkList
from easypay.worker import jobs, registry
from easypay.worker.registry import Listed
from harness import new_database

(LISTED,) = LISTS
TWO_PARTS = WorkList("letters", (("shop", "text"), ("nth", "integer")))


@pytest.fixture
async def pool(cluster: Cluster, template: str) -> AsyncIterator[Pool]:
    opened = await open_pool(await new_database(cluster.dsn, template), size=2)
    await opened.execute(TABLE)
    yield opened
    await opened.close()


async def park(runner: Any, count: int) -> list[Any]:
    letters = [ids.new_id() for _ in range(count)]
    for letter_id in letters:
        await runner.execute("INSERT INTO letters (id, words) VALUES ($1, '')", letter_id)
    claimed = await work_list.claim(runner, LETTERS, most=count, lease_s=60)
    await work_list.park(runner, LETTERS, [(work.key, 1, "410 Gone") for work in claimed])
    return letters


async def test_parked_jobs_are_retried_or_dropped_and_it_is_written_down(pool: Pool) -> None:
    first, second, third = await park(pool, 3)
    found = await jobs.list_parked(pool, LISTS, 10)
    assert [(job.list, job.job, job.attempts, job.reason) for job in found] == [
        ("letters", each.hex, 1, "410 Gone") for each in (first, second, third)
    ]
    async with pool.acquire() as connection:
        options = {"actor": "ada", "because": "their server is back"}
        unknown = ids.new_id().hex
        retried = await jobs.retry(connection, LISTED, [first.hex, unknown], **options)
        dropped = await jobs.drop(connection, LISTED, [second.hex], **options)
    assert (retried, dropped) == ([first.hex], [second.hex])
    (depth,) = await jobs.depths(pool, LISTS)
    assert (depth.list, depth.ready, depth.waiting, depth.parked) == ("letters", 1, 0, 1)
    entries = await pool.fetch("SELECT actor, action, subject, detail FROM audit_entries")
    assert {tuple(row) for row in entries} == {
        ("ada", "job.retry", f"letters/{first.hex}", '{"because": "their server is back"}'),
        ("ada", "job.drop", f"letters/{second.hex}", '{"because": "their server is back"}'),
    }
    assert [job.job for job in await jobs.list_parked(pool, LISTS, 10)] == [third.hex]
    every = await jobs.depths(pool, registry.LISTS)
    assert {(each.ready, each.waiting, each.parked, each.oldest_s) for each in every} == {
        (0, 0, 0, 0.0)
    }


async def test_nothing_is_changed_if_it_cannot_be_written_down(pool: Pool) -> None:
    (letter,) = await park(pool, 1)
    async with pool.acquire() as connection:
        with pytest.raises(Exception, match="null value"):
            await jobs.drop(connection, LISTED, [letter.hex], actor=None, because="x")  # type: ignore[arg-type]
    assert len(await jobs.list_parked(pool, LISTS, 10)) == 1


def test_a_key_is_read_back_from_its_text() -> None:
    key = ("shop", 7)
    assert jobs.key_of(TWO_PARTS, jobs.job_of(key)) == key
    for wrong in ("shop", "shop/x", "a/1/2"):
        with pytest.raises(ValueError, match=r"part|invalid"):
            jobs.key_of(TWO_PARTS, wrong)
    assert Listed("letters", LETTERS, LISTED.make) == LISTED


def test_a_list_that_is_not_there_is_refused_with_those_that_are() -> None:
    command = [sys.executable, "-m", "easypay", "jobs", "retry", "nothing", "x", "--because", "y"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "there is no list 'nothing'" in " ".join(ended.stderr.split())
