"""The database on which plans are looked at: seeded payments, and work lists as after a bad day.

Every table that grows has enough rows that reading it whole would show.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from easypay import clock, ids
from easypay.db import partitions
from easypay.db.connections import SESSION
from easypay.db.partitions import Months
from easypay.merchants import admin
from easypay.merchants.vault import Vault
from easypay.payments import store
from easypay.payments.model import Operation, Payment, PaymentKey
from easypay.payments.resolver_rows import AccountWork, Case, open_cases, watched_cases
from easypay.processors.authorize_net.integration import AUTHORIZE_NET
from harness import ENCRYPTION_KEY, seeded_template, with_database
from plans.explain import EXPLAINING, Explainer, OneConnection, parents_of

ACCOUNT = bytes([7]) * 32
"""The account of the biggest merchants, with most of the open and watched operations."""

# Operations without an outcome: mostly of one account, some of others, some never sent.
_WORK_LISTS = f"""
    INSERT INTO processor_logins (merchant_id, id, mode, url, account, credentials, saved_at)
    SELECT DISTINCT ON (p.merchant_id, p.login_id) p.merchant_id, p.login_id, p.mode, 'https://example.com',
           CASE WHEN get_byte(uuid_send(p.merchant_id), 15) < 4
                THEN '\\x{ACCOUNT.hex()}'::bytea ELSE sha256(uuid_send(p.merchant_id)) END,
           'x'::bytea, now()
      FROM payments p WHERE p.login_id IS NOT NULL;

    INSERT INTO unresolved_operations
        (merchant_id, operation_id, payment_id, since, next_inquiry_at, inquiries, account,
         not_sent, held)
    SELECT o.merchant_id, o.id, o.payment_id, now(), now() + (n - 500) * interval '1 s', n % 7,
           CASE WHEN n % 50 > 0 THEN l.account END, n % 20 = 1, n % 20 = 2
      FROM (SELECT *, row_number() OVER (ORDER BY id DESC) AS n FROM operations) o
      JOIN payments p ON p.merchant_id = o.merchant_id AND p.mode = o.mode AND p.id = o.payment_id
      JOIN processor_logins l ON l.merchant_id = p.merchant_id AND l.id = p.login_id
     WHERE n <= 3000
    ON CONFLICT DO NOTHING;

    INSERT INTO watched_operations
        (merchant_id, operation_id, payment_id, account, purpose, since, until, next_look_at)
    SELECT o.merchant_id, o.id, o.payment_id, l.account,
           CASE WHEN n % 10 = 0 THEN 'return' WHEN n % 10 < 5 THEN 'absent' ELSE 'expiry' END,
           now(), now() + interval '1 day', now() + (n - 4000) * interval '1 minute'
      FROM (SELECT *, row_number() OVER (ORDER BY id DESC) AS n FROM operations) o
      JOIN payments p ON p.merchant_id = o.merchant_id AND p.mode = o.mode AND p.id = o.payment_id
      JOIN processor_logins l ON l.merchant_id = p.merchant_id AND l.id = p.login_id
     WHERE n BETWEEN 3001 AND 6000;

    INSERT INTO late_charges (merchant_id, operation_id, payment_id, mode, kind, transaction_id,
        amount_minor, currency, state, evidence, found_at, changed_at)
    SELECT merchant_id, operation_id, payment_id, 'live', 'sale', '60000000001', 2500, 'USD',
           CASE WHEN n % 100 = 0 THEN 'returning' ELSE 'returned' END,
           'found', since, since
      FROM (SELECT *, row_number() OVER () AS n FROM watched_operations) w;

    INSERT INTO idempotency_keys
        (merchant_id, mode, key, fingerprint, operation_id, payment_id, created_at)
    SELECT o.merchant_id, o.mode, 'key ' || o.id, sha256('x'), o.id, o.payment_id,
           o.begun_at
      FROM (SELECT * FROM operations WHERE id < lowest_id_at(now() - interval '20 days')
             ORDER BY id DESC LIMIT 25000) o
     ORDER BY o.id;

    INSERT INTO duplicate_guards (merchant_id, mode, digest, payment_ids, begun_at, until)
    SELECT merchant_id, mode, sha256(uuid_send(id)), ARRAY[id], ARRAY[now()],
           now() + (n - 100) * interval '1 s'
      FROM (SELECT *, row_number() OVER (ORDER BY id DESC) AS n FROM payments LIMIT 10000) p;

    INSERT INTO restored_operations (merchant_id, operation_id, mode, kind, payment_id,
        transaction_id, amount_minor, currency, order_digest, last4)
    SELECT merchant_id, id, mode, CASE WHEN n % 10 = 0 THEN 'refund' ELSE 'charge' END, id,
           transaction_id, amount_minor, currency, sha256(uuid_send(id)), card_last4
      FROM (SELECT *, row_number() OVER (ORDER BY id DESC) AS n FROM payments
             WHERE transaction_id IS NOT NULL LIMIT 20000) p;

    INSERT INTO api_keys (merchant_id, id, mode, name, digest, last4, scopes)
    SELECT merchant_id, merchant_id, 'live', 'key', sha256(uuid_send(merchant_id)), 'abcd', '{{}}'
      FROM merchants;

    INSERT INTO processor_accounts (merchant_id, mode, credentials)
    SELECT merchant_id, mode, 'x'::bytea FROM merchants, unnest(ARRAY['test', 'live']) AS mode;

    INSERT INTO operations (merchant_id, id, payment_id, mode, kind, state, amount_minor, currency,
        reference, begun_at)
    SELECT merchant_id, id, id, 'live', 'sale', 'approved', 2500, 'USD', repeat('x', 20), at
      FROM (SELECT merchant_id, row_number() OVER () AS nth FROM merchants) m,
           generate_series(1, 12000) AS n,
   LATERAL (SELECT now() - interval '6 hours' + n * interval '1.5 s' AS at) AS t,
   LATERAL (SELECT (left(lowest_id_at(at)::text, 14) || '7' || right(md5(n::text), 3) || '-a'
                    || left(md5(n::text), 3) || '-' || left(md5(n::text), 12))::uuid AS id) AS i
     WHERE nth = n % 2000 + 1 ORDER BY n;

    INSERT INTO feed_months (month, read_below)
    SELECT substr(relname, 8), pg_snapshot_xmax(pg_current_snapshot())::text::bigint
      FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = 'events'::regclass;

    INSERT INTO streams (merchant_id, mode) SELECT DISTINCT merchant_id, mode FROM events;

    INSERT INTO feed (seq, stream, position, event_id, payment_id)
    SELECT row_number() OVER (ORDER BY id), stream,
           row_number() OVER (PARTITION BY stream ORDER BY id), id, payment_id
      FROM events JOIN streams USING (merchant_id, mode) ORDER BY 1;
    UPDATE feed_head SET last_seq = (SELECT max(seq) FROM feed), caught_up = true;
    UPDATE feed_readers SET last_seq = (SELECT last_seq FROM feed_head);

    INSERT INTO payment_search (stream, payment_id, version, status, amount_minor, currency,
        refunded, card_brand, card_last4, decline_code, transaction_id, order_reference,
        customer_reference, customer_id, counted_status, counted_brand)
    SELECT stream, id, version, status, amount_minor, currency, refunded_minor > 0, card_brand,
           card_last4, decline_code, transaction_id, order_reference, customer_reference,
           CASE WHEN hashtext(id::text) % 3 = 0 THEN md5(customer_reference)::uuid END, status,
           coalesce(card_brand, '')
      FROM payments JOIN streams USING (merchant_id, mode) WHERE status <> 'processing';

    INSERT INTO payment_counts
        (merchant_id, mode, grain, start, currency, brand, now_captured, now_captured_minor)
    SELECT merchant_id, mode, 'q', date_bin('15 min', created_at, '2000-01-01Z'), currency,
           coalesce(card_brand, ''), count(*), sum(amount_minor)
      FROM payments WHERE status = 'captured' GROUP BY 1, 2, 4, 5, 6;

    INSERT INTO decline_counts (merchant_id, mode, grain, start, currency, brand, code, declines)
    SELECT merchant_id, mode, 'q', date_bin('15 min', created_at, '2000-01-01Z'), currency,
           coalesce(card_brand, ''), coalesce(decline_code, ''), count(*)
      FROM payments WHERE status = 'declined' GROUP BY 1, 2, 4, 5, 6, 7;

    INSERT INTO statistics_seals (merchant_id, time_zone, days_until, months_until, next_at)
    SELECT merchant_id, time_zone, date_trunc('day', now()), date_trunc('month', now()),
           date_trunc('day', now()) + interval '1 day' + row_number() OVER () * interval '1 s'
      FROM merchants;

    INSERT INTO account_passes (account, leased_until, holder)
    SELECT DISTINCT account, now() - interval '1 s', merchant_id FROM processor_logins
    ON CONFLICT DO NOTHING;

    INSERT INTO audit_entries (id, actor, action, subject, detail)
    SELECT operation_id, 'Ada', 'operation.resolve', 'op_' || operation_id, '{{}}'
      FROM watched_operations LIMIT 1000;
