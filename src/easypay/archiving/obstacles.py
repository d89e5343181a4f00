"""What keeps a month in the database: anything that may still change, or that something points to.

Each rule is a condition on one table. All are counted, each with the id of one example.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from easypay import ids
from easypay.db.partitions import month_start, suffix_of, tables_of

REFUNDABLE_DAYS: Final = 180
"""How long the processor takes refunds after a capture."""


class Obstacle(msgspec.Struct, frozen=True):
    """Something that stands in the way. `what` follows a number: `3 payments that are open`."""

    code: str
    what: str
    count: int
    example: str | None

    def sentence(self) -> str:
        """Return it for people."""
        example = "" if self.example is None else f", such as {self.example}"
        return f"{self.count} {self.what}{example}"


class Rule(NamedTuple):
    """A condition on a month's table `m`."""

    code: str
    what: str
    condition: str


# A payment without `settled_at` was captured when it was made, or later if `capture` is manual.
_CAPTURED_AT: Final = (
    "coalesce(settled_at, CASE capture WHEN 'manual' THEN updated_at ELSE created_at END)"
)
_PAYMENT_RULES: Final = (
    Rule(
        "open_payments",
        "payments that are open: pending, processing, in review or authorized",
        "status IN ('pending', 'processing', 'in_review', 'authorized')",
    ),
    Rule(
        "payments_in_use",
        "payments on which an operation is open",
        "active_operation IS NOT NULL OR refund_reserved_minor > 0",
    ),
    Rule(
        "refundable_payments",
        f"payments that can still be refunded: captured less than {REFUNDABLE_DAYS} days ago, and "
        "not refunded in full",
        "status = 'captured' AND refunded_minor < captured_minor"
        f" AND {_CAPTURED_AT} > db_now() - interval '{REFUNDABLE_DAYS} days'",
    ),
)
_OF_EARLIER: Final = (
    "payment_id < $1 AND EXISTS (SELECT FROM payments p WHERE p.merchant_id = m.merchant_id"
    " AND p.mode = m.mode AND p.id = m.payment_id)"
)
OPEN_OPERATIONS: Final = Rule(
    "open_operations",
    "operations that are open: queued, in flight, unknown, not sent or held for review",
    # An operation that a reviewer has approved keeps the state `held`.
    "state IN ('queued', 'in_flight', 'unknown', 'not_sent') OR state = 'held' AND EXISTS (SELECT"
    " FROM payments p WHERE p.merchant_id = m.merchant_id AND p.mode = m.mode"
    " AND p.id = m.payment_id AND p.status = 'in_review')",
)
_OPERATION_RULES: Final = (
    OPEN_OPERATIONS,
    Rule(
        "earlier_payments",
        "operations of payments of an earlier month that is not archived: archive that month first",
        _OF_EARLIER,
    ),
)
_EVENT_RULES: Final = (
    Rule(
        "earlier_payments_events",
        "events of payments of an earlier month that is not archived: archive that month first",
        _OF_EARLIER,
    ),
)
OPERATION_HERE: Final = "operation_id >= $1 AND operation_id < $2"
POINTS_HERE: Final = f"(payment_id >= $1 AND payment_id < $2 OR {OPERATION_HERE})"
_POINTERS: Final = (
    ("unresolved_operations", "unresolved", "operations that EasyPay still asks about", "true"),
    ("watched_operations", "watched", "operations that are still watched", "true"),
    (
        "late_charges",
        "open_late_charges",
        "late charges that are being given back or need a person",
        "state IN ('returning', 'needs_person')",
    ),
    (
        "idempotency_keys",
        "live_keys",
        "idempotency keys that still give an answer",
        "created_at > db_now() - make_interval(days => $3)",
    ),
)
_NOT_NUMBERED: Final = """
    SELECT count(*), min(e.id::text)
      FROM {events} e LEFT JOIN feed_months m ON m.month = $1
     WHERE m.month IS NULL OR e.written_by::text::bigint >= m.read_below
        OR e.written_by::text::bigint = ANY (m.still_open)
"""


