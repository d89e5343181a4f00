"""Reads the books of a shop's account as a worker does, and tells its payments what they say."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from easypay.clock import rfc3339
from easypay.db.pool import Pool, open_pool
from easypay.merchants.directory import Directory
from easypay.merchants.vault import Vault
from easypay.payments.model import PaymentKey
from easypay.processors.authorize_net.integration import AUTHORIZE_NET
from easypay.processors.authorize_net.processor import AuthorizeNet
from easypay.reconciliation.run import Changed, Reconciliation
from harness import ENCRYPTION_KEY, Shop, Stack


@asynccontextmanager
async def pool_of(stack: Stack, size: int = 3) -> AsyncIterator[Pool]:
    pool = await open_pool(stack.dsn, size=size)
    try:
        yield pool
    finally:
        await pool.close()


async def account_of(stack: Stack, shop: Shop) -> bytes:
    """Return the name of the shop's account in our rows."""
    found: bytes = await stack.value(
        "SELECT DISTINCT account FROM processor_logins WHERE merchant_id = $1", shop.merchant_id
    )
    return found


async def read_books(stack: Stack, shop: Shop, changed: Changed | None = None) -> list[PaymentKey]:
    """Reconcile the shop's account. Return the payments that changed."""
    moved: list[PaymentKey] = []
    processor = AuthorizeNet()
    try:
        async with pool_of(stack) as pool:
            reconciliation = Reconciliation(
                pool=pool,
                processors={AUTHORIZE_NET.name: processor},
                directory=Directory(
                    pool, Vault(ENCRYPTION_KEY), {AUTHORIZE_NET.name: AUTHORIZE_NET}, lease_s=1.0
                ),
                changed=changed or moved.append,
            )
            result = await reconciliation.run(await account_of(stack, shop))
            assert result is not None
            assert result.failure is None, result
    finally:
        await processor.close()
    return moved


async def settled(stack: Stack, shop: Shop) -> list[PaymentKey]:
    """Let everything settle, and read the books. Return the payments that changed."""
    await stack.simulator.post("/settle")
    return await read_books(stack, shop)


async def settled_at(stack: Stack, account: bytes) -> str:
    """Return when the account's first batch settled, as the API shows it."""
    return rfc3339(
        await stack.value("SELECT min(settled_at) FROM settled_batches WHERE account = $1", account)
    )


_ADDED_UP: Final = """
    SELECT batch_id, merchant_id, mode, currency, coalesce(card_brand, ''), kind, count(*),
           sum(amount_minor)::bigint
      FROM settled_transactions WHERE account = $1 AND merchant_id IS NOT NULL
     GROUP BY 1, 2, 3, 4, 5, 6
"""
_SUMS: Final = """
    SELECT batch_id, merchant_id, mode, currency, card_brand, kind, transactions, amount_minor
      FROM settlement_sums WHERE account = $1 AND (transactions <> 0 OR amount_minor <> 0)
"""


async def wrong_sums(stack: Stack, account: bytes) -> set[tuple[Any, ...]]:
    """Return where the sums of an account's batches are not those of its rows."""
    added_up = await stack.fetch(_ADDED_UP, account)
    kept = await stack.fetch(_SUMS, account)
    return set(map(tuple, added_up)) ^ set(map(tuple, kept))
