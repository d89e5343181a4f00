"""Months that leave the database for files, and come back: nothing in them is lost or changed."""

import asyncio
import errno
import json
import shutil
import sys
import threading
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import pytest
import row_builders

from easypay import ids
from easypay.archiving import archive, detach, directory, feed, manifest, obstacles
from easypay.archiving import restore as restoring
from easypay.archiving.session import AnotherRuns, prepare
from easypay.clock import monotonic
from easypay.db import archived_months, migrate, partitions
from easypay.db.embedded import Cluster
from easypay.events import numbering
from easypay.events.readers import Follower, head
from easypay.payments import statements, statistics_check
from easypay.payments.feed_fold import PAYMENTS
from harness import new_database, old_month, until

TABLES = partitions.PARTITIONED
FORMATS = ["csv", "parquet"]


def quiet(what: str, done: int, total: int) -> None:
    """Show no progress."""


class Old(NamedTuple):
    """A database with an old month of closed payments, and a prepared connection to it."""

    dsn: str
    connection: Any
    month: datetime

    @property
    def suffix(self) -> str:
        return partitions.suffix_of(self.month)

    async def archive(
        self, to: Path, *, progress: archive.Progress = quiet, **over: Any
    ) -> archive.Done:
        wish = archive.Wish(self.month, to, "csv", "cold storage", keep_tables=False)
        return await archive.archive(self.connection, wish._replace(**over), progress)

    @property
    def payments(self) -> str:
        return f"payments_{self.suffix}"

    async def rows(self) -> dict[str, list[str]]:
        """Return every row of this month and the next as text."""
        low, high = (ids.lowest_id_at(partitions.month_start(self.month, n)) for n in (0, 2))
        return {
            table: [
                row[0]
                for row in await self.connection.fetch(
                    f"SELECT t::text FROM {table} t WHERE id >= $1 AND id < $2 ORDER BY id",
                    low,
                    high,
                )
            ]
            for table in TABLES
        }

    async def change(self, assignments: str) -> str:
        """Change the month's first payment, over a connection of its own."""
        connection = await asyncpg.connect(self.dsn)
        status: str = await connection.execute(
            f"UPDATE payments SET {assignments} WHERE id = $1", old_month.id_in(self.month, 0)
        )
        await connection.close()
        return status

    async def is_archived(self) -> bool:
        return await archived_months.named(self.connection, self.suffix) is not None

    async def watching(self) -> int:
        """Return how many of the month's tables note changes."""
        count: int = await self.connection.fetchval(
            "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'archive%'"
            " AND tgrelid = ANY ($1::text[]::regclass[])",
            list(partitions.tables_of(self.month).values()),
        )
        return count

    async def leftovers(self) -> set[str]:
        """Return the detached tables that still exist."""
        names = detach.archived_tables_of(self.month)
        return {
            name for name in names if await self.connection.fetchval("SELECT to_regclass($1)", name)
        }


@pytest.fixture(scope="module")
async def world(cluster: Cluster, template: str) -> str:
    """Return the DSN of this file's database."""
    return await new_database(cluster.dsn, template)


MONTHS_AGO = count(9, 3)


@pytest.fixture
async def old(world: str) -> AsyncIterator[Old]:
    """Yield an old month that no other test has."""
    connection = await asyncpg.connect(world)
    month = old_month.start(next(MONTHS_AGO))
    await old_month.make_tables(connection, month)
    await old_month.fill(connection, month)
    await old_month.number_events(connection)
    await prepare(connection)
    yield Old(world, connection, month)
    await connection.close()


def meanwhile(work: Callable[[], Any]) -> None:
    """Run a coroutine to its end in another thread, while this one stands still."""
    thread = threading.Thread(target=lambda: asyncio.run(work()))
    thread.start()
    thread.join()


# there and back ---------------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", FORMATS)
async def test_every_value_comes_back_as_it_was(old: Old, tmp_path: Path, file_format: str) -> None:
    before = await old.rows()
    done = await old.archive(tmp_path / "a", format=file_format)
    assert done.rows == {table: len(before[table]) for table in TABLES}
    assert await old.rows() == {table: [] for table in TABLES}
    assert await old.leftovers() == set()
    names = {f"{table}.{file_format}" for table in TABLES}
    files = {each.name: each.stat().st_mode & 0o777 for each in (tmp_path / "a").iterdir()}
    assert files == dict.fromkeys(("manifest.json", *names), 0o600)
    restored = await restoring.restore(old.connection, tmp_path / "a", quiet)
    assert restored.rows == done.rows
    assert await old.rows() == before
    assert not await old.is_archived()


