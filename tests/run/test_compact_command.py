"""`easypay db compact`, as an operator runs it, and killed at every step."""

import asyncio
import json
import signal
from typing import Any

import pytest
from typer.testing import CliRunner

from easypay.command_line.main import app
from easypay.compaction import copy
from easypay.db import compacted_months, partitions
from easypay.db.embedded import Cluster
from easypay.failpoints import COMPACT_NAMES
from harness import connected, new_database, old_month, run_easypay

MONTH = old_month.start()
SUFFIX = partitions.suffix_of(MONTH)
NEXT = partitions.suffix_of(partitions.month_start(MONTH, 1))


@pytest.fixture
async def database(cluster: Cluster, template: str) -> str:
    """Return the DSN of a database with an old month, and an empty one after it."""
    dsn = await new_database(cluster.dsn, template)
    async with connected(dsn) as connection:
        await old_month.make_tables(connection, MONTH)
        await old_month.fill(connection, MONTH)
    return dsn


def killed(dsn: str, failpoint: str) -> int:
    """Run the command in a process of its own, which dies at the failpoint. Return its status."""
    settings = {"EASYPAY_DATABASE_URL": dsn, "EASYPAY_FAILPOINT": failpoint}
    return run_easypay("db", "compact", **settings).code


async def rows_of(connection: Any) -> dict[str, list[str]]:
    """Return all rows as text, operations without their replies."""
    return {
        table: [
            row[0]
            for row in await connection.fetch(
                f"SELECT (to_jsonb(t) - 'reply_status' - 'reply_body')::text FROM {table} t"
                " ORDER BY id"
            )
        ]
        for table in partitions.PARTITIONED
    }


async def test_a_kill_at_any_step_loses_nothing_and_the_next_run_cleans_up(database: str) -> None:
    async with connected(database) as connection:
        before = await rows_of(connection)
        compacted = []
        for name in COMPACT_NAMES:
            assert await asyncio.to_thread(killed, database, name) == -signal.SIGKILL, name
            assert await rows_of(connection) == before
            done = {each.month for each in await compacted_months.every(connection)}
            replies = await connection.fetchval(
                f"SELECT count(reply_body) FROM operations_{SUFFIX}"
            )
            assert (SUFFIX in done) == (replies == 0)
            compacted.append(SUFFIX in done)
            # A minute passes, and the lease of the process that died ends.
            await connection.execute("UPDATE leases SET leased_until = now()")
        assert compacted == sorted(compacted)
        assert set(compacted) == {False, True}
        last = await asyncio.to_thread(run, database, "compact", "--json")
        assert json.loads(last.stdout)["stay"] == []
        assert await copy.leftovers(connection) == []
        assert await connection.fetchval("SELECT count(*) FROM archive_changes") == 0
        assert (
            await connection.fetchval(
                "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'compact%'"
            )
            == 0
        )
        assert await rows_of(connection) == before


def run(dsn: str, *words: str) -> Any:
    """Run a command in this process, which saves its start-up."""
    return CliRunner().invoke(app, ["db", *words], env={"EASYPAY_DATABASE_URL": dsn})


async def test_the_command_says_what_it_does(database: str) -> None:
    async def said(*words: str) -> Any:
        return await asyncio.to_thread(run, database, *words)

    assert (await said("compact", "2026-13")).exit_code == 2
    early = await said("compact", f"{old_month.start(0):%Y-%m}")
    assert early.exit_code == 1
    assert "can be compacted from" in early.stdout
    done = await said("compact", SUFFIX)
    assert done.exit_code == 0
    assert f"Compacted {SUFFIX}: 60 operations, now " in done.stdout
    rest = json.loads((await said("compact", "--json")).stdout)
    assert NEXT in {each["month"] for each in rest["compacted"]}
    assert (await said("compact")).stdout == "No month is due.\n"
    months = json.loads((await said("partitions", "--json")).stdout)["months"]
    (shown,) = [each for each in months if each["month"] == SUFFIX]
    assert shown["compacted"]["operations"] == 60
    assert "saved" in (await said("partitions")).stdout
