"""Months that are over: their operations are rewritten, and nothing else changes for anybody."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec
import pytest
import row_builders

from easypay import ids
from easypay.archiving import archive, restore
from easypay.archiving.session import prepare
from easypay.compaction import compact, copy, run, turn
from easypay.compaction.due import due
from easypay.db import compacted_months, month_report, partitions
from easypay.db.embedded import Cluster
from easypay.db.month_indexes import finish
from easypay.doctor.examine import examine
from easypay.doctor.findings import THRESHOLDS, Level, Limits
from easypay.payments import statements, store
from easypay.payments.model import PaymentKey
from easypay.payments.outcome_changes import decide
from easypay.processors.base import Approved
from harness import (
    Stack,
    audit,
    connected,
    counted,
    held,
    new_database,
    old_month,
    run_easypay,
    until,
    until_locked,
)

KEY_DAYS = 30
MOST_BYTES = 1_638
"""1.6 KiB for a payment, its operation and its event."""


def quiet(what: str, done: int, total: int) -> None:
    """Show no progress."""


class Old(NamedTuple):
    """A database with an old month of closed payments, whose operations have stored replies."""

    dsn: str
    connection: Any
    month: datetime

    @property
    def suffix(self) -> str:
        return partitions.suffix_of(self.month)

    @property
    def table(self) -> str:
        return f"operations_{self.suffix}"

    async def compact(
        self, progress: copy.Progress = quiet, month: datetime | None = None
    ) -> run.Report:
        async with run.connected(self.dsn) as connection, connected(self.dsn) as lease:
            return await run.run(
                connection,
                lease,
                month=month or self.month,
                key_days=KEY_DAYS,
                progress=progress,
            )

    async def rows(self) -> list[str]:
        """Return every operation of the month as text, without its reply."""
        found = await self.connection.fetch(
            'SELECT (jsonb_populate_record(o, \'{"reply_status": null, "reply_body": null}\'))'
            "::text FROM operations o WHERE id >= $1 AND id < $2 ORDER BY id",
            ids.lowest_id_at(self.month),
            ids.lowest_id_at(partitions.month_start(self.month, 1)),
        )
        return [row[0] for row in found]

    async def replies(self) -> int:
        counted: int = await self.connection.fetchval(f"SELECT count(reply_body) FROM {self.table}")
        return counted

    async def indexes(self) -> list[str]:
        found = await self.connection.fetch(
            "SELECT indexdef FROM pg_indexes WHERE tablename = $1 ORDER BY 1", self.table
        )
        return [row[0] for row in found]

    async def is_compacted(self) -> bool:
        every = await compacted_months.every(self.connection)
        return self.suffix in {each.month for each in every}

    async def traces(self) -> tuple[list[str], int, int]:
        """Return what a run must not leave: tables, triggers, notes."""
        return (
            await copy.leftovers(self.connection),
            await self.connection.fetchval(
                "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'compact%'"
            ),
            await self.connection.fetchval("SELECT count(*) FROM archive_changes"),
        )

    @property
    def payment(self) -> Any:
        return old_month.id_in(self.month, 0)

    @property
    def operation(self) -> Any:
        return old_month.id_in(self.month, 10_000)


NOTHING_LEFT: tuple[list[str], int, int] = ([], 0, 0)


@pytest.fixture(scope="module")
async def world(cluster: Cluster, template: str) -> str:
    """Return the DSN of this file's database."""
    return await new_database(cluster.dsn, template)


MONTHS_AGO = count(9, 3)


@pytest.fixture
async def old(world: str) -> AsyncIterator[Old]:
    """Yield an old month that no other test has."""
    async with connected(world) as connection:
        month = old_month.start(next(MONTHS_AGO))
        await old_month.make_tables(connection, month)
        await old_month.fill(connection, month)
        await old_month.number_events(connection)
        yield Old(world, connection, month)