"""
_FILLED = (
    "processor_accounts, processor_logins, unresolved_operations, watched_operations,"
    " late_charges, idempotency_keys, duplicate_guards, restored_operations, api_keys,"
    " account_passes, audit_entries, streams, feed, feed_months, payment_search, payment_counts,"
    " decline_counts, statistics_seals"
)
_RECENT = """
    SELECT p.merchant_id, p.mode, p.id FROM payments p
     WHERE merchant_id = $1 AND mode = 'live' AND p.id < lowest_id_at(now() - $2::interval)
       AND status = 'captured' AND transaction_id IS NOT NULL
       AND order_reference IS NOT NULL AND card_last4 IS NOT NULL
     ORDER BY id DESC LIMIT 1
"""


@dataclass
class World:
    """A database with rows in every table, and examples to ask for."""

    dsn: str
    connection: Any
    """A session as those of the gateway's pool, which can send its plans."""
    pool: Any
    explainer: Explainer
    questions: Any
    """A session as those of the pool for questions."""
    questions_explainer: Explainer
    months: Months
    vault: Vault
    secret: str
    """A bearer key of the biggest merchant."""
    merchant_id: UUID
    """The biggest merchant, with a third of all payments."""
    payment: Payment
    """A captured payment of last month."""
    operation: Operation
    """Its first operation."""
    key: str
    closed_at: datetime
    """All keys of before have operations that are neither open nor watched."""
    customer: str
    stored_customer: UUID
    """Who has paid with a stored payment method."""
    open: list[Case]
    watched: list[Case]
    """Open and watched operations of ACCOUNT that are due."""
    now: datetime

    @property
    def mode(self) -> str:
        return self.payment.mode

    async def close(self) -> None:
        await self.questions.close()
        await self.connection.close()


