"""Every statement that a gateway runs regularly, with what it may cost on ten years of payments.

A case calls the code that runs in production; its statements are looked at as they are sent. A new
statement gets a row here, and a new index must be named by a row that uses it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
from row_builders import approved, begun, month, new_payment, refund_of

from easypay import clock, ids
from easypay.alerts import store as alert_store
from easypay.alerts.states import State
from easypay.batches import claims as batch_claims
from easypay.batches import removal as batch_removal
from easypay.batches import store as batch_store
from easypay.batches.model import Batch
from easypay.cache.caches import Caches
from easypay.cache.feed_follower import FeedFollower
from easypay.compaction.due import due
from easypay.db import archived_months, month_report, partitions, table_sizes, work_list
from easypay.db.claim_window import EVER_S
from easypay.db.connections import Lane
from easypay.db.lease import Lease, hold
from easypay.db.reading import Reading
from easypay.db.work_list import Work
from easypay.events import batch_events, numbering, pages, readers, summaries
from easypay.events.pages import FeedPage
from easypay.merchants import admin
from easypay.merchants.directory import Directory
from easypay.mode import Mode
from easypay.observability import error_kinds, process_metrics
from easypay.observability.error_kinds import Kind, Seen
from easypay.payments import (
    account_lease,
    authorization_expiry,
    duplicate_report,
    feed_fold,
    late_charges,
    operation_details,
    orphan_sweep,
    purge,
    queue_claims,
    queue_rows,
    resolver_rows,
    restored,
    search,
    search_of_unknown,
    statements,
    statistics,
    store,
    totals,
    witnesses,
)
from easypay.payments.duplicate_purge import purge_guards
from easypay.payments.duplicates import BEGIN_CHECKED, CheckedPayment
from easypay.payments.event_objects import objects_of
from easypay.payments.lists import (
    EVENTS_OF_PAYMENT,
    OPERATIONS_OF_PAYMENT,
    PAYMENTS,
    REFUNDS,
    Lists,
    Span,
)
from easypay.payments.model import PaymentKey, Status
from easypay.payments.outcome_changes import decide
from easypay.payments.resolver_rows import AccountWork, Missed
from easypay.payments.seals import Seals
from easypay.payments.search import Filters
from easypay.payments.statements import Statement
from easypay.payments.statistics import Question
from easypay.payments.statistics_sql import SETTINGS
from easypay.payments.stored_begin import BEGIN_STORED
from easypay.payments.stored_methods import LOOK_UP
from easypay.processors.base import Unknown
from easypay.processors.registry import installed
from easypay.restoring import rows as rows_after_restore
from easypay.restoring.story import Owner
from easypay.webhooks import endpoints, fan_out
from easypay.webhooks import log as webhook_log
from easypay.webhooks import queue as webhook_queue
from easypay.webhooks.model import Back
from easypay.worker import running_out
from plans import book_rows, customer_rows, notification_rows, settlement_rows
from plans.explain import EXPLAINING, Explainer, Found, parents_of
from plans.world import ACCOUNT, World

FAST_LOCKS: Final = 16
"""Locks that a backend takes in its own memory. More than these go through the table of locks that
all backends share, so hot statements stay within."""
PAGE: Final = 101
"""Rows of the largest page of a list, and one more that says whether there is a next page."""
SINCE: Final = 6
"""Months from the last one to those that are made ahead."""
GROUP: Final = 32
"""Items of a group in these cases."""
LATEST: Final = UUID(int=(1 << 128) - 1)
EARLIEST: Final = UUID(int=0)

Run = Callable[[World], Awaitable[object]]


@dataclass(frozen=True)
class Case:
    """What a piece of code may cost the database."""

    name: str
    run: Run
    uses: tuple[str, ...] = ()
    """Indexes that its plans must use, by their names on the parent tables."""
    months: int = 2
    """Months whose tables may be in its plans. UUIDs of the last days may lie in two."""
    locks: int = 40
    buffers: int = 60
    """Pages of 8 KiB."""
    sorts: int = PAGE
    """The most rows that one step may sort."""
    reads_whole: tuple[str, ...] = ()
    """Tables that it may scan sequentially."""
    because: str = ""
    """Why it may read whole tables, all months, or sort much."""
    measure: Callable[[World, "Case"], Awaitable[Found]] = field(
        default=lambda world, case: world.explainer.explain(lambda: case.run(world))
    )


# hot statements ------------------------------------------------------------------------------


def hot(
    name: str,
    statement: Statement[Any, Any],
    items: Callable[[World], Awaitable[list[Any]]],
    **bounds: Any,
) -> Case:
    """Return the case of a group statement, over a lane of its own as in production."""

    async def measure(world: World, case: Case) -> Found:
        lane = statements.lane(statement, world.dsn)
        group = sorted(await items(world), key=statement.order)
        variant = " ".join(map(month, statement.months(group[0])))
        return await over(lane, lambda: lane.fetch(statement.arguments(group), variant))

    return Case(name, _nothing, measure=measure, **bounds)


async def _nothing(world: World) -> None:
    raise AssertionError("the case measures by itself")


async def over(lane: Lane, run: Callable[[], Awaitable[object]]) -> Found:
    """Measure what runs over a lane."""
    lane._settings = {**lane._settings, **EXPLAINING}
    connection = lane._connection = await lane._connector.connect(server_settings=lane._settings)
    try:
        return await Explainer(connection, await parents_of(connection)).explain(run)
    finally:
        await lane.close()


async def new_payments(world: World) -> list[Any]:
    return [new_payment(world.merchant_id, mode=world.mode) for _ in range(GROUP)]


async def refunds(world: World) -> list[Any]:
    new = replace_payment(new_payment(world.merchant_id), world)
    return [refund_of(new, 1, mode=world.mode, payment_id=world.payment.id)]


def replace_payment(new: Any, world: World) -> Any:
    return msgspec.structs.replace(new, payment=world.payment)


async def outcomes(world: World) -> list[Any]:
    """Return outcomes of payments begun just now: most approved, some unknown."""
    made = [new_payment(world.merchant_id, mode=world.mode) for _ in range(GROUP)]
    await world.connection.fetch(
        statements.BEGIN_PAYMENTS, *statements.begin_payments_arguments(made)
    )
    changes = []
    for n, new in enumerate(made):
        payment, operation = await begun(world.connection, new)
        if n % 4:
            changes.append(approved(payment, operation))
        else:
            lost = Unknown(reason="no answer")
            changes.append(decide(operation, payment, lost, at=clock.now(), first_inquiry_s=5))
    return changes


async def keys_of_payments(world: World) -> list[Any]:
    rows = await world.connection.fetch(
        "SELECT merchant_id, mode, id FROM payments WHERE id >= $1 AND id < $2 LIMIT $3",
        ids.lowest_id_at(partitions.month_start(ids.moment_of(world.payment.id))),
        ids.lowest_id_at(partitions.month_start(ids.moment_of(world.payment.id), 1)),
        GROUP,
    )
    return [PaymentKey(*row) for row in rows]


async def checked(world: World) -> list[Any]:
    """Return payments that are compared: half are the first of their purchase, half the second."""
    digests = await world.connection.fetch(
        "SELECT digest FROM duplicate_guards WHERE merchant_id = $1 LIMIT $2",
        world.merchant_id,
        GROUP // 2,
    )
    made = [new_payment(world.merchant_id, mode=world.mode) for _ in range(GROUP)]
    known = [row[0] for row in digests]
    known += [ids.new_id().bytes * 2 for _ in range(GROUP - len(known))]
    return [
        CheckedPayment(new, digest, 120, False) for new, digest in zip(made, known, strict=True)
    ]


async def number_events(world: World, case: Case) -> Found:
    """Measure how the feed's leader numbers the newest events of the present month."""
    present = f"{clock.now():%Y_%m}"
    lane = Lane(world.dsn, "feed", numbering.in_month, lookups=True)
    (mark,) = [m for m in await numbering.marks(world.connection) if m.month == present]
    return await over(lane, lambda: numbering.number(lane, mark, transactions=2_000, most=5_000))


async def number_and_fold(world: World, case: Case) -> Found:
    """Measure the same with the fold in the same statement, as nearly always."""
    present = f"{clock.now():%Y_%m}"
    lane = Lane(
        world.dsn,
        "feed",
        lambda variant: numbering.and_read(present, feed_fold.PAYMENTS),
        lookups=True,
    )
    (mark,) = [m for m in await numbering.marks(world.connection) if m.month == present]
    last = await readers.head(world.connection)

    async def run() -> None:
        done = await numbering.number(lane, mark, transactions=2_000, most=5_000, read_to=last)
        assert done.read is not None or not done.events

    return await over(lane, run)