def meanwhile(work: Callable[[], Any]) -> None:
    """Run a coroutine to its end in another thread, while this one stands still."""
    thread = threading.Thread(target=lambda: asyncio.run(work()))
    thread.start()
    thread.join()


# what it saves -----------------------------------------------------------------------------------


async def as_a_gateway(dsn: str, month: datetime, payments: int) -> None:
    """Write sales as a gateway does, in groups: begin and record, with replies and keys."""
    begin, record = (
        row_builders.committer(statement, dsn)
        for statement in (statements.BEGIN, statements.RECORD_CHANGES)
    )
    merchants = [ids.new_id() for _ in range(20)]
    step = timedelta(days=27) / payments

    async def sale(n: int) -> None:
        at = month + n * step
        new = row_builders.new_payment(
            merchants[n * n % 20],
            at=at,
            metadata=f'{{"order":"{n}"}}',
            **dict.fromkeys(
                ("authorized_minor", "captured_minor", "refunded_minor", "refund_reserved_minor"),
                0,
            ),
            version=1,
        )
        outcome = Approved(
            transaction_id=f"{60_000_000_000 + n}",
            auth_code="ABC123",
            avs_result="Y",
            cvv_result="M",
            network_transaction_id=f"0TN7Z5IE1YQBS5B4P1H4{n}",
            code="1",
            message="This transaction has been approved.",
        )
        change = decide(
            new.operation, new.payment, outcome, at=at, first_inquiry_s=5, processor_us=51_234
        )
        await begin.submit(new)
        await record.submit(msgspec.structs.replace(change, event_id=row_builders.id_at(at)))

    for first in range(0, payments, 500):
        await asyncio.gather(*(sale(n) for n in range(first, min(first + 500, payments))))
    await begin.close()
    await record.close()


async def test_a_payment_its_operation_and_its_event_take_little(
    cluster: Cluster, template: str
) -> None:
    """Rows as gateways leave them: operations on pages filled to 15%, with replies."""
    dsn = await new_database(cluster.dsn, template)
    payments = 4_000
    async with connected(dsn) as connection:
        old = Old(dsn, connection, old_month.start(2))
        await partitions.ensure(connection, at=old.month, months_ahead=1)
        await as_a_gateway(dsn, old.month, payments)
        await connection.execute("UPDATE idempotency_keys SET created_at = now() - interval '40 d'")

        async def bytes_each() -> float:
            total: int = await connection.fetchval(
                "SELECT sum(pg_total_relation_size(name::regclass))::bigint"
                " FROM unnest($1::text[]) AS name",
                list(partitions.tables_of(old.month).values()),
            )
            return total / payments

        before = await bytes_each()
        rows, indexes = await old.rows(), await old.indexes()
        lowered = {
            **THRESHOLDS,
            "month that waits to be compacted, bytes": Limits(1e6, float("inf")),
            "days that a month may wait to be compacted": Limits(0, float("inf")),
        }
        found = await examine(connection, key_days=0, thresholds=lowered)
        (finding,) = [each for each in found if each.check == "old months"]
        assert (finding.level, finding.mend[:26]) == (
            Level.WARN,
            f"easypay db compact {old.suffix}",
        )

        report = await old.compact()
        (done,) = report.compacted
        assert (done.month, done.operations) == (old.suffix, payments)
        assert done.bytes_after < 0.25 * done.bytes_before
        assert await bytes_each() < MOST_BYTES < before
        assert (await old.rows(), await old.indexes()) == (rows, indexes)
        assert await old.replies() == 0
        assert await old.traces() == NOTHING_LEFT
        assert await finish(connection) == []
        months = (await month_report.report(connection, wanted_ahead=3)).months
        (shown,) = [each for each in months if each.month == old.suffix]
        assert shown.compacted is not None
        assert shown.compacted.bytes_after == shown.bytes["operations"] == done.bytes_after
        assert shown.full["operations"] is not None
        assert shown.full["operations"] > 0.9
        found = await examine(connection, key_days=0, thresholds=lowered)
        assert old.suffix not in str([each for each in found if each.check == "old months"])
        # Vacuum has nothing to do in it, and it is vacuumed like any table again.
        assert await connection.fetchrow(
            "SELECT relallvisible = relpages, reloptions::text FROM pg_class WHERE relname = $1",
            old.table,
        ) == (True, "{fillfactor=100}")


