"""Many differences and batches, and what reconciliation asks of them."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from easypay import ids
from easypay.db import partitions
from easypay.mode import MODE
from easypay.processors.books import BookLine, BrandFigures, SettledBatch
from easypay.reconciliation import breaks, matching, reading, run, state
from easypay.reconciliation.breaks import Asked, New, Ours
from easypay.reconciliation.matching import Account
from easypay.reconciliation.model import BreakKind
from easypay.reconciliation.spool import Spool
from plans.world import ACCOUNT, World

LINES: Final = 200
_FILL: Final = """
    INSERT INTO account_books (account, read_until, last_started_at, last_ended_at)
    SELECT DISTINCT account, now(), now(), now() FROM processor_logins
    ON CONFLICT DO NOTHING
"""
_FILL_BATCHES: Final = """
    INSERT INTO settled_batches (account, batch_id, settled_at, state, method, read_at)
    SELECT sha256($1::bytea || int4send(n % 50)), 'b' || n, now() - n * interval '1 hour',
           'settledSuccessfully', 'card', now()
      FROM generate_series(1, 5000) AS n
"""
_FILL_BREAKS: Final = """
    INSERT INTO reconciliation_breaks (id, account, kind, subject, state, merchant_id, mode,
        transaction_id, found_at)
    SELECT (left(lowest_id_at(now() - n * interval '1 minute')::text, 14) || '7'
            || right(md5(n::text), 3) || '-a' || left(md5(n::text), 3) || '-'
            || left(md5(n::text), 12))::uuid,
           sha256($1::bytea || int4send(n % 50)), 'unexplained_charge', n::text,
           CASE WHEN n % 100 = 0 THEN 'open' ELSE 'matched' END,
           CASE WHEN n % 10 = 0 THEN $2::uuid ELSE gen_random_uuid() END, $3, n::text,
           now() - n * interval '1 minute'
      FROM generate_series(1, 20000) AS n
"""
_OPERATIONS: Final = """
    SELECT o.id, p.transaction_id, p.captured_minor, p.currency FROM operations o
      JOIN payments p ON p.merchant_id = o.merchant_id AND p.mode = o.mode AND p.id = o.payment_id
     WHERE o.merchant_id = $1 AND o.id >= $2 AND o.id < $4 AND o.kind = 'sale'
       AND p.status = 'captured' AND p.transaction_id <> ''
     ORDER BY o.id DESC LIMIT $3
"""
_lines: list[BookLine] = []


async def fill(w: World) -> None:
    if await w.connection.fetchval("SELECT EXISTS (SELECT FROM reconciliation_breaks)"):
        return
    await w.connection.execute(_FILL)
    await w.connection.execute(_FILL_BATCHES, ACCOUNT)
    await w.connection.execute(_FILL_BREAKS, ACCOUNT, w.merchant_id, w.mode)
    for table in ("account_books", "settled_batches", "reconciliation_breaks"):
        await w.connection.execute(f"ANALYZE {table}")
    # Of whole months: with one that has only begun they would lie in one month more.
    begin, end = (ids.lowest_id_at(partitions.month_start(w.now, n)) for n in (-6, 0))
    _lines[:] = [
        BookLine(
            row["transaction_id"],
            "settledSuccessfully",
            "settled",
            "charge",
            ids.reference(row["id"]),
            row["captured_minor"],
            row["currency"],
            "visa",
            "1111",
            w.now,
        )
        for row in await w.connection.fetch(_OPERATIONS, w.merchant_id, begin, LINES, end)
    ]
    assert len(_lines) == LINES


def account_of(w: World) -> Account:
    return Account(ACCOUNT, [w.merchant_id], datetime(2000, 1, 1, tzinfo=UTC))


def _spool(w: World) -> Spool:
    spool = Spool(w.now + timedelta(days=1))
    spool.add(_lines, "4711", w.now)
    return spool


async def compare_a_batch(w: World) -> None:
    # In its own books the account has these transactions already.
    spool, account, new = _spool(w), account_of(w)._replace(key=b"another"), New()
    await matching.match(w.connection, spool, account, w.now)
    await matching.keep(w.connection, spool, account, "4711", whole=True)
    await breaks.note(w.connection, account, new)
    spool.close()
    kept = await w.connection.fetchval(
        "SELECT count(*) FROM settled_transactions WHERE account = $1 AND batch_id = '4711'",
        account.key,
    )
    assert kept == LINES


async def look_for_what_is_in_no_list(w: World) -> None:
    spool, account = _spool(w), account_of(w)
    await matching.match(w.connection, spool, account, w.now)
    spool.close()
    high = ids.lowest_id_at(w.now)
    low = ids.lowest_id_at(w.now - timedelta(days=1))
    for look in (breaks.not_in_the_books, breaks.ended_late):
        await look(w.connection, account, (low, high), w.now)
    await breaks.open_ours(w.connection, account, run.MOST_WAITING)
    await breaks.open_lines(w.connection, account, run.MOST_WAITING)
    await breaks.open_settled(w.connection, account, ("", ""), run.MOST_LINES)
    ours = Ours(w.merchant_id, w.operation.id, w.payment.id, w.operation.reference, "1", False)
    asked = [Asked(ours, BreakKind.UNEXPLAINED_VOID, "voided")]
    await breaks.note_asked(w.connection, account, asked, New())


async def keep_list_of_batches(w: World) -> None:
    batches = [
        SettledBatch(
            batch_id=f"b{n}",
            settled_at=w.now,
            state="settledSuccessfully",
            closed=True,
            method="card",
            statistics=[BrandFigures(brand="Visa", charges=n)],
        )
        for n in range(100)
    ]
    await reading.listed(w.connection, ACCOUNT, batches)
    waiting = await reading.to_read(w.connection, ACCOUNT, batches)
    assert len(waiting) == 100
    await reading.has_read(w.connection, ACCOUNT, waiting[0], whole=True, shared=False)


async def take_lease(w: World) -> None:
    holder = ids.new_id()
    assert await w.connection.fetchval(run.TAKE, ACCOUNT, w.now, holder, 60.0)
    assert await w.connection.fetchval(run.RENEW, ACCOUNT, holder, 60.0)
    assert await w.connection.fetchrow(run.HOLD, ACCOUNT, holder) is not None
    await w.connection.execute(run.END, ACCOUNT, holder, None, w.now, False)


async def which_accounts_are_due(w: World) -> None:
    await run.due(w.pool, 3600.0)
    await state.accounts(w.pool)


async def judge_our_own_rows(w: World) -> None:
    await breaks.note_ours(w.connection, account_of(w), New())


async def list_breaks(w: World) -> None:
    found = await state.page(
        w.pool, w.merchant_id, MODE[w.mode], ids.lowest_id_at(w.now + timedelta(days=1)),
        state=None, kind=None, limit=101,
    )  # fmt: skip
    assert len(found) == 101


async def match_break(w: World) -> None:
    (found, *_) = await state.oldest(w.pool, state="open", kind=None, limit=1)
    assert await breaks.find(w.connection, found.id)
    assert await breaks.own(w.connection, found.id, "jane", "joe")
    assert await breaks.match_by_hand(w.connection, found.id, "joe", "by telephone")


async def count_open(w: World) -> None:
    assert await state.open_by_kind(w.pool)


TEMPORARY: Final[Any] = ("book_lines", "book_matches")