async def test_a_restored_month_has_full_pages_and_all_indexes(old: Old, tmp_path: Path) -> None:
    indexes = (
        "SELECT tablename, regexp_replace(indexdef, 'INDEX \\S+', '') FROM pg_indexes"
        " WHERE tablename LIKE '%' || $1 ORDER BY 1, 2"
    )
    before = await old.connection.fetch(indexes, old.suffix)
    await old.archive(tmp_path / "a")
    await restoring.restore(old.connection, tmp_path / "a", quiet)
    assert await old.connection.fetch(indexes, old.suffix) == before
    pages = {
        table: await old.connection.fetchval(
            "SELECT reloptions::text FROM pg_class WHERE oid = $1::text::regclass", name
        )
        for table, name in partitions.tables_of(old.month).items()
    }
    assert set(pages.values()) == {"{fillfactor=100}"}


async def test_the_manifest_says_what_was_in_the_database(old: Old, tmp_path: Path) -> None:
    sums = await old.connection.fetch(
        "SELECT currency, status, count(*) AS rows, sum(amount_minor)::bigint AS amount,"
        " sum(captured_minor)::bigint AS captured, sum(refunded_minor)::bigint AS refunded"
        f" FROM {old.payments} GROUP BY 1, 2 ORDER BY 1, 2"
    )
    await old.archive(tmp_path / "a")
    written = json.loads((tmp_path / "a" / "manifest.json").read_text())
    payments = written["tables"][0]
    assert [
        (*group["of"].values(), group["rows"], *(group["sums"][f"{name}_minor"] for name in names))
        for group in payments["contents"]["groups"]
        if (names := ("amount", "captured", "refunded"))
    ] == [tuple(row) for row in sums]
    assert written["month"] == old.suffix
    assert written["migrations"] == [name for name, _ in migrate.files()]
    assert {"name": "metadata", "type": "jsonb"} in payments["columns"]
    assert written["low"] <= payments["contents"]["lowest"] < written["high"]
    kept = await archived_months.named(old.connection, old.suffix)
    assert kept is not None
    assert json.loads(kept.manifest) == written
    assert kept.label == "cold storage"


async def test_kept_tables_are_renamed_and_dropped_by_a_second_run(
    old: Old, tmp_path: Path
) -> None:
    before = await old.rows()
    await old.archive(tmp_path / "a", keep_tables=True)
    kept = set(detach.archived_tables_of(old.month))
    assert await old.leftovers() == kept
    found = await old.connection.fetch(
        f"SELECT t::text FROM archived_payments_{old.suffix} t ORDER BY id"
    )
    assert [row[0] for row in found] == before["payments"]
    done = await old.archive(tmp_path / "a")
    assert done.finished_earlier_run
    assert await old.leftovers() == set()


async def test_values_that_a_reader_of_csv_could_confuse_differ(old: Old, tmp_path: Path) -> None:
    """A null and an empty text: if a file had one for the other, the archive would be refused."""
    await old.archive(tmp_path / "a")
    await restoring.restore(old.connection, tmp_path / "a", quiet)
    counted = await old.connection.fetchrow(
        "SELECT count(*) FILTER (WHERE description IS NULL),"
        " count(*) FILTER (WHERE description = ''),"
        f" count(*) FILTER (WHERE description = $1) FROM {old.payments}",
        "\\N",
    )
    assert min(tuple(counted)) > 0


# what must stay ----------------------------------------------------------------------------------

OBSTACLES = {
    "open_payments": (
        "UPDATE payments SET status = 'authorized', captured_minor = 0 WHERE id = '{payment}'"
    ),
    "payments_in_use": "UPDATE payments SET active_operation = id WHERE id = '{payment}'",
    "refundable_payments": (
        "UPDATE payments SET settled_at = db_now() - interval '179 days' WHERE id = '{payment}'"
    ),
    **old_month.OPEN_WORK,
    "not_in_feed": "UPDATE feed_months SET read_below = 3",
}