async def fill_search(world: World, case: Case) -> Found:
    """Measure how the search table and the statistics follow the newest events of one month: that
    before, if this one has only begun."""
    lane = Lane(
        world.dsn,
        "feed payments",
        lambda month: feed_fold.PAYMENTS.sql(readers.tables_of(month)),
        lookups=True,
    )
    month, last = await world.connection.fetchrow(_NEWEST, GROUP)
    await world.connection.execute("UPDATE feed_readers SET last_seq = $1", last - GROUP)

    async def fold() -> None:
        assert await lane.fetch((last - GROUP, last, None, []), month)

    return await over(lane, fold)


_NEWEST: Final = """
    SELECT to_char(e.created_at AT TIME ZONE 'UTC', 'YYYY_MM') AS month, max(f.seq)
      FROM feed f JOIN events e ON e.id = f.event_id
     WHERE e.created_at > now() - interval '60 days' GROUP BY 1
    HAVING count(*) > 2 * $1 ORDER BY 1 DESC LIMIT 1
"""


HOT: Final = (
    hot("begin payments", statements.BEGIN, new_payments,
        locks=FAST_LOCKS, buffers=60 * GROUP),
    hot("begin a refund, capture or void", statements.FOLLOW_UP, refunds,
        uses=("payments_pkey", "idempotency_keys_pkey"), locks=FAST_LOCKS),
    hot("record outcomes", statements.RECORD_CHANGES, outcomes,
        uses=("payments_pkey", "unresolved_operations_pkey"), locks=FAST_LOCKS, buffers=60 * GROUP),
    hot("record outcomes of queued operations", queue_rows.RECORD_QUEUED_CHANGES, outcomes,
        uses=("payments_pkey", "queued_operations_pkey"), locks=FAST_LOCKS, buffers=60 * GROUP),
    hot("read payments by id", statements.READ, keys_of_payments,
        uses=("payments_pkey",), locks=FAST_LOCKS, buffers=8 * GROUP),
    hot("begin payments that are checked for duplicates", BEGIN_CHECKED, checked,
        uses=("duplicate_guards_pkey", "idempotency_keys_pkey", "payments_pkey"),
        locks=FAST_LOCKS, buffers=80 * GROUP),
)  # fmt: skip


# by id, and what belongs to a payment ----------------------------------------------------------


async def look_up_key(w: World) -> None:
    assert await store.find_key(w.pool, w.merchant_id, w.mode, w.key)


async def read_operation(w: World) -> None:
    assert await store.find_operation(w.pool, w.merchant_id, w.operation.id)


async def read_payment(w: World) -> None:
    assert await store.find_payment(w.pool, PaymentKey(w.merchant_id, w.mode, w.payment.id))


async def repeat_what_was_not_sent(w: World) -> None:
    case = w.open[0]
    await w.connection.execute(
        "UPDATE operations SET state = 'not_sent' WHERE merchant_id = $1 AND id = $2", *case.id
    )
    operation = await store.find_operation(w.pool, *case.id)
    assert operation is not None
    assert await store.reopen(w.pool, operation, w.payment.login_id)


async def look_for_an_absent_operation_now(w: World) -> None:
    await store.look_now(w.pool, w.operation)


BY_ID: Final = (
    Case("look up an idempotency key", look_up_key,
         uses=("idempotency_keys_pkey", "operations_pkey"), months=1, locks=12),
    Case("read an operation", read_operation, uses=("operations_pkey",), months=1, locks=10),
    Case("read a payment outside a group", read_payment,
         uses=("payments_pkey",), months=1, locks=4),
    Case("restart an operation that was never sent", repeat_what_was_not_sent,
         uses=("operations_pkey", "payments_pkey", "unresolved_operations_pkey")),
    Case("look for an absent operation now", look_for_an_absent_operation_now,
         uses=("payments_pkey", "processor_logins_pkey", "watched_operations_pkey")),
)  # fmt: skip


# lists -----------------------------------------------------------------------------------------


def listed(name: str, run: Callable[[World, Lists], Awaitable[object]], **bounds: Any) -> Case:
    """Return the case of a list, over a connection for reading."""

    async def measure(world: World, case: Case) -> Found:
        reading = Reading(world.dsn, connections=1, queue=1, limit_s=5, patience_s=5)
        lists = Lists(reading, world.months)
        return await over(reading._lanes[0], lambda: run(world, lists))

    return Case(name, _nothing, measure=measure, **bounds)


def newest(w: World) -> UUID:
    """Return the bound above all ids, as the API sets it."""
    return ids.lowest_id_at(w.now + timedelta(days=1))


def everything(w: World, *, newest_first: bool = True) -> Span:
    return Span(w.merchant_id, w.mode, EARLIEST, newest(w), newest_first)


def since_payment(w: World) -> Span:
    return Span(w.merchant_id, w.mode, store.earliest_child(w.payment.id), newest(w), False)


async def page_of_payments(w: World, lists: Lists) -> None:
    assert len(await lists.page(PAYMENTS, everything(w), PAGE)) == PAGE


async def page_of_old_payments(w: World, lists: Lists) -> None:
    old = replace_span(everything(w), below=ids.lowest_id_at(w.now - timedelta(days=5 * 365)))
    assert len(await lists.page(PAYMENTS, old, PAGE)) == PAGE


def replace_span(span: Span, **changed: Any) -> Span:
    return msgspec.structs.replace(span, **changed)


async def count_payments(w: World, lists: Lists) -> None:
    assert (await lists.count(PAYMENTS, everything(w), 1)).total


async def page_of_refunds(w: World, lists: Lists) -> None:
    assert await lists.page(REFUNDS, everything(w), PAGE)


async def operations_of_one(w: World, lists: Lists) -> None:
    assert await lists.page(OPERATIONS_OF_PAYMENT, since_payment(w), PAGE, w.payment.id, None)


async def events_of_one(w: World, lists: Lists) -> None:
    assert await lists.page(EVENTS_OF_PAYMENT, since_payment(w), PAGE, w.payment.id)


async def operations_of_many(w: World, lists: Lists) -> None:
    payments = [row["id"] for row in await lists.page(PAYMENTS, everything(w), PAGE)]
    await lists.operations_of(
        w.merchant_id, w.mode, payments, kind=None, limit=10,
        since=store.earliest_child(min(payments)), until=newest(w),
    )  # fmt: skip


async def read_by_ids(w: World, lists: Lists) -> None:
    payments = [row["id"] for row in await lists.page(PAYMENTS, everything(w), PAGE)]
    assert await lists.by_ids(PAYMENTS, w.merchant_id, w.mode, payments)
    assert await lists.operation(w.merchant_id, w.mode, w.operation.id)


async def read_few_by_ids(w: World, lists: Lists) -> None:
    spread = [
        (await lists.page(PAYMENTS, replace_span(everything(w), below=below), 1))[0]["id"]
        for below in (ids.lowest_id_at(w.now - timedelta(days=150 * n)) for n in range(21))
    ]
    rows_of_page = await lists.by_ids(PAYMENTS, w.merchant_id, w.mode, spread)
    assert len(rows_of_page) == len(spread)


async def page_of_the_feed(w: World, reading: Any) -> FeedPage:
    """The merchant's newest events, as a client that follows them reads them."""
    stream = await pages.stream_of(reading, w.merchant_id, w.mode)
    assert stream is not None
    last = await pages.newest(reading, stream)
    place = await pages.checked(reading, stream, last)
    before = msgspec.structs.replace(place, position=place.position - PAGE)
    page = await pages.read(reading, w.merchant_id, stream, before, limit=PAGE)
    assert len(page.events) == PAGE
    return page


async def events_with_payments(w: World, reading: Any) -> None:
    page = await page_of_the_feed(w, reading)
    assert all(view.data for view in await objects_of(reading, page.events))


def read(name: str, run: Callable[[World, Any], Awaitable[object]], **bounds: Any) -> Case:
    """Return the case of something else that is read over a connection for reading."""

    async def measure(world: World, case: Case) -> Found:
        reading = Reading(world.dsn, connections=1, queue=1, limit_s=5, patience_s=5)
        return await over(reading._lanes[0], lambda: run(world, reading))

    return Case(name, _nothing, measure=measure, **bounds)


