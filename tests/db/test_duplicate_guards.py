"""The guard against duplicates as rows: its window by the database's clock, its plan, its end."""

import asyncio
import os
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from row_builders import new_payment

from easypay import clock, ids
from easypay.db import partitions
from easypay.db.pool import open_pool
from easypay.payment_details import INTENT_TYPE, NO_DETAILS
from easypay.payments import statements
from easypay.payments.duplicate_purge import purge_guards
from easypay.payments.duplicate_report import find_groups
from easypay.payments.duplicates import (
    BEGIN_CHECKED,
    BEGIN_CHECKED_PAYMENTS,
    Checked,
    CheckedPayment,
)

Begins = Callable[[CheckedPayment], Any]
WINDOW_S = 120


def item(
    merchant_id: UUID, digest: bytes = bytes(32), *, refuses: bool = True, **over: Any
) -> CheckedPayment:
    return CheckedPayment(new_payment(merchant_id, **over), digest, WINDOW_S, refuses)


@pytest.fixture
async def begins(start: Callable[..., Any], database: str) -> Begins:
    """Return what begins a checked payment."""
    committer = start(BEGIN_CHECKED, database)

    async def begin(checked: CheckedPayment) -> Checked:
        result: Checked = await committer.submit(checked)
        return result

    return begin


async def test_the_window_ends_by_the_clock_of_the_database(
    begins: Begins, connection: Any
) -> None:
    """A gateway's clock may be off by hours: only the database's decides."""
    merchant = uuid4()
    wrong = clock.now() + timedelta(hours=5)
    first = item(merchant, at=wrong)
    assert await begins(first) == Checked(True, None)
    for age_s, twin in ((WINDOW_S - 1, first.new.payment.id), (WINDOW_S, None)):
        await connection.execute(
            "UPDATE duplicate_guards SET begun_at = ARRAY[db_now() - make_interval(secs => $1)]",
            age_s,
        )
        assert await begins(item(merchant)) == Checked(twin is None, twin)


async def test_every_status_counts_unless_it_took_no_money(begins: Begins, connection: Any) -> None:
    counts = {"pending", "processing", "in_review", "authorized", "captured"}
    states = [*counts, "declined", "failed", "voided", "expired"]
    await connection.execute("ALTER TABLE payments DROP CONSTRAINT captured_means_money")
    await connection.execute("DROP TRIGGER payment_status_edge ON payments")
    for status in states:
        merchant = uuid4()
        first = item(merchant)
        await begins(first)
        await connection.execute(
            "UPDATE payments SET status = $2 WHERE merchant_id = $1", merchant, status
        )
        refused = not (await begins(item(merchant))).begun
        assert refused == (status in counts), status


async def test_a_payment_of_last_month_is_found_in_its_own_table(
    database: str, connection: Any
) -> None:
    """It is just after midnight on the first: the payment of before midnight was declined."""
    months = partitions.Months()
    await months.load(connection)
    midnight = partitions.month_start(clock.now())
    before, after = midnight - timedelta(seconds=20), midnight + timedelta(seconds=20)
    merchant = uuid4()
    committer = statements.group_committer(
        BEGIN_CHECKED,
        [statements.lane(BEGIN_CHECKED, database)],
        month_of=months.of,
        size=64,
        limit=None,
        patience_s=5,
    )
    first, second = item(merchant, at=before), item(merchant, at=after)
    variant = " ".join(map(months.of, BEGIN_CHECKED.months(second)))
    assert variant == f"_{after:%Y_%m} _{before:%Y_%m}"
    assert await committer.submit(first) == Checked(True, None)
    assert (await committer.submit(second)).twin == first.new.payment.id
    await connection.execute(
        "UPDATE payments SET status = 'declined' WHERE id = $1", first.new.payment.id
    )
    assert await committer.submit(second) == Checked(True, None)
    await committer.close()


async def test_a_guard_remembers_the_first_and_the_newest_payments(
    begins: Begins, connection: Any
) -> None:
    merchant = uuid4()
    made = [item(merchant, refuses=False) for _ in range(20)]
    for each in made:
        await begins(each)
    kept = await connection.fetchval("SELECT payment_ids FROM duplicate_guards")
    ids_made = [each.new.payment.id for each in made]
    assert list(kept) == [ids_made[0], *ids_made[-15:]]


async def test_a_group_that_runs_again_takes_effect_once(begins: Begins, connection: Any) -> None:
    """Its answer was lost after the commit: the second run finds its own key, no duplicate."""
    first = item(uuid4())
    assert await begins(first) == Checked(True, None)
    assert await begins(first) == Checked(False, None)
    assert await connection.fetchval("SELECT cardinality(payment_ids) FROM duplicate_guards") == 1