async def test_whatever_may_still_change_keeps_the_month(old: Old) -> None:
    assert await obstacles.find(old.connection, old.month, key_days=30) == []
    names = {
        "merchant": old_month.MERCHANTS[0],
        "payment": old_month.id_in(old.month, 0),
        "operation": old_month.id_in(old.month, 10_000),
    }
    for code, statement in OBSTACLES.items():
        undone = old.connection.transaction()
        await undone.start()
        await old.connection.execute("ALTER TABLE payments DISABLE TRIGGER USER")
        await old.connection.execute(statement.format(**names))
        (found, *more) = await obstacles.find(old.connection, old.month, key_days=30)
        assert (found.code, more) == (code, [])
        assert found.count >= 1
        assert found.example is not None
        await undone.rollback()


async def test_an_approved_review_does_not_keep_the_month(old: Old, tmp_path: Path) -> None:
    """Its operation stays `held`, and its key is never purged, although nothing is open."""
    operation = old_month.id_in(old.month, 10_000)
    review = (
        "UPDATE payments SET status = $2, captured_minor = $3, refunded_minor = 0 WHERE id = $1"
    )
    payment = old_month.id_in(old.month, 0)
    await old.connection.execute("ALTER TABLE payments DISABLE TRIGGER USER")
    await old.connection.execute("UPDATE operations SET state = 'held' WHERE id = $1", operation)
    await old.connection.execute(review, payment, "in_review", 0)
    found = await obstacles.find(old.connection, old.month, key_days=30)
    assert {each.code for each in found} == {"open_payments", "open_operations"}
    await old.connection.execute(review, payment, "captured", 2500)
    await old.connection.execute("ALTER TABLE payments ENABLE TRIGGER USER")
    await old.connection.execute(
        "INSERT INTO idempotency_keys (merchant_id, operation_id, payment_id, mode, key,"
        " fingerprint, created_at) VALUES ($1, $2, $3, 'test', $4, sha256(''), $5)",
        old_month.MERCHANTS[0],
        operation,
        payment,
        old.suffix,
        old.month,
    )
    await old.archive(tmp_path / "a")
    keys = "SELECT count(*) FROM idempotency_keys WHERE payment_id = $1"
    assert await old.connection.fetchval(keys, payment) == 0


async def test_a_closed_late_charge_does_not_keep_the_month(old: Old) -> None:
    statement = OBSTACLES["open_late_charges"].replace("needs_person", "closed")
    await old.connection.execute(
        statement.format(
            merchant=old_month.MERCHANTS[0],
            payment=old_month.id_in(old.month, 0),
            operation=old_month.id_in(old.month, 10_000),
        )
    )
    assert await obstacles.find(old.connection, old.month, key_days=30) == []


async def test_a_refusal_names_all_that_is_in_the_way_and_changes_nothing(
    old: Old, tmp_path: Path
) -> None:
    await old.change("settled_at = now(), refund_reserved_minor = 1")
    before = await old.rows()
    with pytest.raises(archive.CannotArchive) as refused:
        await old.archive(tmp_path / "a")
    first = ids.typed(ids.PAYMENT, old_month.id_in(old.month, 0))
    assert f"1 payments on which an operation is open, such as {first}" in refused.value.detail
    assert "can still be refunded" in refused.value.detail
    assert await old.rows() == before
    assert not (tmp_path / "a").exists()