# nobody notices ----------------------------------------------------------------------------------


async def test_every_value_but_the_reply_stays(old: Old) -> None:
    before, indexes = await old.rows(), await old.indexes()
    assert await old.replies() > 0
    report = await old.compact()
    assert report.stay == []
    assert (await old.rows(), await old.indexes(), await old.replies()) == (before, indexes, 0)
    assert await old.traces() == NOTHING_LEFT
    again = await old.compact()
    assert "compacted already" in again.stay[0].why


async def test_prepared_statements_on_kept_connections_go_on(old: Old) -> None:
    """A look-up by id and a list, on the month's own table and on the parent, generic plans."""
    merchant = old_month.MERCHANTS[0]
    asked = [
        (f"SELECT id, state FROM {table} WHERE merchant_id = $1 AND {condition}", value)
        for table in (old.table, "operations")
        for condition, value in (
            ("id = $2", old.operation),
            ("payment_id = $2 ORDER BY id LIMIT 5", old.payment),
        )
    ]
    async with connected(old.dsn) as kept:
        await kept.execute("SET plan_cache_mode = force_generic_plan")
        prepared = [(await kept.prepare(text), value) for text, value in asked]

        async def read() -> list[Any]:
            return [await statement.fetch(merchant, value) for statement, value in prepared]

        before = await read()
        assert all(len(rows) == 1 for rows in before)
        reads = 0
        compaction = asyncio.create_task(old.compact())
        while not compaction.done():
            assert await read() == before
            reads += 1
        assert (await compaction).stay == []
        assert await read() == before
        assert reads > 5


async def test_a_snapshot_from_before_the_copy_misses_nothing(old: Old) -> None:
    """Such as a dump's: it has not read the month yet when the copy is made."""
    async with connected(old.dsn) as dump:
        transaction = dump.transaction(isolation="repeatable_read")
        await transaction.start()
        await dump.fetchval("SELECT count(*) FROM merchants")
        steps: list[str] = []
        compaction = asyncio.create_task(old.compact(lambda what, *_: steps.append(what)))

        async def compared() -> bool:
            return any(step.startswith("comparing") for step in steps)

        await until(compared, what="the copy is made")
        assert await dump.fetchval(f"SELECT count(*) FROM {old.table}") == len(await old.rows())
        assert not await old.is_compacted()
        await transaction.rollback()
        assert (await compaction).stay == []
        assert await dump.fetchval(f"SELECT count(*) FROM {old.table}") == len(await old.rows())


async def test_payments_wait_for_the_swap_no_longer_than_its_limit(old: Old) -> None:
    """A reader of the month stands in the way, so the swap gives up its locks again and again."""
    async with held(old.dsn, f"LOCK TABLE {old.table} IN ACCESS SHARE MODE"):
        compaction = asyncio.create_task(old.compact())
        await until_locked(old.dsn, "easypay compaction", what="the swap waits")
        async with connected(old.dsn) as payer:
            await payer.execute("SET lock_timeout = '1s'")
            for _ in range(20):
                await payer.execute("INSERT INTO operations SELECT * FROM operations WHERE false")
                assert await payer.fetchval(f"SELECT count(*) FROM {old.table}") > 0
        assert not await old.is_compacted()
    assert (await compaction).stay == []


# changes meanwhile -------------------------------------------------------------------------------


async def approve_late(old: Old) -> None:
    """Change an operation of the month."""
    async with connected(old.dsn) as connection:
        await connection.execute(
            f"UPDATE {old.table} SET state = 'approved', transaction_id = '77'"
            " WHERE merchant_id = $1 AND id = $2",
            old_month.MERCHANTS[0],
            old.operation,
        )