EVENT_PAGES: Final = (
    read("read a page of a merchant's events", page_of_the_feed,
         uses=("feed_position", "stream_once", "events_of_payment"), months=SINCE, locks=60,
         buffers=600),
    read("show a page of events with their payments", events_with_payments,
         uses=("payments_pkey", "events_of_payment"), months=SINCE, locks=120, buffers=1_500,
         sorts=1_000, because="it sorts all events of the page's payments"),
)  # fmt: skip


LISTS: Final = (
    listed("list payments, newest first", page_of_payments, uses=("payments_pkey",), months=20,
           locks=40, buffers=300),
    listed("list payments of five years ago", page_of_old_payments, uses=("payments_pkey",),
           months=20, locks=40, buffers=300),
    listed("count payments", count_payments, uses=("payments_pkey",), months=200, locks=500,
           buffers=12_000, because="it counts up to 10,000 rows, of any month"),
    listed("list refunds", page_of_refunds, uses=("operations_refunds",), months=200, locks=900,
           buffers=900, because="a merchant with few refunds has them in any month"),
    listed("list a payment's operations", operations_of_one, uses=("operations_of_payment",),
           months=SINCE, locks=60),
    listed("list a payment's events", events_of_one, uses=("events_of_payment",), months=SINCE,
           locks=60),
    listed("list the operations of a page of payments", operations_of_many,
           uses=("operations_of_payment",), months=20, locks=120, buffers=6_000),
    listed("read a page of payments of ten years by their ids", read_few_by_ids,
           uses=("payments_pkey",), months=45, locks=250, buffers=300,
           because="PostgreSQL locks every month of a parent table, but opens those of the ids"),
    listed("read payments and operations by their ids", read_by_ids,
           uses=("payments_pkey",), months=20, locks=60, buffers=1_500),
)  # fmt: skip


# lists with filters ----------------------------------------------------------------------------


def asked(name: str, run: Run, **bounds: Any) -> Case:
    """Return the case of a question, over a connection as those of the statistics."""
    return Case(
        name,
        run,
        measure=lambda world, case: world.questions_explainer.explain(lambda: case.run(world)),
        **bounds,
    )


def filtered(name: str, index: str, filters: Callable[[World], Filters], **bounds: Any) -> Case:
    """Return the case of a list with filters: how the ids are found."""

    async def run(w: World, lists: Lists) -> None:
        sql, arguments = await search.statement(lists, filters(w), everything(w), PAGE)
        await lists.fetch(sql, *arguments)

    return listed(f"filter payments by {name}", run, uses=(index,), **{"months": 0, **bounds})


def _reference(w: World) -> Filters:
    return Filters(processor_reference=w.operation.reference)


def _few_amounts(w: World) -> Filters:
    return Filters(amount_from=w.payment.amount_minor, amount_to=w.payment.amount_minor + 5)


def _card_and_amounts(w: World) -> Filters:
    amount = w.payment.amount_minor
    return Filters(
        last4=w.payment.card_last4, brand=w.payment.card_brand,
        amount_from=amount * 98 // 100, amount_to=amount * 102 // 100,
    )  # fmt: skip


FILTERS: Final = (
    filtered("status", "payment_search_status", lambda w: Filters(status=Status.DECLINED),
             sorts=20 * PAGE, because="it merges the first rows of each currency"),
    filtered("currency", "payment_search_status", lambda w: Filters(currency=w.payment.currency),
             sorts=20 * PAGE, buffers=600, because="it merges the first rows of each status"),
    filtered("amount", "payment_search_amount",
             lambda w: Filters(amount_from=w.payment.amount_minor,
                               amount_to=w.payment.amount_minor)),
    filtered("many amounts", "payment_search_pkey", lambda w: Filters(amount_from=1),
             buffers=2_500, because="it looks through the first rows of the list"),
    filtered("few amounts", "payment_search_amount", _few_amounts, buffers=5_000, sorts=10_000,
             because="they are found among all rows of the amounts, and sorted"),
    filtered("decline code and amounts", "payment_search_decline",
             lambda w: msgspec.structs.replace(_few_amounts(w), decline_code="generic_decline"),
             buffers=5_000, sorts=2_000, because="few rows have both, and they are looked for"),
    filtered("last four digits", "payment_search_card",
             lambda w: Filters(last4=w.payment.card_last4),
             sorts=20 * PAGE, because="it merges the first rows of each brand"),
    filtered("last four digits and brand", "payment_search_card",
             lambda w: Filters(last4=w.payment.card_last4, brand="jcb")),
    filtered("card and amounts", "payment_search_card", _card_and_amounts, buffers=200),
    filtered("processor's transaction", "payment_search_transaction",
             lambda w: Filters(processor_transaction_id=w.payment.answer.transaction_id)),
    filtered("order reference", "payment_search_order",
             lambda w: Filters(order_reference=w.payment.details.order_reference)),
    filtered("customer reference", "payment_search_customer",
             lambda w: Filters(customer_reference=w.customer)),
    filtered("customer", "payment_search_stored", lambda w: Filters(customer=w.stored_customer)),
    filtered("decline code", "payment_search_decline",
             lambda w: Filters(decline_code="generic_decline")),
    filtered("refunds", "payment_search_refunded", lambda w: Filters(refunded=True), buffers=150),
    filtered("processor's reference", "operations_pkey", _reference, months=1),
    filtered("an unknown outcome", "payment_search_status",
             lambda w: Filters(status=Status.PROCESSING),
             sorts=20 * PAGE, because="it merges the first rows of each currency"),
)  # fmt: skip


# statistics ------------------------------------------------------------------------------------


async def ask_about_a_year(w: World) -> None:
    today = w.now.replace(hour=0, minute=0, second=0, microsecond=0)
    question = Question(
        w.merchant_id, w.mode, today - timedelta(days=365), today, "month", by_brand=True
    )
    await w.questions.execute(SETTINGS)
    await statistics.answer(w.questions, w.months, question)


async def ask_about_any_stretch(w: World) -> None:
    """Ask about a day from a second before a payment, while PostgreSQL takes the search table for
    small. If it hashed the table, it would read all of a merchant with millions of payments."""
    await w.questions.execute("UPDATE pg_class SET reltuples = 9 WHERE relname = 'payment_search'")
    await w.questions.execute(SETTINGS)
    since = ids.moment_of(w.payment.id) - timedelta(seconds=1)
    question = Question(w.merchant_id, w.mode, since, since + timedelta(days=1), by_brand=True)
    await statistics.answer(w.questions, w.months, question)


async def total_of_all(w: World) -> None:
    moved = "UPDATE sweeps SET swept_below = lowest_id_at(now() - interval '2 minutes')"
    await w.connection.execute(moved)
    await w.questions.execute(SETTINGS)
    assert await totals.read(w.questions, w.months, Filters(), everything(w))


async def seal(w: World) -> None:
    await w.connection.execute(
        "UPDATE statistics_seals SET next_at = now() WHERE merchant_id = $1", w.merchant_id
    )
    seals = Seals()
    while await seals.step(w.pool):
        pass


async def find_archived(w: World) -> None:
    await archived_months.of_id(w.pool, w.payment.id)


STATISTICS: Final = (
    asked("ask for the statistics of a year", ask_about_a_year,
          uses=("payment_counts_pkey", "decline_counts_pkey", "statistics_seals_pkey"),
          months=24, locks=150, buffers=15_000, sorts=20_000,
          reads_whole=("feed_head", "feed_readers", "feed_months"),
          because="a row each, and a row for each month"),
    asked("ask for the statistics between any two moments", ask_about_any_stretch,
          uses=("payment_counts_pkey", "payment_search_pkey"),
          months=24, locks=900, buffers=400, sorts=2_000,
          reads_whole=("feed_head", "feed_readers", "feed_months"),
          because="a row each, and a row for each month; PostgreSQL locks every month of a parent "
                  "table, but opens those that the bounds of the ids leave"),
    asked("tell how many payments a long list has", total_of_all, uses=("payment_counts_pkey",),
          months=24, locks=150, buffers=15_000, sorts=20_000,
          reads_whole=("feed_head", "feed_readers", "feed_months", "sweeps", "archived_months"),
          because="a row each, and a row for each month"),
    Case("seal a day that is over", seal, uses=("statistics_seals_pkey", "payment_counts_pkey"),
         buffers=1_000, sorts=2_000,
         reads_whole=("merchants", "statistics_seals", "feed_head", "feed_readers", "streams"),
         because="it looks which merchants are due, every ten seconds"),
    Case("look whether a month was archived", find_archived, reads_whole=("archived_months",),
         because="a row for each archived month, after a read found nothing"),
)  # fmt: skip


