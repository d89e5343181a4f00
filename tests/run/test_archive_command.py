"""`easypay db archive` and `restore-month`, as an operator runs them, and killed at every step."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from typer.testing import CliRunner

from easypay import ids
from easypay.archiving import archive, manifest
from easypay.command_line.main import app
from easypay.db import archived_months, partitions
from easypay.db.embedded import Cluster
from easypay.failpoints import ARCHIVE_NAMES
from harness import Output, new_database, old_month, run_easypay

MONTH = old_month.start()
SUFFIX = partitions.suffix_of(MONTH)


@pytest.fixture
async def database(cluster: Cluster, template: str) -> str:
    """Return the DSN of a database with an old month."""
    dsn = await new_database(cluster.dsn, template)
    connection = await asyncpg.connect(dsn)
    await old_month.make_tables(connection, MONTH)
    await old_month.fill(connection, MONTH)
    await old_month.number_events(connection)
    await connection.close()
    return dsn


def easypay(dsn: str, *words: str, failpoint: str = "") -> Output:
    """Run a command in a process of its own, which dies when it reaches the failpoint."""
    point = {"EASYPAY_FAILPOINT": failpoint} if failpoint else {}
    return run_easypay("db", *words, EASYPAY_DATABASE_URL=dsn, **point)


async def rows_of(connection: Any) -> dict[str, list[str]]:
    return {
        table: [
            row[0] for row in await connection.fetch(f"SELECT t::text FROM {table} t ORDER BY id")
        ]
        for table in partitions.PARTITIONED
    }


async def check_nothing_is_lost(connection: Any, before: Any, to: Path) -> bool:
    """Return whether the month has left the database. All of it is there, or in the files."""
    if await archived_months.named(connection, SUFFIX) is None:
        assert await rows_of(connection) == before
        return False
    assert await rows_of(connection) == {table: [] for table in partitions.PARTITIONED}
    made = manifest.read(to)
    for each in made.tables:
        found = archive.read_back(
            to / each.file, made.format, each.table, each.columns, 0, lambda *_: None
        )
        assert found == each.contents
    return True


async def test_a_kill_at_any_step_loses_nothing_and_the_next_run_goes_on(
    database: str, tmp_path: Path
) -> None:
    connection = await asyncpg.connect(database)
    before = await rows_of(connection)
    to = tmp_path / "archive"
    leave = ("archive", SUFFIX, "--to", str(to), "--format", "csv")
    left = []
    for name in (each for each in ARCHIVE_NAMES if each.startswith("archive_")):
        killed = easypay(database, *leave, failpoint=name)
        assert killed.code == -signal.SIGKILL, (name, killed.err)
        left.append(await check_nothing_is_lost(connection, before, to))
    assert left == sorted(left)
    assert set(left) == {False, True}
    finished = easypay(database, *leave, "--json").data
    assert finished["finished_earlier_run"] is True
    assert {each.name for each in to.iterdir()} == {
        "manifest.json",
        *(f"{table}.csv" for table in partitions.PARTITIONED),
    }
    for name in (each for each in ARCHIVE_NAMES if each.startswith("restore_")):
        killed = easypay(database, "restore-month", str(to), failpoint=name)
        assert killed.code == -signal.SIGKILL, (name, killed.err)
        gone = await check_nothing_is_lost(connection, before, to)
        assert gone == (name != "restore_attached")
    again = easypay(database, "restore-month", str(to))
    assert again.code == 1
    assert f"the database has {SUFFIX} already" in again.err
    assert await rows_of(connection) == before
    await connection.close()


def run(dsn: str, *words: str) -> Any:
    """Run a command in this process, which saves its start-up."""
    return CliRunner().invoke(app, ["db", *words], env={"EASYPAY_DATABASE_URL": dsn})


async def test_the_commands_say_what_they_do(database: str, tmp_path: Path) -> None:
    async def said(*words: str) -> Any:
        return await asyncio.to_thread(run, database, *words)

    month, to = f"{MONTH:%Y-%m}", tmp_path / "archive"
    leave = ("archive", month, "--to", str(to), "--format", "csv")
    seen = await said(*leave, "--dry-run")
    assert seen.exit_code == 0
    assert "60 payments, 60 operations, 60 events" in seen.stdout
    assert "Nothing is in the way. Nothing was changed." in seen.stdout
    assert not to.exists()

    connection = await asyncpg.connect(database)
    payment = old_month.id_in(MONTH, 0)
    hold = "UPDATE payments SET active_operation = $2 WHERE id = $1"
    await connection.execute(hold, payment, payment)
    refused = await said(*leave)
    assert refused.exit_code == 1
    assert f"such as {ids.typed(ids.PAYMENT, payment)}" in refused.stderr
    refused = await said(*leave, "--json")
    assert [each["code"] for each in json.loads(refused.stdout)["in_the_way"]] == [
        "payments_in_use"
    ]
    seen = await said(*leave, "--dry-run")
    assert "In the way are:\n  1 payments on which an operation is open" in seen.stdout
    await connection.execute(hold, payment, None)
    await connection.close()

    done = await said(*leave, "--label", "tape 7")
    assert done.exit_code == 0, done.stderr
    assert f"Archived {SUFFIX}: 60 payments, 60 operations, 60 events; " in done.stdout
    assert "Keep this directory: it is the only copy." in done.stdout
    back = await said("restore-month", str(to))
    assert back.stdout == f"Restored {SUFFIX}: 60 payments, 60 operations, 60 events.\n"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("archive", "2026-13", "--to", "x"), "such as 2026-01"),
        (("archive", "january", "--to", "x"), "such as 2026-01"),
        (("archive", "2026-01", "--to", "x", "--label", "a\nb"), "--label is 1 to 200"),
    ],
)
def test_what_is_not_typed_right_is_told(words: tuple[str, ...], reason: str) -> None:
    refused = run("postgresql://nowhere/", *words)
    assert refused.exit_code == 2
    assert reason in refused.stderr