async def test_a_change_during_the_copy_is_not_lost(old: Old) -> None:
    changed = []

    def change(what: str, *_: int) -> None:
        if what.startswith("building") and not changed:
            changed.append(what)
            meanwhile(lambda: approve_late(old))

    report = await old.compact(change)
    assert (report.stay, len(changed)) == ([], 1)
    find = f"SELECT transaction_id FROM {old.table} WHERE id = $1"
    assert await old.connection.fetchval(find, old.operation) == "77"
    assert await old.traces() == NOTHING_LEFT


async def test_a_month_that_changes_all_the_time_stays(old: Old) -> None:
    before = await old.rows()

    def change(what: str, *_: int) -> None:
        if what.startswith("building"):
            meanwhile(lambda: approve_late(old))

    report = await old.compact(change)
    assert "changed during each of 3 copies" in report.stay[0].why
    assert await old.replies() > 0
    assert len(await old.rows()) == len(before)
    assert await old.traces() == NOTHING_LEFT


async def test_an_absent_operation_is_corrected_after_the_compaction(old: Old) -> None:
    """A charge that is found late, or by a person, months after it was called absent. The
    statement was prepared on the old table, over the same connection."""
    number, merchant = 3, old_month.MERCHANTS[1]
    payment_id, operation_id = (old_month.id_in(old.month, n) for n in (number, number + 10_000))
    await old.connection.execute(
        "UPDATE operations SET state = 'absent' WHERE merchant_id = $1 AND id = $2",
        *(merchant, operation_id),
    )
    operation = await store.find_operation(old.connection, merchant, operation_id)
    assert operation is not None
    key = PaymentKey(merchant, operation.mode, payment_id)
    payment = await store.find_payment(old.connection, key)
    assert payment is not None
    record = row_builders.committer(statements.RECORD_CHANGES, old.dsn, lanes=1)
    late = row_builders.approved(payment, operation)
    wrong_try = msgspec.structs.replace(operation, attempt=9)
    assert not await record.submit(msgspec.structs.replace(late, operation=wrong_try))
    assert (await old.compact()).stay == []
    assert await record.submit(late)
    await record.close()
    corrected = await store.find_operation(old.connection, merchant, operation_id)
    assert corrected is not None
    assert (corrected.state, corrected.reply_status) == ("approved", 201)


async def test_an_index_that_is_added_during_the_copy_does_not_make_payments_wait(
    old: Old,
) -> None:
    """Attaching a table without the new index would build it while everybody waits."""
    added = []

    async def add() -> None:
        async with connected(old.dsn) as connection:
            await connection.execute("CREATE INDEX tried ON ONLY operations (merchant_id, mode)")

    def during(what: str, *_: int) -> None:
        if what.startswith("swapping"):
            added.append(what)
            if len(added) == 1:
                meanwhile(add)

    report = await old.compact(during)
    assert (report.stay, len(added)) == ([], 2)
    assert f"tried_{old.suffix}" in str(await old.indexes())
    await old.connection.execute("DROP INDEX tried")


async def test_an_index_of_the_month_alone_is_not_lost_unseen(old: Old) -> None:
    await old.connection.execute(f"CREATE INDEX mine ON {old.table} (mode)")
    assert "drop mine first" in (await old.compact()).stay[0].why
    await old.connection.execute("DROP INDEX mine")
    assert (await old.compact()).stay == []


# what keeps a month as it is ---------------------------------------------------------------------