# the feed --------------------------------------------------------------------------------------


async def read_marks(w: World) -> None:
    assert await numbering.marks(w.connection)
    await numbering.is_restored(w.connection)


async def summarise(w: World) -> None:
    await summaries.Summaries(w.pool).make(f"{clock.now():%Y_%m}")


async def read_head(w: World) -> None:
    await readers.head(w.pool)
    await w.pool.fetchval(readers._POSITIONS, "payments")
    follower = FeedFollower(w.pool, Caches(1024))
    await follower.look()
    assert follower._last_seq is not None
    follower._last_seq -= 50
    await follower.look()


async def lead(w: World) -> None:
    lease = Lease("feed", ids.new_id(), 5)
    token = await lease.take(w.pool)
    assert token is not None
    assert await hold(w.connection, "feed", token)
    await lease.release(w.pool)


async def search_unknown(w: World) -> None:
    await search_of_unknown.take(w.pool)


FEED: Final = (
    Case("number new events", _nothing, measure=number_events,
         uses=("events_written", "feed_position", "stream_once"),
         reads_whole=("feed_months", "feed_head"),
         because="a row for each month, and one row"),
    Case("number new events and fold them at once", _nothing, measure=number_and_fold,
         uses=("events_written", "feed_position", "stream_once", "payment_search_pkey",
               "payments_pkey", "statistics_seals_newest"), locks=80, buffers=150 * GROUP,
         reads_whole=("feed_months", "feed_head", "feed_readers"),
         because="a row for each month, one row, and a row for each reader"),
    Case("fold events into the search table and the statistics", _nothing, measure=fill_search,
         uses=("feed_pkey", "payment_search_pkey", "payments_pkey", "events_of_payment",
               "streams_pkey",
               "payment_counts_pkey", "decline_counts_pkey"), locks=80, buffers=150 * GROUP,
         reads_whole=("feed_readers",), because="a row for each reader"),
    Case("bring payments whose outcome is unknown into the search table", search_unknown,
         uses=("payments_pkey", "stream_once"), months=200, locks=500, buffers=60_000,
         reads_whole=("payments_to_search", "feed_readers"), sorts=1_000,
         because="an unknown outcome may be of any month; what waits is read whole and is gone"),
    Case("read how far the feed has come", read_head, uses=("feed_pkey",), buffers=300,
         reads_whole=("feed_head", "feed_readers", "feed_months", "streams"),
         because="a few rows each"),
    Case("look for new months of the feed", read_marks, reads_whole=("feed_months",), buffers=4000,
         sorts=200, because="a row for each month, every ten seconds"),
    Case("keep the newest events summarised", summarise, buffers=400),
    Case("take the lease of the feed", lead, uses=("leases_pkey",)),
)  # fmt: skip


# the resolver ----------------------------------------------------------------------------------

FRESH: Final = AccountWork(ACCOUNT, False)
OLD: Final = AccountWork(ACCOUNT, True)


async def find_due_accounts(w: World) -> None:
    assert await account_lease.due(w.pool, 20)


async def fill_accounts(w: World) -> None:
    await account_lease.fill_accounts(w.pool, 1_000)


async def claim_queued(w: World) -> None:
    await work_list.claim(w.pool, queue_rows.QUEUED, most=GROUP, lease_s=30)


async def claim_in_turns(w: World, _: Case) -> Found:
    lane = work_list.work_lane(
        w.dsn, queue_rows.QUEUED, more=queue_claims.STATEMENTS, settings=queue_claims.LANE_SETTINGS
    )

    async def run() -> None:
        await queue_claims.next_merchants(lane, UUID(int=0), queue_claims.MOST_MERCHANTS)
        await queue_claims.claim_of(lane, [w.merchant_id], of_each=4, most=GROUP, lease_s=30)

    return await over(lane, run)


async def leave_the_queue(w: World) -> None:
    """Ten days ago is in a month with rows, also on the first of a month."""
    operation_id = ids.lowest_id_at(w.now - timedelta(days=10))
    month = w.months.of(operation_id)
    sql = statements.in_months(queue_rows.LEAVE_LIST, f"{month} {month}")
    await w.pool.fetch(sql, [w.merchant_id], [operation_id], [ids.new_id()])


async def lease_account(w: World) -> None:
    holder = ids.new_id()
    assert await account_lease.lease(w.pool, FRESH, holder, 30)
    await account_lease.release(w.pool, FRESH, holder)


async def read_open_cases(w: World) -> None:
    assert await resolver_rows.open_cases(w.pool, FRESH, 200)


async def read_watched_cases(w: World) -> None:
    assert await resolver_rows.watched_cases(w.pool, OLD, 200)


async def read_cases_of_payment(w: World) -> None:
    case = w.open[0]
    assert await resolver_rows.cases_of_payment(w.pool, case.merchant_id, case.payment_id)


async def read_rows_of_cases(w: World) -> None:
    assert await resolver_rows.rows_of(w.pool, w.open)


async def postpone_cases(w: World) -> None:
    await resolver_rows.postpone(w.pool, [Missed(case, 5.0, "not found") for case in w.open])


async def postpone_watched(w: World) -> None:
    await resolver_rows.postpone(w.pool, [Missed(case, 5.0, "not found") for case in w.watched])


async def close_cases(w: World) -> None:
    await resolver_rows.close(w.pool, [*w.open, *w.watched])


async def watch_cases(w: World) -> None:
    await resolver_rows.watch(w.pool, w.open, ACCOUNT, purpose="absent", for_s=60, first_in_s=10)


async def end_what_was_not_sent(w: World) -> None:
    assert await resolver_rows.claim_not_sent(w.pool, 100)
    await resolver_rows.not_sent(w.pool, w.open)
    await resolver_rows.ask_about(w.pool, w.open)


async def find_witnesses(w: World) -> None:
    after = ids.lowest_id_at(w.now - timedelta(hours=1))
    await witnesses.newest_known(w.pool, ACCOUNT, after)
    bounds = [ids.reference_bounds(case.reference) for case in w.open]
    await witnesses.newest_listed(w.pool, ACCOUNT, bounds)


async def sweep(w: World) -> None:
    await w.connection.execute(
        "UPDATE sweeps SET swept_below = lowest_id_at(now() - interval '2 minutes')"
    )
    await orphan_sweep.Sweep(w.pool, abandoned_after_s=30)._narrow(0)


async def sweep_wide(w: World) -> None:
    await orphan_sweep.Sweep(w.pool, abandoned_after_s=30)._wide(0)


async def sweep_old_authorizations(w: World) -> None:
    await w.connection.execute(
        "UPDATE sweeps SET authorizations_below = lowest_id_at(now() - interval '31 days')"
    )
    await authorization_expiry.Sweep(w.pool).step()


async def remind_of_authorizations(w: World) -> None:
    await w.connection.execute(
        "UPDATE sweeps SET expiring_told_below = lowest_id_at(now() - interval '24 days')"
    )
    await authorization_expiry.Reminders(w.pool).step()


async def expire(w: World) -> None:
    await w.pool.execute(
        authorization_expiry._EXPIRE,
        *(w.merchant_id, w.mode, w.payment.id, w.now, ids.new_id(), w.operation.id),
    )


async def ask_soon(w: World) -> None:
    await authorization_expiry.ask_soon(w.pool, w.payment)


async def count_open_work(w: World) -> None:
    await w.pool.fetchrow(process_metrics.WAITING)
    await w.pool.fetchrow(process_metrics.WATCHED)


