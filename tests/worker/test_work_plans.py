"""A process makes its plans once, often while everything is empty: a new database, a new month, a
quiet hour. They must look up each row by its whole key all the same, or they read all of a
merchant's rows for each of a group.
"""

import re
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import asyncpg
import pytest

from easypay import clock
from easypay.db.connections import Lane
from easypay.db.embedded import Cluster
from easypay.db.work_list import statement_of
from easypay.payments import queue_claims, queue_rows
from easypay.payments.queue_rows import QUEUED
from easypay.payments.stored_begin import BEGIN_STORED_PAYMENTS
from easypay.payments.stored_methods import LOOK_UP
from harness import new_database

_MONTH = f"{clock.now():%Y_%m}"
_TABLES = {table: f"{table}_{_MONTH}" for table in ("operations", "payments")}
_FOUND_BY = re.compile(r"(?:Index Cond|TID Cond): \((.*)\)$")
_ON = re.compile(r"Scan(?: using \w+)? on (queued_operations|operations|payment_methods|payments)")
_WHOLE = {
    "queued_operations": ("operation_id", "payment_id", "due_at", "ctid", "given.merchant_id"),
    "operations": ("payment_id",),
    "payment_methods": (">= ROW(i.merchant_id, i.mode, i.payment_method_id)",),
    "payments": ("(id = ", ".id = ", "AND (id"),
}
"""By table: one of these is in each condition that finds few rows."""
_NAMED = ("claim", "finish", "postpone", "park")
STATEMENTS = {name: statement_of(QUEUED, name) for name in _NAMED} | {
    "claim of merchants": queue_claims.STATEMENTS[queue_claims.CLAIM_OF],
    "record": queue_rows.RECORD_QUEUED.format(**_TABLES),
    "leave": queue_rows.LEAVE_LIST.format(**_TABLES),
    "begin": queue_rows.BEGIN_QUEUED_PAYMENTS.format(**_TABLES),
    "begin with stored methods": BEGIN_STORED_PAYMENTS,
    "look up stored methods": LOOK_UP.sql,
    "begin follow-ups": queue_rows.BEGIN_QUEUED_FOLLOW_UPS.format(**_TABLES),
}


@pytest.fixture(scope="module")
async def dsn(cluster: Cluster, template: str) -> str:
    return await new_database(cluster.dsn, template)


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[Any]:
    opened = await asyncpg.connect(dsn)
    for name, value in Lane("", "plans", str, lookups=True)._settings.items():
        await opened.execute("SELECT set_config($1, $2, false)", name, value)
    yield opened
    await opened.close()


@pytest.mark.parametrize("known_as_empty", [False, True], ids=["never analyzed", "analyzed"])
@pytest.mark.parametrize("name", STATEMENTS)
async def test_a_plan_for_empty_tables_looks_up_whole_keys(
    connection: Any, name: str, known_as_empty: bool
) -> None:
    sql = STATEMENTS[name]
    if known_as_empty:  # undone at the end
        await connection.execute("BEGIN; ANALYZE queued_operations, payment_methods")
    given = len(set(re.findall(r"\$\d+", sql)))
    await connection.execute(f"PREPARE it AS {sql}")
    nothing = ", ".join(["NULL"] * given)
    rows = await connection.fetch(f"EXPLAIN (COSTS OFF) EXECUTE it({nothing})")
    lines = [row[0] for row in rows]
    scans = [(line, after) for line, after in pairwise([*lines, ""]) if _ON.search(line)]
    assert scans
    for line, after in scans:
        found = _FOUND_BY.search(after)
        assert found is not None, lines
        (table,) = _ON.findall(line)
        assert any(column in found[1] for column in _WHOLE[table]), "\n".join(lines)
