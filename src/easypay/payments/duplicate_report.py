"""Finds payments of a range that look alike, also for merchants who do not check new payments.

One pass over the range in the order of ids: the window function compares each payment with the one
before it that has the same card or bank account, amount, currency and order reference. A request
passes over at most `MOST_PASSED` payments, sorted in the server's `work_mem` and on its disk, so
its cost does not depend on the range. `api/duplicates.py` calls this.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from easypay import ids
from easypay.errors import ValidationFailed
from easypay.mode import Mode
from easypay.payments.duplicates import ENDED_SQL

MOST_PASSED: Final = 50_000
MOST_REPEATS: Final = 1_000
"""Per request: payments that are compared, and payments found to repeat an earlier one."""

_REPEATS: Final = f"""
    WITH passed AS (
        SELECT id, status, created_at, amount_minor, currency, order_reference, method_type,
               card_brand, card_last4, card_exp_month, card_exp_year, card_fingerprint
          FROM payments
         WHERE merchant_id = $1 AND mode = $2 AND id >= $3 AND id < $4
         ORDER BY id
         LIMIT $5
    ), compared AS (
        SELECT *, lag(id) OVER alike AS before_id, lag(status) OVER alike AS before_status,
               lag(created_at) OVER alike AS before_at
          FROM passed
         WHERE card_fingerprint IS NOT NULL AND status NOT IN ({ENDED_SQL})
        WINDOW alike AS (PARTITION BY card_fingerprint, amount_minor, currency, order_reference
                         ORDER BY id)
    ), repeats AS (
        SELECT * FROM compared
         WHERE id >= $6 AND created_at < before_at + make_interval(secs => $7)
         ORDER BY id
         LIMIT $8
    )
    SELECT (SELECT count(*) FROM passed) AS passed,
           (SELECT id FROM passed ORDER BY id DESC LIMIT 1) AS last_passed,
           r.id, r.status, r.created_at, r.before_id, r.before_status, r.before_at,
           r.amount_minor, r.currency, r.order_reference, r.method_type, r.card_brand,
           r.card_last4, r.card_exp_month, r.card_exp_year
      FROM (VALUES (1)) AS always LEFT JOIN repeats r ON true
     ORDER BY r.id
"""


class Member(NamedTuple):
    """One payment of a group."""

    id: UUID
    status: str
    created_at: datetime


class Group(msgspec.Struct):
    """Payments that look alike, oldest first: each began within the window of the one before."""

    amount_minor: int
    currency: str
    order_reference: str | None
    method_type: str
    card_brand: str | None
    card_last4: str | None
    card_exp_month: int | None
    card_exp_year: int | None
    members: list[Member]


_OF_GROUP: Final = Group.__struct_fields__[:-1]


class Found(NamedTuple):
    """The groups of one request, and the id after which the next one goes on; None: the end."""

    groups: list[Group]
    after: UUID | None


async def find_groups(
    runner: Any,
    merchant_id: UUID,
    mode: Mode,
    *,
    start: UUID,
    end: UUID,
    window_s: int,
    limit: int,
) -> Found:
    """Return groups whose second or later payments have ids with `start <= id < end`.

    A group may begin with a payment from before `start`. Raises ValidationFailed if more than
    MOST_PASSED payments began within one window, because then it cannot be searched in parts.
    """
    earliest = ids.lowest_id_at(ids.moment_of(start) - timedelta(seconds=window_s))
    rows = await runner.fetch(
        _REPEATS,
        merchant_id,
        mode,
        min(earliest, start),
        end,
        MOST_PASSED,
        start,
        window_s,
        MOST_REPEATS,
    )
    passed, last_passed = rows[0]["passed"], rows[0]["last_passed"]
    repeats = [row for row in rows if row["id"] is not None]
    after = last_passed if passed == MOST_PASSED else None
    if after is not None and after < start:
        raise ValidationFailed(
            f"More than {MOST_PASSED} payments began within {window_s} seconds, the merchant's "
            "window for duplicates: too many to compare. Set a shorter window, then ask again."
        )
    if len(repeats) == MOST_REPEATS:
        after = repeats[-1]["id"]
    return _grouped(repeats, limit, after)


def _grouped(repeats: Sequence[Any], limit: int, after: UUID | None) -> Found:
    """Join repeats to groups. If there are more than `limit`, the rest is left to the next page."""
    groups: list[Group] = []
    by_last: dict[UUID, Group] = {}
    previous: UUID | None = None
    for row in repeats:
        group = by_last.pop(row["before_id"], None)
        if group is None:
            if len(groups) == limit:
                return Found(groups, previous)
            before = Member(row["before_id"], row["before_status"], row["before_at"])
            group = Group(**{name: row[name] for name in _OF_GROUP}, members=[before])
            groups.append(group)
        group.members.append(Member(row["id"], row["status"], row["created_at"]))
        by_last[row["id"]] = group
        previous = row["id"]
    return Found(groups, after)