RESOLVER: Final = (
    # First: what the others write and take back leaves pages that this one reads.
    Case("count open work for the metrics", count_open_work, uses=("late_charges_open",),
         buffers=300, reads_whole=("unresolved_operations", "watched_operations"),
         because="it counts them, at most 100,000"),
    Case("find accounts with due work", find_due_accounts, buffers=600, sorts=6_000,
         reads_whole=("unresolved_operations", "watched_operations", "account_passes"),
         because="after a bad day all of it is due; it is grouped by account"),
    Case("fill the accounts of new open operations", fill_accounts,
         uses=("unresolved_operations_account", "operations_pkey", "payments_pkey"),
         months=12, locks=80, buffers=6_000),
    Case("claim queued operations", claim_queued,
         uses=("queued_operations_due", "queued_operations_order")),
    Case("claim queued operations of the next merchants", _nothing, measure=claim_in_turns,
         uses=("queued_operations_pkey", "queued_operations_order")),
    Case("take operations off the queue", leave_the_queue,
         uses=("queued_operations_pkey", "operations_of_payment")),
    Case("lease an account", lease_account, uses=("account_passes_pkey",)),
    Case("read an account's open operations", read_open_cases,
         uses=("unresolved_operations_account", "operations_pkey", "payments_pkey"),
         months=12, locks=80, buffers=3_000, sorts=3_000),
    Case("read an account's watched operations", read_watched_cases,
         uses=("watched_operations_due", "operations_pkey", "payments_pkey"),
         months=12, locks=80, buffers=4_000, sorts=3_000),
    Case("read a payment's open operations", read_cases_of_payment,
         uses=("unresolved_operations_pkey", "operations_pkey", "payments_pkey"), buffers=100),
    Case("read open operations with their payments", read_rows_of_cases,
         uses=("operations_pkey", "payments_pkey"), months=12, locks=80, buffers=3_000),
    Case("postpone open operations", postpone_cases,
         uses=("unresolved_operations_pkey",), buffers=4_000),
    Case("postpone watched operations", postpone_watched,
         uses=("watched_operations_pkey",), buffers=4_000),
    Case("close operations", close_cases,
         uses=("unresolved_operations_pkey", "watched_operations_pkey"), buffers=2_000),
    Case("watch operations", watch_cases, uses=("watched_operations_pkey",), buffers=4_000),
    Case("end what was never sent", end_what_was_not_sent,
         uses=("unresolved_operations_due", "operations_pkey"), months=12,
         locks=80, buffers=12_000),
    Case("find witnesses for an absence", find_witnesses,
         uses=("processor_logins_account", "operations_pkey"), months=200, locks=500,
         buffers=10_000, sorts=2_000,
         because="a refund may be of a payment of any month; once in a pass that missed something"),
    Case("sweep for lost processes", sweep, buffers=400,
         reads_whole=("sweeps",), because="one row"),
    Case("sweep widely for lost processes", sweep_wide, uses=("operations_recent",),
         months=200, locks=500, buffers=1_000,
         because="what is held may belong to a payment of any month; every ten minutes"),
    Case("sweep for old authorizations", sweep_old_authorizations, buffers=2_000,
         reads_whole=("sweeps",), because="one row"),
    Case("find authorizations that expire soon", remind_of_authorizations, buffers=2_000,
         reads_whole=("sweeps",), because="one row"),
    Case("expire an authorization", expire, uses=("payments_pkey",)),
    Case("ask about an authorization soon", ask_soon, uses=("operations_of_payment",)),
)  # fmt: skip


# late charges ----------------------------------------------------------------------------------


def _late(w: World) -> late_charges.LateCharges:
    return late_charges.LateCharges(
        pool=w.pool,
        recorder=None,
        processors={},
        call_deadline_s=1,  # type: ignore[arg-type]
    )


async def begin_giving_back(w: World) -> None:
    row = await w.connection.fetchrow(
        "SELECT * FROM late_charges WHERE state = 'returning' LIMIT 1"
    )
    began = await w.pool.fetchval(
        late_charges._BEGIN,
        *(row["merchant_id"], row["operation_id"], ids.new_id(), "void", "x" * 20),
        row["changed_at"],
    )
    assert began == 1
    await w.pool.execute(late_charges._MOVE, row["merchant_id"], row["operation_id"], "returned",
                         None, "returning")  # fmt: skip


LATE: Final = (
    Case("begin to give a late charge back", begin_giving_back,
         uses=("operations_of_payment",), months=200, locks=500, buffers=1_000,
         because="whether money has gone back must not depend on clocks"),
)  # fmt: skip


# after a restore -------------------------------------------------------------------------------


async def look_for_a_repeat(w: World) -> None:
    asked = (w.merchant_id, w.mode, 2500)
    await w.pool.fetchrow(restored._CHARGE, *asked, "USD", bytes(32), "1111", False)
    await w.pool.fetchrow(restored._REFUND, *asked, ids.new_id())


async def find_by_references(w: World) -> None:
    """Ten days ago is in a month with rows, also on the first of a month."""
    begun = [w.now - timedelta(days=10, minutes=minute) for minute in range(100)]
    references = [ids.reference(ids.lowest_id_at(at)) for at in begun]
    assert not await rows_after_restore.known(w.connection, references, [w.merchant_id])


async def find_unseen(w: World) -> None:
    owner = Owner(w.merchant_id, Mode(w.mode), ids.new_id())
    await rows_after_restore.see_nothing(w.connection)
    since = w.now - timedelta(days=31)
    after = ids.lowest_id_at(since)
    assert not await rows_after_restore.unseen(w.connection, owner, after, since, 500)


AFTER_RESTORE: Final = (
    Case("what a payment or a refund repeats", look_for_a_repeat,
         uses=("restored_operations_alike",), months=200, locks=500, buffers=300,
         because="only for merchants who have lost something; any payment may be restored"),
    Case("find lost operations by their references", find_by_references,
         uses=("operations_pkey", "restored_operations_pkey"), months=200, locks=500,
         buffers=2_000, because="a person restores a database"),
    Case("find payments that no list names", find_unseen, uses=("payments_pkey",),
         months=200, locks=500, buffers=20_000,
         reads_whole=("seen_there",), because="a person restores a database"),
)  # fmt: skip


# merchants and keys ----------------------------------------------------------------------------


def directory(w: World) -> Directory:
    return Directory(w.pool, w.vault, installed({}), lease_s=1)


async def authenticate(w: World) -> None:
    caller = await directory(w).caller(w.secret)
    assert caller.login is not None


async def find_logins(w: World) -> None:
    found = directory(w)
    await found.current_login(w.merchant_id, w.mode, "authorize_net")
    await w.pool.fetch("SELECT 1")
    await found.login_of_account(bytes(32))
    await found.login(w.merchant_id, ids.new_id())


async def watch_configuration(w: World) -> None:
    assert await w.pool.fetchval("SELECT version FROM configuration")


async def list_keys(w: World) -> None:
    assert await admin.list_keys(w.pool, w.merchant_id)


async def list_merchants(w: World) -> None:
    assert await admin.list_merchants(w.pool)


MERCHANTS: Final = (
    Case("authenticate a key", authenticate,
         uses=("api_keys_digest", "merchants_pkey", "processor_accounts_pkey", "login_once",
               "restored_operations_alike"),
         reads_whole=("configuration",), because="one row"),
    Case("find processor accounts", find_logins,
         uses=("processor_accounts_pkey", "processor_logins_account")),
    Case("watch the configuration", watch_configuration, reads_whole=("configuration",),
         because="one row"),
    Case("list a merchant's keys", list_keys, uses=("api_keys_pkey",)),
    Case("list merchants", list_merchants, reads_whole=("merchants",), buffers=100,
         sorts=2_000, because="it returns all of them, for people only"),
)  # fmt: skip


# chores and metrics ----------------------------------------------------------------------------


async def purge_old_keys(w: World) -> None:
    assert await purge._purge_between(w.pool, [w.closed_at, w.closed_at - timedelta(days=3)])


async def purge_old_guards(w: World) -> None:
    assert await purge_guards(w.pool)


async def look_at_months(w: World) -> None:
    await partitions.Months().load(w.connection)
    await partitions.has_present_month(w.connection)
    await partitions.ensure(w.connection, months_ahead=3)


async def look_for_old_months(w: World) -> None:
    await due(w.connection, key_days=30)


async def look_for_strays(w: World) -> None:
    await partitions.strays(w.connection)


async def find_duplicates(w: World) -> None:
    await duplicate_report.find_groups(
        w.pool, w.merchant_id, w.mode, start=ids.lowest_id_at(w.now - timedelta(days=2)),
        end=LATEST, window_s=120, limit=100,
    )  # fmt: skip


async def count_errors(w: World) -> None:
    moment = datetime.now(UTC)
    seen = {Kind("error", "", "", f"{n}"): Seen(1, moment, moment) for n in range(3)}
    assert len(await error_kinds.add(w.connection, seen)) == 3
    assert not await error_kinds.add(w.connection, seen)
    assert await error_kinds.kinds(w.connection, 50)


async def tell_alerts(w: World) -> None:
    moment = datetime.now(UTC)
    states = [State("EasyPayDown", f"pay-{n}", moment, moment, 0.0) for n in range(3)]
    await alert_store.write(w.connection, states, [])
    assert len(await alert_store.load(w.connection)) == 3
    await alert_store.write(w.connection, states, [("EasyPayDown", f"pay-{n}") for n in range(3)])


async def first_key_that_ends(w: World) -> None:
    await w.connection.fetchval(running_out.KEYS)