async def seeded_world(server_dsn: str, template: str, *, payments: int, months: int = 120) -> str:
    """Create a database with payments over so many months and all else. Return its DSN."""
    name = f"plans_{ids.new_id().hex[-12:]}"
    await seeded_template(server_dsn, template, name, payments=payments, months=months)
    dsn = with_database(server_dsn, name)
    await fill(dsn)
    return dsn


async def fill(dsn: str) -> None:
    """Add the work lists, the feed and the search table to a seeded database, and analyze it."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(_WORK_LISTS)
        months = [partitions.month_start(clock.now(), ahead) for ahead in (-1, 0)]
        newest = ", ".join(partitions.tables_of(month)["operations"] for month in months)
        await connection.execute(f"VACUUM ANALYZE {newest}, {_FILLED}")
    finally:
        await connection.close()


async def look_at(dsn: str) -> World:
    """Return a filled database with a session that explains."""
    session = {**SESSION, "statement_timeout": "10000", **EXPLAINING}
    connection = await asyncpg.connect(dsn, server_settings=session)
    questions = await asyncpg.connect(dsn, server_settings=session)
    vault = Vault(ENCRYPTION_KEY)
    merchant_id = await connection.fetchval(
        "SELECT merchant_id FROM payments GROUP BY 1 ORDER BY count(*) DESC LIMIT 1"
    )
    row = await connection.fetchrow(_RECENT, merchant_id, timedelta(days=20))
    payment = await store.find_payment(connection, PaymentKey(*row))
    assert payment is not None
    operation_id = await connection.fetchval(
        "SELECT id FROM operations WHERE merchant_id = $1 AND payment_id = $2 ORDER BY id LIMIT 1",
        *(merchant_id, payment.id),
    )
    operation = await store.find_operation(connection, merchant_id, operation_id)
    assert operation is not None
    months = Months()
    await months.load(connection)
    _, secret = await admin.create_key(connection, merchant_id, mode=payment.mode)
    credentials = {"login_id": "login", "transaction_key": "simulated-key-1"}
    sealed = vault.seal(credentials, merchant_id, payment.mode, AUTHORIZE_NET.name)
    for table in ("processor_accounts", "processor_logins"):
        await connection.execute(
            f"UPDATE {table} SET credentials = $3 WHERE merchant_id = $1 AND mode = $2",
            *(merchant_id, payment.mode, sealed),
        )
    return World(
        dsn=dsn,
        connection=connection,
        pool=OneConnection(connection),
        explainer=Explainer(connection, await parents_of(connection)),
        questions=OneConnection(questions),
        questions_explainer=Explainer(questions, await parents_of(connection)),
        months=months,
        vault=vault,
        secret=secret,
        merchant_id=merchant_id,
        payment=payment,
        operation=operation,
        key=await connection.fetchval(
            "SELECT key FROM idempotency_keys WHERE merchant_id = $1 AND mode = $2 LIMIT 1",
            merchant_id,
            payment.mode,
        ),
        closed_at=await connection.fetchval(
            "SELECT min(created_at) FROM idempotency_keys k"
            " WHERE EXISTS (SELECT FROM watched_operations w"
            "   WHERE w.merchant_id = k.merchant_id AND w.operation_id = k.operation_id)"
        ),
        customer=await connection.fetchval(
            "SELECT customer_reference FROM payments WHERE merchant_id = $1 AND mode = $2"
            " AND customer_reference IS NOT NULL ORDER BY id DESC LIMIT 1",
            merchant_id,
            payment.mode,
        )
        or "nobody",
        stored_customer=await connection.fetchval(
            "SELECT customer_id FROM payment_search JOIN streams USING (stream)"
            " WHERE merchant_id = $1 AND mode = $2 AND customer_id IS NOT NULL"
            " ORDER BY payment_id DESC LIMIT 1",
            merchant_id,
            payment.mode,
        ),
        open=await open_cases(connection, AccountWork(ACCOUNT, False), 200),
        watched=await watched_cases(connection, AccountWork(ACCOUNT, True), 200),
        now=await connection.fetchval("SELECT now()"),
    )
