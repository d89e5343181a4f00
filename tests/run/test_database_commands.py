"""`easypay db …` as an operator types it: a seed that is stopped and goes on, a disk that is too
small, months that are missing."""

import asyncio
import json
import os
import signal
import sys
from typing import Any

import asyncpg
import pytest

from easypay.db import partitions
from easypay.db.embedded import Cluster
from easypay.seeding.shops import LOWEST
from harness import Output, new_database, run_easypay, until


@pytest.fixture
async def dsn(cluster: Cluster, template: str) -> str:
    """Return the DSN of a migrated database without rows."""
    return await new_database(cluster.dsn, template)


def settings(dsn: str) -> dict[str, str]:
    return {"EASYPAY_DATABASE_URL": dsn, "COLUMNS": "80", "NO_COLOR": "1"}


async def started(dsn: str, *words: str) -> asyncio.subprocess.Process:
    """Start `easypay db …` on a database."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "easypay", "db", *words),
        env=os.environ | settings(dsn),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def typed(dsn: str, *words: str) -> Output:
    """Run `easypay db …` to its end."""
    done = await asyncio.to_thread(run_easypay, "db", *words, **settings(dsn))
    assert "Traceback" not in done.err, done.err
    return done


async def test_a_stopped_seed_leaves_whole_months_and_goes_on(dsn: str) -> None:
    connection: Any = await asyncpg.connect(dsn)
    words = ("seed", "--payments", "9000", "--months", "6", "--merchants", "50", "--processes", "1")

    async def begun() -> bool:
        done = await connection.fetchval("SELECT count(DISTINCT tableoid) FROM payments")
        return bool(done)

    async def writers() -> int:
        counted: int = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'easypay seed'"
            " AND datname = current_database()"
        )
        return counted

    async def nobody_writes() -> bool:
        return await writers() == 0

    for how in (signal.SIGINT, signal.SIGKILL):
        seeding = await started(dsn, *words, "--json")
        await until(begun, what="a month is written", within_s=60)
        seeding.send_signal(how)
        out, complaints = await seeding.communicate()
        assert out == b""
        if how is signal.SIGINT:
            assert seeding.returncode == 130
            assert b"repeat the command to go on, or remove them with" in complaints
        await until(nobody_writes, what="the writers end with the command")
    tables = {
        row[0]: row[1]
        for row in await connection.fetch(
            "SELECT tableoid::regclass::text, count(*) FROM payments GROUP BY 1"
        )
    }
    assert sum(tables.values()) < 9_000
    status, out, _ = await typed(dsn, *words, "--json")
    done = json.loads(out)
    assert (status, done["payments"], done["already_there"]) == (0, 9_000, False)
    assert done["biggest_merchant"] == f"mer_{LOWEST.hex}"
    assert await connection.fetchval("SELECT count(*) FROM payments") == 9_000
    for table, count in tables.items():  # what was there was whole, and stays
        assert await connection.fetchval(f"SELECT count(*) FROM {table}") == count
    status, out, _ = await typed(dsn, "sizes", "--json")
    measured = json.loads(out)
    assert (status, measured["payments"]) == (0, 9_000)
    each = {size["table"]: size["total"] / 9_000 for size in measured["data"]}
    assert 400 < each["payments"] < 1500
    assert "operations_of_payment" in (await typed(dsn, "sizes"))[1]
    status, out, _ = await typed(dsn, "seed", "--clear", "--json")
    assert (status, json.loads(out)) == (0, {"merchants_removed": 50})
    await connection.close()


async def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(dsn: str) -> None:
    status, out, complaints = await typed(dsn, "seed", "--payments", "1000000000")
    assert (status, out) == (1, "")
    assert "1,000,000,000 payments need about 1.8 TB, and" in complaints
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchval("SELECT count(*) FROM merchants") == 0
    await connection.close()
    status, _, complaints = await typed(dsn, "seed", "--until", "2100-01-01T00:00:00Z")
    assert status == 2
    assert "a past moment with an offset" in complaints


async def test_a_missing_month_is_an_alarm_in_80_columns(dsn: str) -> None:
    status, out, complaints = await typed(dsn, "partitions")
    assert (status, complaints) == (0, "")
    assert "3 months ahead, 3 wanted" in out
    connection = await asyncpg.connect(dsn)
    now = await connection.fetchval("SELECT now()")
    missing = partitions.tables_of(partitions.month_start(now, 3))
    await connection.execute(f"DROP TABLE {missing['events']}")
    await connection.close()
    status, out, _ = await typed(dsn, "partitions")
    assert status == 1
    assert f"ALARM {missing['events'][-7:]} has no table for events" in out
    assert all(len(line) <= 80 for line in out.splitlines() if not line.startswith("ALARM"))
    status, out, _ = await typed(dsn, "partitions", "--json")
    found = json.loads(out)
    assert status == 1
    assert (found["months_ahead"], found["wanted_ahead"]) == (2, 3)
    assert found["months"][-1]["missing"] == ["events"]
    assert len(found["alarms"]) == 1


async def test_the_doctor_says_what_is_wrong_in_80_columns_and_by_its_exit_status(dsn: str) -> None:
    status, out, complaints = await typed(dsn, "doctor")
    assert (status, complaints) == (0, "")
    assert "0 bad, 0 warnings" in out
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE INDEX twice ON operations (merchant_id, payment_id)")
    status, out, _ = await typed(dsn, "doctor", "--json")
    report = json.loads(out)
    assert (status, report["level"]) == (1, "warn")
    (warned,) = [each for each in report["data"] if each["level"] != "ok"]
    assert warned["check"] == "duplicate index"
    assert warned["mend"] == "psql -c 'DROP INDEX twice'"
    await connection.execute("DROP INDEX payment_search_card")
    await connection.close()
    status, out, _ = await typed(dsn, "doctor")
    assert status == 2
    lines = out.splitlines()
    assert any(line.startswith("bad   indexes  ") for line in lines)
    assert any(line.startswith("      Mend: psql -c 'DROP INDEX twice'") for line in lines)
    assert all(len(line) <= 80 for line in lines if "Mend:" not in line and "Hint:" not in line)