CHORES: Final = (
    Case("write and read what alerts were told", tell_alerts, uses=("alert_states_pkey",),
         reads_whole=("alert_states",), sorts=100,
         because="a few dozen rows, which the leader reads in every round"),
    Case("look which API key ends first", first_key_that_ends, reads_whole=("api_keys",),
         buffers=2_000, because="a few rows for each merchant, once a minute"),
    Case("count errors by their kind", count_errors, uses=("error_kinds_pkey",),
         reads_whole=("error_kinds",),
         because="it has at most 500 rows, which are read only for a person or a new kind"),
    Case("forget old keys", purge_old_keys,
         uses=("idempotency_keys_age", "unresolved_operations_pkey", "watched_operations_pkey",
               "operations_pkey"), buffers=4_000),
    Case("forget old guards", purge_old_guards, buffers=25_000),
    Case("look which months there are", look_at_months, buffers=3_000, sorts=500,
         reads_whole=("pg_inherits",),
         because="all its rows are months, or their indexes: an index spares few pages"),
    Case("look which months can be compacted", look_for_old_months, buffers=3_000, sorts=500,
         reads_whole=("pg_inherits", "compacted_months"),
         because="a row for each month, once a day"),
    Case("look for rows outside every month", look_for_strays, months=1,
         reads_whole=("payments", "operations", "events"),
         because="the default months are empty unless something is wrong"),
    Case("find payments that look alike", find_duplicates, uses=("payments_pkey",), months=SINCE,
         locks=500, buffers=3_000, sorts=50_000,
         because="it compares up to 50,000 payments; from its sixth run on PostgreSQL plans it for "
                 "any span, over all months"),
)  # fmt: skip


# by hand ---------------------------------------------------------------------------------------


async def show_operation(w: World) -> None:
    bounds = ids.reference_bounds(w.operation.reference)
    operation = await operation_details.find(w.pool, *bounds)
    assert operation is not None
    await operation_details.gather(w.pool, operation)


async def list_work(w: World) -> None:
    assert await operation_details.list_open(w.pool, 100)
    assert await operation_details.list_watched(w.pool, 100)
    assert await operation_details.list_late_charges(w.pool, 100, only_open=True)


async def report_months(w: World) -> None:
    assert await month_report.report(w.connection, wanted_ahead=3)


async def report_sizes(w: World) -> None:
    assert await table_sizes.sizes(w.connection)


BY_HAND: Final = (
    Case("show an operation", show_operation,
         uses=("operations_of_payment", "events_of_payment", "late_charges_pkey"),
         months=200, locks=500, buffers=8_000, reads_whole=("audit_entries", "merchants"),
         because="a person asks; whether money has gone back must not depend on clocks, and people "
                 "write few audit entries"),
    Case("list open, watched and late operations", list_work,
         months=200, locks=800, buffers=2_000, sorts=4_000,
         reads_whole=("unresolved_operations", "watched_operations", "late_charges"),
         because="work lists are short, and people ask"),
)  # fmt: skip

# webhooks --------------------------------------------------------------------------------------


_FILL: Final = """
    INSERT INTO webhook_endpoints (merchant_id, mode, id, url, secret, after_seq)
    SELECT merchant_id, 'test', gen_random_uuid(), 'https://shop.example/', '', 0
      FROM (SELECT unnest($1::uuid[]) AS merchant_id) AS m, generate_series(1, 10)
"""
_FILL_DELIVERIES: Final = """
    INSERT INTO webhook_deliveries (merchant_id, endpoint_id, event_id, mode, payment_id, seq, type,
        due_at)
    SELECT merchant_id, id, gen_random_uuid(), mode, gen_random_uuid(), n, 'payment.captured',
           now() + make_interval(mins => n % 100 - 20)  -- a slow machine finds as many due
      FROM webhook_endpoints, generate_series(1, 1000) AS n
"""
_FILL_ATTEMPTS: Final = """
    INSERT INTO webhook_attempts (id, merchant_id, endpoint_id, event_id, type, attempt, outcome,
        url, sent_at, took_ms, answer)
    SELECT lowest_id_at(now() - make_interval(secs => 1000 * (1001 - n))), merchant_id, id,
           gen_random_uuid(), 'payment.captured', 1, 'delivered', url,
           now() - make_interval(days => CASE WHEN n < 3 THEN 40 ELSE 1 END), 5, repeat('x', 200)
      FROM generate_series(1, 1000) AS n, webhook_endpoints
"""


async def webhook_rows(w: World) -> None:
    """Give three merchants ten endpoints each, with a thousand deliveries and attempts."""
    if await w.connection.fetchval("SELECT EXISTS (SELECT FROM webhook_endpoints)"):
        return
    others = await w.connection.fetch(
        "SELECT merchant_id FROM merchants WHERE merchant_id <> $1 LIMIT 2", w.merchant_id
    )
    await w.connection.execute(_FILL, [w.merchant_id, *(row[0] for row in others)])
    await w.connection.execute(_FILL_DELIVERIES)
    await w.connection.execute(_FILL_ATTEMPTS)
    for table in ("webhook_endpoints", "webhook_deliveries", "webhook_attempts"):
        await w.connection.execute(f"ANALYZE {table}")


def webhook_lane(w: World, sql: Callable[[str], str]) -> Lane:
    return Lane(w.dsn, "plans", sql, lookups=True)


async def fan_out_events(w: World, _: Case) -> Found:
    await webhook_rows(w)
    head = await readers.head(w.pool)
    await w.connection.execute(
        "INSERT INTO feed_readers (name, last_seq) VALUES ('webhooks', $1)"
        " ON CONFLICT (name) DO UPDATE SET last_seq = excluded.last_seq",
        head - 50,
    )
    lane = Lane(w.dsn, "plans", fan_out.lane_statement, **fan_out.LANE)
    present = f"{clock.now():%Y_%m}"
    place = await w.connection.fetchval("SELECT ctid FROM feed_readers WHERE name = 'webhooks'")
    found = await over(lane, lambda: lane.fetch((head - 50, head, place), present))
    await w.connection.execute("DELETE FROM feed_readers WHERE name = 'webhooks'")
    return found


async def claim_deliveries(w: World, _: Case) -> Found:
    await webhook_rows(w)
    lane = webhook_lane(w, lambda _: webhook_queue.CLAIM)
    return await over(lane, lambda: webhook_queue.claim(lane, {}, of_each=4, most=100))


async def claim_recent_deliveries(w: World, _: Case) -> Found:
    await webhook_rows(w)
    lane = webhook_lane(w, webhook_queue.claim_statement)
    only = [
        Back(each.merchant_id, each.id, EVER_S)
        for each in await endpoints.list_all(w.pool, w.merchant_id)
    ]
    return await over(lane, lambda: webhook_queue.claim(lane, {}, of_each=4, most=100, only=only))


async def record_attempts(w: World, _: Case) -> Found:
    await webhook_rows(w)
    claims = webhook_lane(w, lambda _: webhook_queue.CLAIM)
    claimed = await webhook_queue.claim(claims, {}, of_each=4, most=GROUP)
    await claims.close()
    told = [
        webhook_queue.Told(each, ids.new_id(), clock.now(), 5, how, again_s=5.0)
        for each, how in zip(claimed, ["delivered", "failed"] * GROUP, strict=False)
    ]
    lane = webhook_lane(w, lambda _: webhook_queue.RECORD)
    return await over(lane, lambda: webhook_queue.record(lane, told))


async def list_attempts(w: World) -> None:
    await webhook_rows(w)
    (endpoint, *_) = await endpoints.list_all(w.pool, w.merchant_id)
    await endpoints.get(w.pool, w.merchant_id, endpoint.mode, endpoint.id)
    assert await webhook_log.attempts(w.pool, w.merchant_id, endpoint.id, below=LATEST, limit=PAGE)


async def purge_attempts(w: World) -> None:
    await webhook_rows(w)
    assert await webhook_log.purge(w.pool)