async def test_a_month_that_is_not_over_or_not_there_is_refused(old: Old, tmp_path: Path) -> None:
    await partitions.ensure(old.connection, months_ahead=1)
    for months, reason in ((0, "not over yet"), (-1, "not over yet"), (300, "has no tables")):
        with pytest.raises(archive.CannotArchive, match=reason):
            await old._replace(month=old_month.start(months)).archive(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_who_waits_for_a_reader_is_told_what_moves_it() -> None:
    behind = feed.why_behind(["payments", "webhooks"], 7)
    assert "`easypay serve` and `easypay worker`" in behind
    assert "`easypay serve`" not in feed.why_behind(["webhooks"], 7)
    assert "worker" not in feed.why_behind(["payments"], 7)


async def test_a_preview_changes_nothing(old: Old, tmp_path: Path) -> None:
    before = await old.rows()
    seen = await archive.preview(
        old.connection, archive.Wish(old.month, tmp_path / "a", "csv", "-", keep_tables=False)
    )
    assert seen.rows == {table: len(before[table]) for table in TABLES}
    assert seen.in_the_way == []
    assert await old.watching() == 0


async def test_a_payment_and_its_later_operations_leave_and_return_in_order(
    old: Old, tmp_path: Path
) -> None:
    """An operation of the next month belongs to a payment of this one. Neither is ever without the
    other, or a list of operations would be short without saying so."""
    following = old._replace(month=partitions.month_start(old.month, 1))
    await old.connection.execute(
        "INSERT INTO operations (merchant_id, id, payment_id, mode, kind, state, amount_minor,"
        " currency, reference, begun_at) SELECT merchant_id, $2, payment_id, mode, 'refund',"
        " 'declined', 1, currency, $3, begun_at FROM operations WHERE id = $1",
        old_month.id_in(old.month, 10_000),
        later := old_month.id_in(following.month, 1),
        ids.reference(later),
    )
    with pytest.raises(archive.CannotArchive, match="archive that month first"):
        await following.archive(tmp_path / "b")
    before = await old.rows()
    await old.archive(tmp_path / "a")
    await following.archive(tmp_path / "b")
    assert manifest.read(tmp_path / "b").of_earlier_months == {old.suffix: 1}
    with pytest.raises(restoring.CannotRestore, match=f"restore {following.suffix} first"):
        await restoring.restore(old.connection, tmp_path / "a", quiet)
    await restoring.restore(old.connection, tmp_path / "b", quiet)
    await restoring.restore(old.connection, tmp_path / "a", quiet)
    assert await old.rows() == before


# what happens meanwhile ---------------------------------------------------------------------------


async def test_a_refund_in_the_middle_keeps_the_month(old: Old, tmp_path: Path) -> None:
    """It begins after the payments were written. Taking them out then would lose it."""
    row = await old.connection.fetchrow(
        f"SELECT merchant_id, mode, id FROM {old.payments} WHERE status = 'captured'"
        " AND refunded_minor = 0 ORDER BY id LIMIT 1"
    )
    payment = row_builders.new_payment(row[0], mode=row[1], id=row[2])
    refunds: list[Any] = []

    async def refund() -> None:
        lanes = row_builders.committer(statements.FOLLOW_UP, old.dsn)
        refunds.append(await lanes.submit(row_builders.refund_of(payment, 500)))
        await lanes.close()

    def progress(what: str, done: int, total: int) -> None:
        if what == "writing operations.csv" and not refunds:
            meanwhile(refund)

    with pytest.raises(archive.CannotArchive) as refused:
        await old.archive(tmp_path / "a", progress=progress)
    assert {each.code for each in refused.value.obstacles} == {"payments_in_use", "live_keys"}
    assert refunds[0] is not None
    reserved = "SELECT refund_reserved_minor FROM payments WHERE id = $1"
    assert await old.connection.fetchval(reserved, row[2]) == 500
    assert await old.watching() == 0


@pytest.mark.parametrize("moment", ["writing payments.csv", "writing events.csv"])
async def test_what_changes_during_the_export_is_exported_anew(
    old: Old, tmp_path: Path, moment: str
) -> None:
    changed: list[str] = []

    async def change() -> None:
        changed.append(await old.change("description = 'changed'"))

    def progress(what: str, done: int, total: int) -> None:
        if what == moment and not changed:
            meanwhile(change)

    await old.archive(tmp_path / "a", progress=progress)
    assert changed == ["UPDATE 1"]
    await restoring.restore(old.connection, tmp_path / "a", quiet)
    description = f"SELECT description FROM {old.payments} ORDER BY id LIMIT 1"
    assert await old.connection.fetchval(description) == "changed"


async def test_payments_are_taken_while_a_month_leaves_and_a_dump_is_made(
    old: Old, tmp_path: Path
) -> None:
    """The dump holds its locks, so the month waits for it; new payments wait for neither."""
    await partitions.ensure(old.connection, months_ahead=1)
    begin = row_builders.committer(statements.BEGIN, old.dsn)
    merchant = ids.new_id()
    longest, stop = 0.0, asyncio.Event()

    async def trade() -> None:
        nonlocal longest
        while not stop.is_set():
            started = monotonic()
            assert await begin.submit(row_builders.new_payment(merchant))
            longest = max(longest, monotonic() - started)

    dump, other = await asyncpg.connect(old.dsn), await asyncpg.connect(old.dsn)
    reading = dump.transaction()
    await reading.start()
    await dump.execute(f"LOCK TABLE payments, payments_{old.suffix} IN ACCESS SHARE MODE")
    trading = asyncio.create_task(trade())
    leaving = asyncio.create_task(old.archive(tmp_path / "a"))

    async def waits() -> bool:
        query = await other.fetchval(
            "SELECT query FROM pg_stat_activity WHERE application_name = 'easypay archive'"
            " AND datname = current_database()"
        )
        return query is not None and "pg_locks" in query

    await until(waits, what="the archive waits for the dump")
    assert not leaving.done()
    assert await archived_months.named(other, old.suffix) is None
    await reading.rollback()
    await leaving
    stop.set()
    await trading
    assert longest < 2
    assert await old.is_archived()
    await begin.close()
    await dump.close()
    await other.close()


async def test_a_second_command_on_the_same_database_is_refused(old: Old) -> None:
    other = await asyncpg.connect(old.dsn)
    with pytest.raises(AnotherRuns, match="wait until it has ended"):
        await prepare(other)
    await other.close()


# files and disks ----------------------------------------------------------------------------------


async def test_a_damaged_file_is_named_and_nothing_is_attached(old: Old, tmp_path: Path) -> None:
    await old.archive(tmp_path / "a")
    for name in ("payments.csv", "operations.csv", "events.csv"):
        for damage in ("changed", "cut", "missing"):
            broken = tmp_path / f"{name} {damage}"
            shutil.copytree(tmp_path / "a", broken)
            content = bytearray((broken / name).read_bytes())
            if damage == "changed":
                content[len(content) // 2] ^= 1
            (broken / name).write_bytes(content[: len(content) - (damage == "cut")])
            if damage == "missing":
                (broken / name).unlink()
            with pytest.raises(restoring.Damaged, match=name):
                await restoring.restore(old.connection, broken, quiet)
    assert await old.rows() == {table: [] for table in TABLES}
    assert await old.is_archived()


async def test_a_file_that_was_changed_together_with_its_hash_is_refused(
    old: Old, tmp_path: Path
) -> None:
    await old.archive(tmp_path / "a")
    file, path = tmp_path / "a" / "payments.csv", tmp_path / "a" / "manifest.json"
    true_hash = directory.sha256(file)
    file.write_bytes(file.read_bytes().replace(b",2500,2500,2500,", b",2600,2600,2600,"))
    path.write_text(path.read_text().replace(true_hash, directory.sha256(file)))
    with pytest.raises(restoring.CannotRestore, match="is not the archive that took"):
        await restoring.restore(old.connection, tmp_path / "a", quiet)
    await old.connection.execute("DELETE FROM archived_months WHERE month = $1", old.suffix)
    with pytest.raises(restoring.Damaged, match=r"payments\.csv does not hold"):
        await restoring.restore(old.connection, tmp_path / "a", quiet)
    assert await old.rows() == {table: [] for table in TABLES}


async def test_no_file_of_somebody_else_is_overwritten(old: Old, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    with pytest.raises(directory.CannotUse, match=r"thesis\.txt"):
        await old.archive(foreign)
    await old.archive(tmp_path / "a")
    following = old._replace(month=partitions.month_start(old.month, 1))
    with pytest.raises(directory.CannotUse, match="another archive, which is never overwritten"):
        await following.archive(tmp_path / "a")
    directory.begin(tmp_path / "b", old.suffix, "another database")
    with pytest.raises(directory.CannotUse, match="unfinished archive of another"):
        await following.archive(tmp_path / "b")
    with pytest.raises(archive.CannotArchive, match="is archived already"):
        await old.archive(tmp_path / "c")
    with pytest.raises(manifest.NotAnArchive):
        await restoring.restore(old.connection, foreign, quiet)
    await restoring.restore(old.connection, tmp_path / "a", quiet)
    with pytest.raises(restoring.CannotRestore, match="already"):
        await restoring.restore(old.connection, tmp_path / "a", quiet)


async def test_a_disk_that_is_too_small_is_told_with_the_size_that_is_needed(
    old: Old, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await old.rows()
    small = shutil.disk_usage(tmp_path)._replace(free=1_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: small)
    with pytest.raises(directory.DiskTooSmall, match=r"needs about [\d.]+ kB, and 1\.0 kB are"):
        await old.archive(tmp_path / "a")
    assert await old.rows() == before
    monkeypatch.undo()
    await old.archive(tmp_path / "a")


async def test_a_disk_that_fills_up_leaves_the_month_and_room_for_others(
    old: Old, tmp_path: Path
) -> None:
    before = await old.rows()

    def full(what: str, done: int, total: int) -> None:
        if what == "writing operations.csv":
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(directory.DiskTooSmall):
        await asyncio.wait_for(old.archive(tmp_path / "a", progress=full), 20)
    assert [each.name for each in (tmp_path / "a").iterdir()] == [directory.MARK]
    again = old._replace(connection=await asyncpg.connect(old.dsn))
    await prepare(again.connection)
    assert await again.rows() == before
    await again.archive(tmp_path / "a")
    await again.connection.close()


async def test_parquet_without_its_extra_names_the_extra(
    old: Old, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(archive.ParquetMissing, match=r"easypay\[parquet\]"):
        await old.archive(tmp_path / "a", format="parquet")


# the feed and the search table --------------------------------------------------------------------


async def test_the_feed_stays_and_search_rows_go_and_come_back(old: Old, tmp_path: Path) -> None:
    low, high = ids.lowest_id_at(old.month), ids.lowest_id_at(partitions.month_start(old.month, 1))

    async def here(table: str) -> list[Any]:
        rows: list[Any] = await old.connection.fetch(
            f"SELECT * FROM {table} t WHERE payment_id >= $1 AND payment_id < $2 ORDER BY t",
            low,
            high,
        )
        return rows

    await old.connection.execute(feed._FILL.format(payments=old.payments))
    rows, numbered = await here("payment_search"), await here("feed")
    assert (len(rows), len(numbered)) == (60, 60)
    await old.archive(tmp_path / "a")
    assert await here("payment_search") == []
    await old_month.number_events(old.connection)
    await restoring.restore(old.connection, tmp_path / "a", quiet)
    assert await here("payment_search") == rows
    marks = await numbering.marks(old.connection)
    mark = next(each for each in marks if each.month == old.suffix)
    arguments = numbering._arguments(mark, 1 << 40, 1 << 40)
    await old.connection.fetch(numbering.in_month(old.suffix), *arguments, None)
    assert await here("feed") == numbered


async def test_statistics_keep_what_a_payment_of_the_month_did_later(
    cluster: Cluster, template: str, tmp_path: Path
) -> None:
    """Its refund in the next month was counted by the brand of its card, which only the payment
    tells: while that is away, the count is neither called wrong nor counted again."""
    dsn = await new_database(cluster.dsn, template)
    connection = await asyncpg.connect(dsn)
    old = Old(dsn, connection, old_month.start())
    await old_month.make_tables(connection, old.month)
    await old_month.fill(connection, old.month)
    await connection.execute("UPDATE payments SET card_brand = 'visa'")
    next_month = partitions.month_start(old.month, 1)
    await connection.execute(
        "INSERT INTO events (merchant_id, id, payment_id, operation_id, mode, type, status,"
        " amount_minor, currency, created_at) SELECT merchant_id, $2, id, $2, mode,"
        " 'refund.succeeded', status, refunded_minor, currency, $3 FROM payments WHERE id = $1",
        *(old_month.id_in(old.month, 1), old_month.id_in(next_month, 1), next_month),
    )
    for mark in await numbering.marks(connection):
        await numbering.adopt(connection, mark)
    follower = Follower(PAYMENTS, dsn, limit_s=30)
    await follower.catch_up(connection, await head(connection))
    await follower.close()
    refunded = "SELECT brand, refunded FROM payment_counts WHERE refunded > 0"
    counted = await connection.fetch(refunded)
    assert [tuple(row) for row in counted] == [("visa", 1)]
    await prepare(connection)
    await old.archive(tmp_path / "a")
    assert await statistics_check.verify(connection) == []
    await statistics_check.rebuild(connection)
    assert await connection.fetch(refunded) == counted
    await restoring.restore(connection, tmp_path / "a", quiet)
    assert await statistics_check.verify(connection) == []
    await connection.execute("UPDATE payment_counts SET refunded = 2 WHERE refunded > 0")
    (found,) = await statistics_check.verify(connection)
    assert (found.stored, found.by_rows) == (2, 1)
    await connection.close()
