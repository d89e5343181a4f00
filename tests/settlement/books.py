"""The processor's books as rows of ours: read by the books' own reader, matched by reference."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from easypay.clock import monotonic, rfc3339
from easypay.db.pool import open_pool
from easypay.payments.model import PaymentKey
from easypay.processors.authorize_net.integration import AUTHORIZE_NET
from easypay.processors.base import Account, Deadline
from easypay.processors.books import MOVED, Unread, books_of
from easypay.processors.integration import ClientOptions
from easypay.settlement import settling
from harness import Shop, Stack

_BATCH = """
    INSERT INTO settled_batches (account, batch_id, settled_at, state, method, statistics, read_at)
    VALUES ($1, $2, $3, $4, $5, $6::jsonb, db_now())
    ON CONFLICT (account, batch_id) DO UPDATE SET statistics = excluded.statistics
"""
_LINES = """
    INSERT INTO settled_transactions (account, batch_id, transaction_id, kind, status,
        settlement_state, reference, amount_minor, currency, card_brand, last4, settled_at,
        merchant_id, mode, payment_id, operation_id, order_reference, change_code, change_message,
        changed_at)
    SELECT $1, $2, i.transaction_id, i.kind, i.status, i.state, i.reference, i.amount, 'USD',
           i.brand, i.last4, $3, o.merchant_id, o.mode, o.payment_id, o.id, p.order_reference,
           i.code, i.message, i.at
      FROM unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::bigint[],
                  $10::text[], $11::text[], $12::text[], $13::text[], $14::timestamptz[])
           AS i(transaction_id, kind, status, state, reference, amount, brand, last4, code,
                message, at)
      LEFT JOIN operations o ON o.reference = i.reference
      LEFT JOIN payments p ON p.merchant_id = o.merchant_id AND p.id = o.payment_id
    ON CONFLICT (account, batch_id, transaction_id) DO UPDATE
       SET status = excluded.status, settlement_state = excluded.settlement_state,
           change_code = excluded.change_code, change_message = excluded.change_message,
           changed_at = excluded.changed_at
"""


async def account_of(stack: Stack, shop: Shop) -> bytes:
    """Return the name of the shop's account in these rows."""
    found: bytes = await stack.value(
        "SELECT DISTINCT account FROM processor_logins WHERE merchant_id = $1", shop.merchant_id
    )
    return found


async def read_books(stack: Stack, shop: Shop) -> bytes:
    """Read what the processor has settled of a shop; what is there already gets its new state.
    Return the account."""
    name = await account_of(stack, shop)
    client = AUTHORIZE_NET.make(ClientOptions())
    account = Account(
        processor=AUTHORIZE_NET.name,
        url=stack.simulator.wire,
        credentials={"login_id": shop.login, "transaction_key": "simulated-key-1"},
    )
    books, now = books_of(client), datetime.now(UTC)
    assert books is not None
    try:
        day = timedelta(days=1)
        batches = await books.batches(account, now - day, now + day, "USD", _soon())
        assert not isinstance(batches, Unread), batches
        for batch in batches:
            statistics = msgspec.json.encode(batch.statistics).decode()
            head = (name, batch.batch_id, batch.settled_at)
            await stack.fetch(_BATCH, *head, batch.state, batch.method, statistics)
            async for page in books.batch(account, batch.batch_id, "USD", _soon()):
                assert not isinstance(page, Unread), page
                rows: list[tuple[Any, ...]] = []
                for each in page:
                    returned: tuple[Any, ...] = (None, None, None)
                    if each.kind is None:  # the list does not tell, so the transaction is asked
                        found = await books.transaction(
                            account, each.transaction_id, "USD", _soon()
                        )
                        assert not isinstance(found, Unread), found
                        each, items = found.line, found.returned_items
                        returned = items[-1][1:] if items else returned
                    if each.meaning in MOVED:
                        rows.append(
                            (
                                *(each.transaction_id, each.kind, each.status, each.meaning),
                                *(each.reference, each.amount_minor, each.card_brand, each.last4),
                                *returned,
                            )
                        )
                if rows:
                    columns = [list(column) for column in zip(*rows, strict=True)]
                    await stack.fetch(_LINES, *head, *columns)
    finally:
        await asyncio.shield(client.close())
    return name


def _soon() -> Deadline:
    return Deadline(monotonic() + 20)


async def settled(stack: Stack, shop: Shop) -> bytes:
    """Let everything settle, read the books and tell the payments. Return the account."""
    await stack.simulator.post("/settle")
    account = await read_books(stack, shop)
    await settle(stack, account)
    return account


async def settle(stack: Stack, account: bytes) -> list[PaymentKey]:
    """Tell an account's payments what the books say. Return those that changed."""
    changed: list[PaymentKey] = []
    pool = await open_pool(stack.dsn, size=1)
    try:
        await settling.settle(pool, account, changed.append)
    finally:
        await pool.close()
    return changed


async def settled_at(stack: Stack, account: bytes) -> str:
    """Return when the account's first batch settled, as the API shows it."""
    return rfc3339(
        await stack.value("SELECT min(settled_at) FROM settled_batches WHERE account = $1", account)
    )