WEBHOOKS: Final = (
    Case("fan out events to webhook endpoints", _nothing, measure=fan_out_events,
         uses=("stream_once", "feed_pkey", "events_of_payment"), locks=60, buffers=10_000,
         sorts=1_000, reads_whole=("webhook_endpoints", "feed_readers", "streams"),
         because="a few endpoints, and a row for each reader"),
    Case("claim webhook deliveries", _nothing, measure=claim_deliveries,
         uses=("webhook_deliveries_due", "webhook_deliveries_order", "webhook_endpoints_pkey"),
         buffers=6_000),
    Case("claim the deliveries of some endpoints", _nothing, measure=claim_recent_deliveries,
         uses=("webhook_deliveries_due", "webhook_deliveries_order", "webhook_endpoints_pkey"),
         buffers=6_000),
    Case("record webhook attempts", _nothing, measure=record_attempts,
         uses=("webhook_deliveries_pkey", "webhook_deliveries_order", "webhook_endpoints_pkey"),
         buffers=3_000),
    Case("list the attempts at a webhook endpoint", list_attempts,
         uses=("webhook_attempts_pkey",), buffers=300,
         reads_whole=("webhook_endpoints",), because="a few endpoints"),
    Case("purge old webhook attempts", purge_attempts, uses=("webhook_attempts_age",),
         buffers=9_000, sorts=5_000,
         reads_whole=("webhook_deliveries", "webhook_endpoints"),
         because="what is left is few, and the purge runs once an hour"),
)  # fmt: skip


def filled_by(fill: Run) -> Callable[..., Case]:
    """Return what makes cases on a database with rows of their own. What fills it is not
    measured."""

    def case(name: str, run: Run, **bounds: Any) -> Case:
        async def measure(world: World, case: Case) -> Found:
            await fill(world)
            return await world.explainer.explain(lambda: run(world))

        return Case(name, run, measure=measure, **bounds)

    return case


async def look_up_methods(w: World, _: Case) -> Found:
    await customer_rows.fill(w)
    lane = statements.lane(LOOK_UP, w.dsn, 1)
    keys = await customer_rows.methods_of_payments(w)
    return await over(lane, lambda: lane.fetch(LOOK_UP.arguments(keys)))


async def begin_with_methods(w: World, _: Case) -> Found:
    await customer_rows.fill(w)
    lane = statements.lane(BEGIN_STORED, w.dsn, 1)
    found = await w.connection.fetch(
        "SELECT id, login_id FROM payment_methods WHERE merchant_id = $1 AND mode = $2 LIMIT 40",
        *(w.merchant_id, w.mode),
    )
    replace = msgspec.structs.replace
    made = [
        replace(new, payment=replace(new.payment, payment_method_id=row[0], login_id=row[1]))
        for new, row in zip(await new_payments(w), found, strict=False)
    ]
    return await over(lane, lambda: lane.fetch(BEGIN_STORED.arguments(made)))


async def erase_new_answers(w: World, _: Case) -> Found:
    await webhook_rows(w)
    await customer_rows.fill(w)
    return await customer_rows.erase_new_answers(w)


async def purge_customer_events(w: World, _: Case) -> Found:
    await customer_rows.fill(w)
    return await customer_rows.purge_objects(w)


customer_case = filled_by(customer_rows.fill)
CUSTOMERS: Final = (
    customer_case("read a customer", customer_rows.read_customer,
         uses=("customers_pkey",)),
    customer_case("list customers", customer_rows.list_customers,
         uses=("customers_pkey", "customers_reference", "customers_email"), buffers=300),
    customer_case("create a customer, twice", customer_rows.create_customer,
                  uses=("customers_request",)),
    customer_case("pay with a stored method", customer_rows.read_methods,
         uses=("payment_methods_pkey",)),
    Case("begin payments with stored methods", _nothing, measure=begin_with_methods,
         uses=("payment_methods_pkey",), buffers=60 * GROUP),
    Case("look up the stored methods of many payments", _nothing, measure=look_up_methods,
         uses=("payment_methods_pkey",), buffers=250),
    customer_case("store a payment method and delete it", customer_rows.store_method,
                  uses=("customers_pkey", "payment_methods_request", "payment_methods_customer",
                        "customer_profiles_customer", "customer_profiles_pkey",
                        "payment_methods_pkey", "payment_methods_vaulted", "vault_work_pkey"),
                  buffers=600),
    customer_case("delete a customer", customer_rows.delete_customer,
         uses=("payment_methods_customer", "customer_profiles_customer"), buffers=600),
    customer_case("claim work at the vault", customer_rows.claim_vault_work,
                  uses=("vault_work_due",), buffers=200),
    customer_case("begin the erasure of a customer, and claim it", customer_rows.begin_erasure,
                  uses=("customer_erasures_pkey", "erasure_work_pkey", "erasure_work_due"),
                  buffers=600),
    Case("erase what was answered during an erasure", _nothing, measure=erase_new_answers,
         uses=("webhook_attempts_pkey", "erased_payments_pkey"), buffers=20_000, sorts=2_000,
         months=130, locks=2_000,
         reads_whole=("webhook_endpoints",),
         because="a few endpoints; messages are about payments of any month"),
    Case("purge old objects of events of customers", _nothing, measure=purge_customer_events,
         uses=("customer_events_age",), buffers=3_000, sorts=2_000),
    customer_case("tell of cards that expire soon", customer_rows.tell_of_expiring,
                  uses=("payment_methods_expiring",), buffers=3_000),
    customer_case("read the objects of events of customers", customer_rows.objects_of_events,
         uses=("customer_events_pkey",)),
)  # fmt: skip


_FILL_BATCHES: Final = """
    INSERT INTO batches (merchant_id, id, mode, key, name, format, on_error, state, digest, lines,
        last_line, next_line, at_once, upload_until, running_since, ended_at)
    SELECT $1, lowest_id_at(now() - make_interval(secs => 5000 - n)), 'test', n::text, '', 'jsonl',
           'refuse', CASE WHEN n > 2990 THEN 'checking' WHEN n > 2980 THEN 'running'
                          ELSE 'done' END,
           CASE WHEN n <= 2990 THEN sha256(n::text::bytea) END, 9000, 9000, 5001, 128,
           now() - interval '1 hour', now(),
           CASE WHEN n <= 2980 THEN now() - make_interval(days => 100, hours => -n) END
      FROM generate_series(1, 3000) AS n
"""
_FILL_LINES: Final = """
    INSERT INTO batch_lines (merchant_id, batch_id, line, state, operation, request)
    SELECT merchant_id, id, n, 'waiting', 'void', repeat('x', 150)
      FROM batches, generate_series(1, 2000) AS n WHERE state = 'running'
"""
_FILL_GROUPS: Final = """
    INSERT INTO batch_groups (merchant_id, batch_id, first_line, last_line, attempt, open, due_at)
    SELECT merchant_id, id, 50 * n + 1, 50 * n + 50, 1, n > 1,
           now() + make_interval(secs => 30 * n - 15)
      FROM batches, generate_series(0, 99) AS n WHERE state = 'running'
"""
_FILL_TOTALS: Final = """
    INSERT INTO batch_totals
    SELECT merchant_id, id, 'void', 'done', 'voided', 'USD', 100, 0 FROM batches
"""


_FILL_BATCH_EVENTS: Final = """
    INSERT INTO batch_events (merchant_id, batch_id, event_id, data)
    SELECT merchant_id, id, id, '{}' FROM batches
"""


_FILLED: Final[set[str]] = set()


async def batch_rows(w: World) -> Batch:
    """Give the merchant thousands of batches, of which ten run; return one of these."""
    if w.dsn not in _FILLED:
        _FILLED.add(w.dsn)
        await w.connection.execute(_FILL_BATCHES, w.merchant_id)
        for fill in (_FILL_LINES, _FILL_GROUPS, _FILL_TOTALS, _FILL_BATCH_EVENTS):
            await w.connection.execute(fill)
        tables = ("batches", "batch_lines", "batch_groups", "batch_totals", "batch_events")
        for table in tables:
            await w.connection.execute(f"ANALYZE {table}")
    found = await batch_store.of_key(w.pool, w.merchant_id, Mode.TEST, "2985")
    assert found is not None
    return found


async def claimed_group(w: World) -> batch_claims.Group:
    batch = await batch_rows(w)
    work = Work((batch.merchant_id, batch.id, 51), (100, False), 1, clock.now(), clock.now(), 0.0)
    return batch_claims.Group(batch, 51, 100, False, work)


async def claim_lines(w: World) -> None:
    await batch_rows(w)
    assert await batch_claims.claim_next(w.pool, most=20, lease_s=30)


async def claim_groups_again(w: World) -> None:
    await batch_rows(w)
    await work_list.claim(w.pool, batch_claims.GROUPS, most=8, lease_s=30)


async def begin_lines(w: World) -> None:
    group = await claimed_group(w)
    assert await batch_claims.lines_of(w.pool, group)
    await batch_claims.begin_lines(w.pool, group, list(range(51, 101)))
    (line, *_) = await batch_claims.lines_of(w.pool, group)
    await batch_claims.forget_tries(w.pool, group, line, set())