async def test_groups_of_two_gateways_in_any_order_neither_deadlock_nor_double(
    start: Callable[..., Any], database: str, connection: Any
) -> None:
    """Both gateways send the same 30 purchases at once, in different orders, ten times."""
    merchant = uuid4()
    gateways = [start(BEGIN_CHECKED, database, lanes=2) for _ in range(2)]
    for _ in range(10):
        purchases = [os.urandom(32) for _ in range(30)]
        results = await asyncio.gather(
            *(gateways[0].submit(item(merchant, each)) for each in purchases),
            *(gateways[1].submit(item(merchant, each)) for each in reversed(purchases)),
        )
        assert sum(result.begun for result in results) == len(purchases)
        assert all((result.twin is None) == result.begun for result in results)
    rows = await connection.fetchrow(
        "SELECT (SELECT count(*) FROM payments) AS payments,"
        " (SELECT count(*) FROM operations) AS operations,"
        " (SELECT count(*) FROM idempotency_keys) AS keys,"
        " (SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()) AS deadlocks"
    )
    assert tuple(rows) == (300, 300, 300, 0)


async def test_each_look_up_is_by_key_on_tables_of_two_months(connection: Any) -> None:
    """Whatever the statistics say: a plan made while the tables are empty is kept."""
    months = partitions.Months()
    await months.load(connection)
    now = months.of(ids.new_id())
    before = months.of(ids.lowest_id_at(partitions.month_start(clock.now(), -1)))
    for name in ("seqscan", "mergejoin"):
        await connection.execute(f"SET enable_{name} = off")
    sql = statements.in_months(BEGIN_CHECKED_PAYMENTS, f"{now} {before}")
    sql = sql.replace("$1", f"'{{}}'::{INTENT_TYPE}[]").replace("$2", "'{}'::duplicate_check[]")
    plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN (COSTS OFF) {sql}"))
    looked_up = re.findall(r"using (\w+)_pkey.*\n.*(?:\(id = e\.id\)|\(key = \w+\.key\))\)", plan)
    assert sorted(looked_up) == sorted(["idempotency_keys", f"payments{now}", f"payments{before}"])
    assert "Seq Scan" not in plan


async def test_guards_go_when_their_window_has_passed(
    database: str, begins: Begins, connection: Any
) -> None:
    merchant = uuid4()
    await begins(item(merchant))
    await connection.execute(
        "INSERT INTO duplicate_guards SELECT $1, 'live', sha256(n::text::bytea),"
        " ARRAY[$1::uuid], ARRAY[now()], now() - interval '1 s' FROM generate_series(1, 30000) n",
        merchant,
    )
    held = await asyncpg.connect(database)
    pool = await open_pool(database, size=2)
    async with held.transaction():
        await held.execute("SELECT FROM duplicate_guards WHERE mode = 'live' LIMIT 1 FOR UPDATE")
        async with asyncio.timeout(10):
            assert await purge_guards(pool) == 29_999, "a guard in use waits for the next time"
    assert await purge_guards(pool) == 1
    assert await connection.fetchval("SELECT count(*) FROM duplicate_guards") == 1
    async with held.transaction():
        await held.execute("SELECT pg_advisory_xact_lock(hashtext('easypay duplicate guards'))")
        assert await purge_guards(pool) == 0, "another process is at it"
    await pool.close()
    await held.close()


async def test_a_long_list_of_duplicates_is_found_in_bounded_parts(
    start: Callable[..., Any], database: str, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of 50 payments over 300: no group is lost or told twice where two parts meet."""
    from easypay.payments import duplicate_report

    merchant = uuid4()
    begin = start(statements.BEGIN, database)
    at = clock.now() - timedelta(hours=2)
    made = []
    for number in range(300):  # one each 10 s; every third repeats the one before it
        amount = 100 + (number - 1 if number % 3 == 2 else number)
        made.append(
            new_payment(
                merchant,
                at=at + timedelta(seconds=10 * number),
                amount_minor=amount,
                details=NO_DETAILS,
            )
        )
    await asyncio.gather(*(begin.submit(each) for each in made))
    monkeypatch.setattr(duplicate_report, "MOST_PASSED", 50)
    found, start_id = [], ids.lowest_id_at(at - timedelta(days=1))
    while True:
        part = await find_groups(
            connection,
            merchant,
            "test",
            start=start_id,
            end=ids.lowest_id_at(clock.now()),
            window_s=WINDOW_S,
            limit=7,
        )
        found += [[member.id for member in group.members] for group in part.groups]
        if part.after is None:
            break
        start_id = UUID(int=part.after.int + 1)
    wanted = [[made[n - 1].payment.id, made[n].payment.id] for n in range(2, 300, 3)]
    assert found == wanted
    with pytest.raises(Exception, match="Set a shorter window"):
        await find_groups(
            connection,
            merchant,
            "test",
            start=ids.lowest_id_at(clock.now() - timedelta(hours=1, minutes=20)),
            end=ids.lowest_id_at(clock.now()),
            window_s=3600,
            limit=7,
        )