async def find(connection: Any, month: datetime, *, key_days: int) -> list[Obstacle]:
    """Return what stands in the way of a month that is over. Reads each of its tables once.

    An idempotency key gives its answer for `key_days`.
    """
    low = ids.lowest_id_at(month)
    tables = tables_of(month)
    found: list[Obstacle] = []
    arguments: Sequence[object]
    for parent, kind, rules in (
        ("payments", ids.PAYMENT, _PAYMENT_RULES),
        ("operations", ids.OPERATION, _OPERATION_RULES),
        ("events", ids.EVENT, _EVENT_RULES),
    ):
        arguments = (low,) if any("$1" in rule.condition for rule in rules) else ()
        found += await in_table(connection, tables[parent], kind, rules, arguments)
    found += await pointing_here(connection, month, key_days=key_days)
    return found + await _not_numbered(connection, month, tables["events"])


async def pointing_here(
    connection: Any, month: datetime, *, key_days: int, here: str = POINTS_HERE
) -> list[Obstacle]:
    """Return what points to the month and is not over. `here` is POINTS_HERE, or OPERATION_HERE:
    a refund of today points to an old payment, but not to an old operation."""
    low, high = ids.lowest_id_at(month), ids.lowest_id_at(month_start(month, 1))
    found: list[Obstacle] = []
    arguments: Sequence[object]
    for pointer in _POINTERS:
        arguments = (low, high, key_days) if "$3" in pointer[-1] else (low, high)
        found += await _pointing(connection, *pointer, arguments, here)
    return found


async def in_table(
    connection: Any,
    table: str,
    kind: str,
    rules: Sequence[Rule],
    arguments: Sequence[object] = (),
) -> list[Obstacle]:
    """Return what stands in the way in one table of a month, which is read once."""
    counts = ", ".join(
        f"count(*) FILTER (WHERE {rule.condition}), min(id::text) FILTER (WHERE {rule.condition})"
        for rule in rules
    )
    row = tuple(await connection.fetchrow(f"SELECT {counts} FROM {table} m", *arguments))
    return [
        Obstacle(rule.code, rule.what, row[2 * n], _typed(kind, row[2 * n + 1]))
        for n, rule in enumerate(rules)
        if row[2 * n]
    ]


async def _pointing(
    connection: Any,
    table: str,
    code: str,
    what: str,
    condition: str,
    arguments: Sequence[object],
    here: str,
) -> list[Obstacle]:
    count, example = await connection.fetchrow(
        f"SELECT count(*), min(operation_id::text) FROM {table} WHERE {here} AND {condition}",
        *arguments,
    )
    return [Obstacle(code, what, count, _typed(ids.OPERATION, example))] if count else []


async def forget_expired_keys(
    connection: Any, month: datetime, *, key_days: int, here: str = POINTS_HERE
) -> None:
    """Delete keys of the month that give no answer any more. `here` is as in `pointing_here`.

    The daily purge leaves those of operations that a reviewer has approved. A repeat under such a
    key would look for an operation that is not there.
    """
    await connection.execute(
        f"DELETE FROM idempotency_keys WHERE {here}"
        " AND created_at <= db_now() - make_interval(days => $3)",
        ids.lowest_id_at(month),
        ids.lowest_id_at(month_start(month, 1)),
        key_days,
    )


async def _not_numbered(connection: Any, month: datetime, events: str) -> list[Obstacle]:
    count, example = await connection.fetchrow(
        _NOT_NUMBERED.format(events=events), suffix_of(month)
    )
    what = "events that the feed has not numbered yet; a running gateway does that"
    return [Obstacle("not_in_feed", what, count, _typed(ids.EVENT, example))] if count else []


def _typed(kind: str, example: str | None) -> str | None:
    return None if example is None else ids.typed(kind, UUID(example))