async def test_what_is_open_or_can_be_replayed_keeps_the_month(old: Old) -> None:
    for code, statement in old_month.OPEN_WORK.items():
        transaction = old.connection.transaction()
        await transaction.start()
        await old.connection.execute(
            statement.format(
                merchant=old_month.MERCHANTS[0], operation=old.operation, payment=old.payment
            )
        )
        found = await compact.obstacles(old.connection, old.month, key_days=KEY_DAYS)
        await transaction.rollback()
        assert [(each.code, each.count) for each in found] == [(code, 1)]
    await old.connection.execute(
        old_month.OPEN_WORK["live_keys"].format(
            merchant=old_month.MERCHANTS[0], operation=old.operation, payment=old.payment
        )
    )
    replies = await old.replies()
    (stays,) = (await old.compact()).stay
    assert stays.in_the_way[0].code == "live_keys"
    assert "1 idempotency keys that still give an answer, such as op_" in stays.why
    assert (await old.replies(), await old.traces()) == (replies, NOTHING_LEFT)
    await old.connection.execute("UPDATE idempotency_keys SET created_at = now() - interval '31 d'")
    assert (await old.compact()).stay == []
    assert await old.connection.fetchval("SELECT count(*) FROM idempotency_keys") == 0


async def test_a_key_of_a_later_operation_is_left_alone(old: Old) -> None:
    """A refund of an old payment, begun months later: its key does not point to the old month,
    however old both are."""
    later = ids.lowest_id_at(partitions.month_start(old.month, 1))
    statement = old_month.OPEN_WORK["live_keys"].format(
        merchant=old_month.MERCHANTS[0], operation=later, payment=old.payment
    )
    await old.connection.execute(statement.replace("'k'", "'of a refund'").replace("29", "40"))
    assert (await old.compact()).stay == []
    kept = "DELETE FROM idempotency_keys WHERE key = 'of a refund'"
    assert await old.connection.execute(kept) == "DELETE 1"


async def test_a_month_is_due_when_its_keys_are_gone(old: Old) -> None:
    month, present = old.month, old_month.start(0)
    assert month in await due(old.connection, key_days=KEY_DAYS)
    assert old_month.start(1) not in await due(old.connection, key_days=KEY_DAYS)
    for early in (present, old_month.start(1)):
        (stays,) = (await old.compact(month=early)).stay
        assert "can be compacted from" in stays.why
    (stays,) = (await old.compact(month=old_month.start(200))).stay
    assert "has no tables" in stays.why


async def test_a_disk_without_room_is_refused_with_the_size(
    old: Old, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = await copy.bytes_needed(old.connection, old.table)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=1, f_frsize=4096))
    (stays,) = (await old.compact()).stay
    assert "the database's disk is too small" in stays.why
    monkeypatch.undo()
    (done,) = (await old.compact()).compacted
    assert 0.5 * done.bytes_after < needed < 4 * done.bytes_after


# one at a time -----------------------------------------------------------------------------------


async def test_of_two_at_once_one_does_it(old: Old) -> None:
    both = await asyncio.gather(old.compact(), old.compact(), return_exceptions=True)
    assert sorted(type(each).__name__ for each in both) == ["AnotherRuns", "Report"]
    assert await old.is_compacted()


async def test_who_lost_the_lease_changes_nothing(old: Old) -> None:
    """It was stopped for a minute. Another took over, and the first one goes on."""

    async def take_over() -> None:
        async with connected(old.dsn) as connection:
            await connection.execute(
                "UPDATE leases SET token = token + 1, holder = $2 WHERE name = $1",
                turn.NAME,
                ids.new_id(),
            )

    def lose(what: str, *_: int) -> None:
        if what.startswith("swapping"):
            meanwhile(take_over)

    with pytest.raises(turn.LeaseLost):
        await old.compact(lose)
    await old.connection.execute("UPDATE leases SET leased_until = now()")
    assert not await old.is_compacted()
    assert await old.replies() > 0
    assert (await old.compact()).stay == []


