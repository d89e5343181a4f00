"""What connects the caches of a process: who is told of a change, and what counts.

What `told_after` adds is called by the committer of outcomes, and of queued payments that begin,
right after a group has committed, for the whole group. Without a shared cache, and with nothing
cached here, that is all it does.
"""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import asyncpg

from easypay.cache.caches import Caches, PaymentRef
from easypay.cache.feed_follower import FeedFollower
from easypay.cache.names import customer_methods_name
from easypay.cache.shared import SharedCache, shared_by
from easypay.cache.url import CacheUrl, parse
from easypay.hmac_sha256 import keyed_digest
from easypay.merchants.vault import Vault
from easypay.mode import Mode
from easypay.observability.metrics import Instruments
from easypay.payments.outcome_changes import Change
from easypay.payments.statements import Item, Result, Statement
from easypay.payments.views import ANSWERS_FORM
from easypay.settings import Settings

log = logging.getLogger(__name__)


class BadCacheUrl(Exception):
    """EASYPAY_CACHE_URL cannot be understood. The message is one line, without the URL."""


def what_tells(
    settings: Settings, caches: Caches, vault: Vault, pool: Any
) -> SharedCache | FeedFollower | None:
    """Return what tells the caches of changes elsewhere, connected to them: the shared cache, or
    without one the feed. None if nothing is cached. It has to run.

    Raises BadCacheUrl.
    """
    if not caches.is_on:
        return None
    url = url_of(settings)
    if url is None:
        return FeedFollower(pool, caches)
    digest = keyed_digest(vault.derive("shared cache"))
    return shared_by(url, caches, pool, digest, form=ANSWERS_FORM)


def url_of(settings: Settings) -> CacheUrl | None:
    """Return where the shared cache is; None if there is none. Raises BadCacheUrl."""
    if settings.cache_url is None:
        return None
    try:
        return parse(settings.cache_url.get_secret_value())
    except ValueError as error:
        raise BadCacheUrl(f"EASYPAY_CACHE_URL: {error}") from None


async def all_told(teller: SharedCache | FeedFollower | None, within_s: float) -> None:
    """Wait until the shared cache knows of every change, or so many seconds."""
    if isinstance(teller, SharedCache) and not await teller.telling.all_told(within_s):
        log.warning(
            "the shared cache was not told of the last changes: for up to a minute, clients who "
            "allow that may get from other gateways what was before"
        )


def told_after(
    statement: Statement[Item, Result],
    caches: Caches,
    payments_of: Callable[[Sequence[Item]], Sequence[PaymentRef]],
) -> Statement[Item, Result]:
    """Return a statement that changes payments, which drops them from the caches."""
    results = statement.results

    def tell(items: Sequence[Item], rows: list[asyncpg.Record]) -> Sequence[Result]:
        caches.payments_changed(payments_of(items))
        return results(items, rows)

    return dataclasses.replace(statement, results=tell)


def changed_by(changes: Sequence[Change]) -> Sequence[PaymentRef]:
    """Return what names the payments of recorded outcomes."""
    return [change.operation for change in changes]


def customer_changed(caches: Caches, merchant_id: UUID, mode: Mode, customer_id: UUID) -> None:
    """Drop the payment methods of a customer from the caches."""
    if caches.is_on:
        caches.delete(customer_methods_name(merchant_id, mode, customer_id))


def copy_counts(caches: Caches, instruments: Instruments) -> None:
    """Copy what the caches count into the metrics."""
    for (kind, result), count in caches.counts.items():
        instruments.cache.set(count, kind, result)
    instruments.cache_bytes.set(caches.near_bytes)
    instruments.cache_entries.set(caches.near_entries)
