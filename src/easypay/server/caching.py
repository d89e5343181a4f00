"""What connects the caches of a process: who is told of a change, and what counts.

`told_after` is called by the committer of outcomes, right after a group has committed. A payment
that is not in the caches costs it one look into a dict; with nothing in the caches, one look for
the whole group.
"""

import dataclasses
from collections.abc import Sequence

import asyncpg

from easypay.cache.caches import Caches
from easypay.cache.names import payment_name
from easypay.observability.metrics import Instruments
from easypay.payments.outcome_changes import Change
from easypay.payments.statements import Statement


def told_after(statement: Statement[Change, bool], caches: Caches) -> Statement[Change, bool]:
    """Return the statement that records outcomes, which drops those payments from the caches."""
    results = statement.results

    def tell(items: Sequence[Change], rows: list[asyncpg.Record]) -> Sequence[bool]:
        drop_changed(caches, items)
        return results(items, rows)

    return dataclasses.replace(statement, results=tell)


def drop_changed(caches: Caches, changes: Sequence[Change]) -> None:
    """Drop the payments of these changes from the caches."""
    if caches.holds_nothing:
        return
    for change in changes:
        operation = change.operation
        caches.delete(payment_name(operation.merchant_id, operation.mode, operation.payment_id))


def copy_counts(caches: Caches, instruments: Instruments) -> None:
    """Copy what the caches count into the metrics."""
    for (kind, result), count in caches.counts.items():
        instruments.cache.set(count, kind, result)
    instruments.cache_bytes.set(caches.near_bytes)
    instruments.cache_entries.set(caches.near_entries)