async def test_who_lost_the_lease_leaves_the_watch_of_its_successor(old: Old) -> None:
    """The first is stopped in its copy for longer than its lease, and goes on while the second
    copies. A change after that is still noticed."""
    copies, goes_on = threading.Event(), threading.Event()
    ended: list[object] = []

    def stand_still(what: str, *_: int) -> None:
        if what.startswith("copying") and not copies.is_set():
            copies.set()
            goes_on.wait(60)

    async def first() -> None:
        try:
            ended.append(await old.compact(stand_still))
        except Exception as error:
            ended.append(error)

    stopped = threading.Thread(target=lambda: asyncio.run(first()))
    stopped.start()
    assert await asyncio.to_thread(copies.wait, 60)
    await old.connection.execute("UPDATE leases SET leased_until = now()")
    seen: list[str] = []

    def change(what: str, *_: int) -> None:
        if what.startswith("building") and not seen:
            seen.append(what)
            goes_on.set()
            stopped.join()
            meanwhile(lambda: approve_late(old))

    report = await old.compact(change)
    assert [type(each) for each in ended] == [turn.LeaseLost]
    assert (report.stay, len(seen)) == ([], 1)
    find = f"SELECT transaction_id FROM {old.table} WHERE id = $1"
    assert await old.connection.fetchval(find, old.operation) == "77"
    assert await old.traces() == NOTHING_LEFT


async def test_who_lost_the_lease_cleans_nothing_up(old: Old) -> None:
    """It was stopped before it cleaned up what others have left."""
    table = f"compacting_{old.table}_7"
    await old.connection.execute(
        f"CREATE TABLE {table} (); INSERT INTO archive_changes VALUES ('compact {old.table} 7')"
    )
    async with run.connected(old.dsn) as connection:
        with pytest.raises(turn.LeaseLost):
            await copy.clean(connection, 0)
    assert table in await copy.leftovers(old.connection)
    assert await old.connection.fetchval("SELECT count(*) FROM archive_changes") == 1
    assert (await old.compact()).stay == []
    assert await old.traces() == NOTHING_LEFT


async def test_a_column_that_a_migration_adds_just_now_is_copied(
    cluster: Cluster, template: str
) -> None:
    dsn = await new_database(cluster.dsn, template)
    async with connected(dsn) as connection, connected(dsn) as migrating:
        old = Old(dsn, connection, old_month.start())
        await old_month.make_tables(connection, old.month)
        await old_month.fill(connection, old.month)
        transaction = migrating.transaction()
        await transaction.start()
        await migrating.execute(
            "INSERT INTO migrations (name, checksum) VALUES ('9999_more', 'x');"
            f"ALTER TABLE operations ADD COLUMN more int; UPDATE {old.table} SET more = 7"
        )
        compaction = asyncio.create_task(old.compact())
        await until_locked(dsn, "easypay compaction", what="the compaction waits for the migration")
        await transaction.commit()
        assert (await compaction).stay == []
        assert await connection.fetchval(f"SELECT count(*) FROM {old.table} WHERE more = 7") == 60


async def test_an_archive_command_goes_first(old: Old, tmp_path: Path) -> None:
    async with connected(old.dsn) as archiving:
        await prepare(archiving)
        (stays,) = (await old.compact()).stay
        assert "db archive" in stays.why
        assert not await old.is_compacted()
    assert (await old.compact()).stay == []
    async with connected(old.dsn) as archiving:
        await prepare(archiving)
        wish = archive.Wish(old.month, tmp_path / "a", "csv", "cold", keep_tables=False)
        await archive.archive(archiving, wish, quiet)
        assert not await old.is_compacted()
        await restore.restore(archiving, tmp_path / "a", quiet)
    before = await old.connection.fetchval("SELECT $1::text::regclass::oid", old.table)
    (done,) = (await old.compact()).compacted
    assert done.bytes_before == done.bytes_after  # a restored month has full pages
    assert await old.connection.fetchval("SELECT $1::text::regclass::oid", old.table) == before
    assert await old.traces() == NOTHING_LEFT