async def end_lines(w: World, _: Case) -> Found:
    batch = (await claimed_group(w)).batch
    ends = [
        batch_claims.LineEnd(
            batch.merchant_id, batch.id, line, "done", None, None, "voided", None, 100, "USD"
        )
        for line in range(101, 151)
    ]
    lane = statements.lane(batch_claims.END, w.dsn)
    return await over(lane, lambda: lane.fetch(batch_claims.END.arguments(ends)))


async def find_batch_of_file(w: World) -> None:
    batch = await batch_rows(w)
    assert batch.digest is not None
    assert await batch_store.of_file(w.pool, w.merchant_id, Mode.TEST, batch.digest)


async def read_batch(w: World) -> None:
    batch = await batch_rows(w)
    await batch_store.progress(w.pool, batch)
    await batch_store.lines_after(w.pool, batch, 1000, most=100)


async def list_batches(w: World) -> None:
    await batch_rows(w)
    assert await batch_store.page(w.pool, w.merchant_id, Mode.TEST, below=LATEST, most=PAGE)


async def find_cut_uploads(w: World) -> None:
    await batch_rows(w)
    assert await w.pool.fetch(batch_removal.CUT)


async def give_up_old_batches(w: World) -> None:
    await batch_rows(w)
    assert await batch_removal.give_up_old(w.pool, keep_days=90)


async def remove_batch(w: World) -> None:
    await batch_rows(w)
    found = await batch_store.of_key(w.pool, w.merchant_id, Mode.TEST, "2995")
    assert found is not None
    await batch_removal.forget(w.pool, found)


async def look_at_batches(w: World) -> None:
    batch = await batch_rows(w)
    assert await batch_claims.states_of(w.pool, [(w.merchant_id, batch.id)])
    await batch_store.tell_progress(w.pool, [(w.merchant_id, batch.id)])


async def pause_and_resume(w: World) -> None:
    batch = await batch_rows(w)
    await batch_store.move(w.pool, batch, "pause")
    await batch_store.move(w.pool, batch, "resume")


async def batches_of_events(w: World) -> None:
    batch = await batch_rows(w)
    assert await w.pool.fetch(batch_events.OBJECTS, [w.merchant_id], [batch.id], [batch.id])


async def end_batches(w: World) -> None:
    await batch_rows(w)
    await batch_store.end_what_is_over(w.pool)


BATCHES: Final = (
    # First: it writes the rows that all others look at.
    Case("end lines of a batch", _nothing, measure=end_lines,
         uses=("batch_lines_pkey", "batch_totals_pkey"), buffers=1_000),
    Case("claim lines of a batch", claim_lines,
         uses=("batches_running", "batch_groups_pkey", "batches_pkey"), buffers=600),
    Case("claim groups of lines again", claim_groups_again,
         uses=("batch_groups_due", "batches_pkey"), buffers=300),
    Case("begin lines of a batch", begin_lines, uses=("batch_groups_pkey", "batch_lines_pkey"),
         buffers=1_000),
    Case("find the batch of a key", batch_rows, uses=("batches_key",)),
    Case("find the batch of a file", find_batch_of_file, uses=("batches_file",)),
    Case("read a batch and its lines", read_batch, uses=("batch_totals_pkey", "batch_lines_pkey"),
         buffers=2_000),
    Case("list batches", list_batches, uses=("batches_pkey",), buffers=300),
    Case("find uploads that were cut", find_cut_uploads, uses=("batches_uploads",)),
    Case("remove an upload that was cut", remove_batch, uses=("batches_pkey", "batch_lines_pkey"),
         buffers=200),
    Case("look whether batches may go on, and how far they are", look_at_batches,
         uses=("batches_pkey", "batch_totals_pkey")),
    Case("pause and resume a batch", pause_and_resume, buffers=3_500,
         uses=("batches_pkey", "batch_groups_pkey")),
    Case("read the batches of events", batches_of_events, uses=("batch_events_pkey",)),
    Case("find batches that are old", give_up_old_batches, uses=("batches_over",), buffers=1_500),
    Case("end batches that are over", end_batches, uses=("batches_running",)),
)  # fmt: skip


settlement_case = filled_by(settlement_rows.fill)
book_case = filled_by(book_rows.fill)
SETTLEMENT: Final = (
    settlement_case("tell payments of their settlement", settlement_rows.settle,
         uses=("settled_transactions_untold", "settled_transactions_pkey", "payments_pkey",
               "settlement_changes_pkey"),
         buffers=20_000, sorts=500),
    settlement_case("list settlements", settlement_rows.list_settlements,
         uses=("settled_batches_time", "settlement_sums_pkey", "settlement_changes_pkey"),
         buffers=600, sorts=1_000),
    settlement_case("read a settlement", settlement_rows.read_settlement,
         uses=("settlement_sums_pkey",), buffers=50),
    settlement_case("what has settled of a payment", settlement_rows.of_payment,
         uses=("settled_transactions_payment",)),
)  # fmt: skip
_IN_MEMORY: Final = "temporary tables of the lines are read whole, in chunks"
RECONCILIATION: Final = (
    book_case("which accounts are to be reconciled", book_rows.which_accounts_are_due,
         reads_whole=("processor_logins", "account_books"), buffers=300, sorts=5_000,
         because="every account is looked at: a row each"),
    book_case("take, prolong and end the lease of an account's books", book_rows.take_lease,
         uses=("account_books_pkey",)),
    book_case("keep the list of batches", book_rows.keep_list_of_batches,
         uses=("settled_batches_pkey",), buffers=2_000),
    book_case("compare 200 lines of a batch", book_rows.compare_a_batch,
         uses=("operations_pkey", "payments_pkey", "settled_transactions_pkey", "break_once"),
         months=16, locks=120, buffers=200 * 60, sorts=1_000, reads_whole=book_rows.TEMPORARY,
         because=_IN_MEMORY),
    book_case("look for what of ours is in no list", book_rows.look_for_what_is_in_no_list,
         uses=("operations_pkey", "events_pkey"), months=18, locks=140, buffers=40_000,
         sorts=20_000,
         reads_whole=book_rows.TEMPORARY, because=_IN_MEMORY),
    book_case("differences of our own rows", book_rows.judge_our_own_rows,
         uses=("unresolved_operations_account", "break_once", "late_charges_open"), months=4,
         locks=200, buffers=40_000, sorts=5_000),
    book_case("list differences", book_rows.list_breaks,
         uses=("reconciliation_breaks_merchant",), buffers=300),
    book_case("own and match a difference", book_rows.match_break,
         uses=("reconciliation_breaks_pkey", "reconciliation_breaks_open"), buffers=400,
         sorts=1_000),
    book_case("count open differences", book_rows.count_open,
         uses=("reconciliation_breaks_open",), buffers=400, sorts=1_000),
)  # fmt: skip


notification_case = filled_by(notification_rows.fill)
NOTIFICATIONS: Final = (
    notification_case("store notifications", notification_rows.store_all, buffers=2_000),
    notification_case("claim and end the work on notifications", notification_rows.follow,
                      uses=("notification_work_due", "notification_work_pkey"), buffers=600),
    notification_case("find the operation of a notification", notification_rows.find,
                      uses=("processor_logins_account", "operations_pkey", "payments_pkey")),
    notification_case("look whether notifications come", notification_rows.watch,
                      uses=("notifications_reference", "account_webhooks_pkey",
                            "processor_logins_account", "operations_pkey"),
                      buffers=3_000, sorts=2_000, reads_whole=("account_webhooks",),
                      because="a row for each account, once in ten seconds"),
    notification_case("count the webhooks at the processor", notification_rows.count,
                      buffers=300, reads_whole=("account_webhooks", "account_books"),
                      because="a row for each account in both"),
    notification_case("purge old notifications", notification_rows.purge,
                      uses=("notifications_age",), buffers=20_000),
    notification_case("read the keys that sign notifications", notification_rows.read_keys,
                      buffers=300, reads_whole=("processor_logins",),
                      because="all keys are kept in memory; only if the configuration has changed"),
)  # fmt: skip


CASES: Final = (
    *HOT, *BY_ID, *LISTS, *FILTERS, *STATISTICS, *FEED, *EVENT_PAGES, *RESOLVER, *LATE,
    *AFTER_RESTORE, *MERCHANTS, *CHORES, *BY_HAND, *WEBHOOKS, *CUSTOMERS, *BATCHES, *SETTLEMENT,
    *RECONCILIATION, *NOTIFICATIONS,
)  # fmt: skip