async def test_a_month_that_is_archived_during_the_copy_stays(old: Old, tmp_path: Path) -> None:
    """The copy has nothing to take the place of; that is no fault."""

    async def archive_it() -> None:
        async with connected(old.dsn) as archiving:
            await prepare(archiving)
            wish = archive.Wish(old.month, tmp_path / "a", "csv", "cold", keep_tables=False)
            await archive.archive(archiving, wish, quiet)

    def change(what: str, *_: int) -> None:
        if what.startswith("building"):
            meanwhile(archive_it)

    (stays,) = (await old.compact(change)).stay
    assert "the database has no tables of" in stays.why
    assert await old.traces() == NOTHING_LEFT
    async with connected(old.dsn) as archiving:
        await prepare(archiving)
        await restore.restore(archiving, tmp_path / "a", quiet)


async def test_a_run_cleans_up_after_one_that_was_killed(old: Old) -> None:
    await old.connection.execute(
        "CREATE TABLE compacting_operations_2001_01_1 ();"
        " CREATE TABLE compacted_operations_2001_01_2 ();"
        " CREATE TABLE compacted_operations_of_mine ();"
        " INSERT INTO archive_changes (month) VALUES ('compact operations_2001_01'), ('2001_01')"
    )
    assert (await old.compact()).stay == []
    assert await copy.leftovers(old.connection) == []
    await old.connection.execute("DROP TABLE compacted_operations_of_mine")
    assert await old.connection.execute("DELETE FROM archive_changes") == "DELETE 1"


async def test_refunds_of_an_old_payment_go_on_before_during_and_after(stack: Stack) -> None:
    """Real gateways: one takes the payments, and another, 65 days later, compacts their month by
    itself and gives money back meanwhile."""
    first = await stack.gateway()
    shop = await stack.shop(first)
    month = old_month.start(0)
    payments = [await shop.paid() for _ in range(3)]
    assert (await shop.refund(payments[0]["id"])).status_code == 201
    first.kill()
    ahead_s = 65 * 86_400
    clock = stack.folder / "clock"
    clock.write_bytes((ahead_s * 1000).to_bytes(8, "little", signed=True))
    await stack.move_clock(ahead_s)
    table = partitions.tables_of(month)["operations"]
    async with held(stack.dsn, f"LOCK TABLE {table} IN ACCESS SHARE MODE"):
        second = await stack.gateway(clock_file=str(clock))
        shop = shop.at(second.url)

        async def copied() -> Any:
            return await stack.value(
                "SELECT count(*) FROM pg_class WHERE relname ~ '^compacting_operations'"
            )

        await until(copied, what="the month is copied")
        assert (await shop.refund(payments[1]["id"])).status_code == 201
        assert len(await shop.all(f"/payments/{payments[1]['id']}/operations")) == 2

    async def compacted() -> Any:
        return await stack.fetch(
            "SELECT FROM compacted_months WHERE month = $1", partitions.suffix_of(month)
        )

    await until(compacted, what=("the month is compacted", second.logs))
    assert await stack.value(f"SELECT count(reply_body) FROM {table}") == 0
    assert (await shop.refund(payments[2]["id"])).status_code == 201
    for payment in payments:
        kinds = [each["kind"] for each in await shop.all(f"/payments/{payment['id']}/operations")]
        assert sorted(kinds) == ["refund", "sale"]
        assert (await shop.payment(payment["id"]))["refunded_amount"] == 0  # undone by a void
    (sale,) = [
        each["id"]
        for each in await shop.all(f"/payments/{payments[2]['id']}/operations")
        if each["kind"] == "sale"
    ]
    assert (await shop.client.get(f"/operations/{sale}")).status_code == 200
    shown = await asyncio.to_thread(run_easypay, "operation", "show", sale, "--json", **stack.env)
    assert (shown.code, sale in shown.out) == (0, True)
    await second.logged(f"compacted {partitions.suffix_of(month)}: 4 operations")
    assert await counted(second.url, "easypay_compacted_months_total") >= 1
    wrong = [each for each in await audit(stack, shop) if " keys but " not in each]
    assert wrong == []  # the keys of the first day were purged, as they are after 30 days
