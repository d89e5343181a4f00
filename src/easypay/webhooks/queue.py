"""The work list of deliveries: claimed fairly, and finished, postponed or parked in groups.

A claim takes the oldest due rows of each endpoint by itself, so an endpoint with a million rows
takes no turn from another. A row is due if it is not parked, its time has come, and no earlier
event of its payment is still to be delivered to that endpoint. The claim moves its time to the end
of a lease and counts an attempt; whatever is written about it afterwards is written only if that
number is still the same. So a worker that was stopped for a minute records nothing about what
another has claimed since. Nor does one record a failure twice, if the database's answer was lost:
the failures before it are a part of what must be the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from easypay.clock import monotonic
from easypay.db.work_list import Key, WorkList
from easypay.mode import MODE, Mode
from easypay.webhooks.model import DISABLE_AFTER_S, Back, Delivery

DELIVERIES: Final = WorkList(
    "webhook_deliveries",
    (("merchant_id", "uuid"), ("endpoint_id", "uuid"), ("event_id", "uuid")),
    ("payment_id", "type"),
    counted="(w.merchant_id, w.endpoint_id) IN"
    " (SELECT e.merchant_id, e.id FROM webhook_endpoints e WHERE e.state = 'enabled')"
    " AND w.seq = min(w.seq)"
    " OVER (PARTITION BY w.endpoint_id, w.payment_id, w.parked_at IS NULL)",
)
"""The work list. Its claim is CLAIM: it takes turns among endpoints, under the same condition."""
LANE_SETTINGS: Final = {"enable_sort": "off"}
"""Of the connection that claims. A payment's rows are asked for in their order, which
one index has. If sorting them were as good, a plan of an empty table would read all rows of the
endpoint for each of them, and there may be a million."""
LEASE_S: Final = 40.0
"""How long a claim holds. An attempt is not begun if it could last longer than the lease."""

# $3: the most rows of one endpoint; $1 and $2: endpoints for which it is another number. $4: the
# lease in seconds. $5: the most rows in all. Endpoints come in a random order, so none is always
# last. What was locked is found again by its place: by its key, a plan that was made while the
# table was empty would read all of it.
_CLAIM: Final = """
    WITH RECURSIVE endpoint AS (
        {endpoints}
    ), turn AS MATERIALIZED (
        SELECT e.merchant_id, e.id AS endpoint_id, e.url, e.secret,
               CASE WHEN e.old_secret_until > db_now() THEN e.old_secret END AS old_secret,
               coalesce((SELECT b.most FROM unnest($1::uuid[], $2::int[]) AS b(endpoint_id, most)
                          WHERE b.endpoint_id = e.id), $3::int) AS most{back}
          FROM endpoint AS found
         CROSS JOIN LATERAL (SELECT * FROM webhook_endpoints
                WHERE merchant_id = found.merchant_id AND id = found.endpoint_id LIMIT 1) AS e
         WHERE e.state = 'enabled'
         ORDER BY random()
    ), picked AS MATERIALIZED (
        SELECT p.row, p.due_at, turn.*
          FROM turn CROSS JOIN LATERAL (
            SELECT w.ctid AS row, w.due_at
              FROM webhook_deliveries w
             WHERE w.endpoint_id = turn.endpoint_id AND w.parked_at IS NULL
               AND w.due_at <= db_now(){window}
               AND (SELECT earlier.seq FROM webhook_deliveries earlier
                     WHERE earlier.endpoint_id = w.endpoint_id AND earlier.parked_at IS NULL
                       AND earlier.payment_id = w.payment_id AND earlier.seq < w.seq
                     ORDER BY earlier.seq LIMIT 1) IS NULL
             ORDER BY w.due_at LIMIT greatest(turn.most, 0)
               FOR UPDATE SKIP LOCKED) AS p
         LIMIT $5::bigint
    )
    UPDATE webhook_deliveries w
       SET attempt = w.attempt + 1, due_at = db_now() + make_interval(secs => $4)
      FROM picked p WHERE w.ctid = p.row
    RETURNING w.merchant_id, w.endpoint_id, w.event_id, w.mode, w.payment_id, w.type, w.data,
        w.attempt, w.failures, w.created_at, extract(epoch FROM db_now() - p.due_at)::float8,
        p.url, p.secret, p.old_secret
"""
# Endpoints are found one by one through the index, each by one look-up.
CLAIM: Final = _CLAIM.format(
    endpoints="""(SELECT merchant_id, endpoint_id FROM webhook_deliveries WHERE parked_at IS NULL
          ORDER BY endpoint_id LIMIT 1)
        UNION ALL
        SELECT next.merchant_id, next.endpoint_id
          FROM endpoint e CROSS JOIN LATERAL (
               SELECT w.merchant_id, w.endpoint_id FROM webhook_deliveries w
                WHERE w.parked_at IS NULL AND w.endpoint_id > e.endpoint_id
                ORDER BY w.endpoint_id LIMIT 1) AS next""",
    window="",
    back="",
)
# $6, $7: merchants and endpoints; $8: how many seconds back to look for each.
CLAIM_RECENT: Final = _CLAIM.format(
    endpoints="""SELECT merchant_id, endpoint_id, back_s
          FROM unnest($6::uuid[], $7::uuid[], $8::float8[])
               AS given(merchant_id, endpoint_id, back_s)""",
    window="""
               AND w.due_at > db_now() - make_interval(secs => turn.back_s)""",
    back=", found.back_s",
)
RECENT: Final = "recent"


def claim_statement(variant: str) -> str:
    """Return what a lane for claims runs: CLAIM_RECENT as RECENT, else CLAIM."""
    return CLAIM_RECENT if variant == RECENT else CLAIM


# Every look-up is by its whole key, however small the table was when the plan was made: LIMIT and
# OFFSET 0 keep the look-ups apart. What was found is found again by its place. Otherwise, once very
# many rows are gone and a long transaction keeps them, each would walk over all rows of an
# endpoint, or of the table: to a plan, rows that are gone count as none.
#
# A row that somebody changed in this moment has another place when it is locked, and is not seen
# there: it is left for the next try, and nothing is logged of it.
#
# `held` are those whose number is still the one that was claimed, with as many failures as then: an
# attempt that is recorded already has one more. Those of the same payment that wait behind one
# follow it: at once, or at the time of its next attempt. The caller is told whether any can go now.
RECORD: Final = """
    WITH told AS MATERIALIZED (
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::int[], $5::text[],
            $6::float8[], $7::text[], $8::uuid[], $9::timestamptz[], $10::int[], $11::int[],
            $12::text[], $13::text[], $14::int[])
            AS t(merchant_id, endpoint_id, event_id, attempt, outcome, again_s, reason, id,
                 sent_at, took_ms, status, answer, url, failures)
    ), held AS MATERIALIZED (
        SELECT t.*, w.row, w.payment_id, w.seq, w.type
          FROM (SELECT * FROM told ORDER BY merchant_id, endpoint_id, event_id) AS t
         CROSS JOIN LATERAL (
               SELECT d.ctid AS row FROM webhook_deliveries d
                WHERE d.merchant_id = t.merchant_id AND d.endpoint_id = t.endpoint_id
                  AND d.event_id = t.event_id
                LIMIT 1) AS seen
         CROSS JOIN LATERAL (
               SELECT d.ctid AS row, d.* FROM webhook_deliveries d
                WHERE d.merchant_id = t.merchant_id AND d.endpoint_id = t.endpoint_id
                  AND d.event_id = t.event_id
                LIMIT 1 FOR UPDATE) AS w
         WHERE w.attempt = t.attempt AND w.failures = t.failures AND w.parked_at IS NULL
           AND w.row = seen.row
    ), behind AS MATERIALIZED (
        SELECT h.id, h.outcome, h.again_s, later.*
          FROM held h CROSS JOIN LATERAL (
               SELECT w.ctid AS row, w.attempt, w.due_at FROM webhook_deliveries w
                WHERE w.endpoint_id = h.endpoint_id AND w.payment_id = h.payment_id
                  AND w.seq > h.seq AND w.parked_at IS NULL
                ORDER BY w.seq OFFSET 0) AS later
    ), finished AS (
        DELETE FROM webhook_deliveries w USING held h
         WHERE h.outcome = 'delivered' AND w.ctid = h.row
    ), put_off AS (
        UPDATE webhook_deliveries w
           SET reason = h.reason, failures = w.failures + 1,
               due_at = db_now() + make_interval(secs => coalesce(h.again_s, 0)),
               parked_at = CASE h.outcome WHEN 'parked' THEN db_now() END
          FROM held h
         WHERE h.outcome <> 'delivered' AND w.ctid = h.row
    ), followed AS (
        UPDATE webhook_deliveries w
           SET due_at = db_now() + make_interval(secs => coalesce(h.again_s, 0))
          FROM behind h
         WHERE h.attempt = 0 AND (h.outcome = 'failed' OR h.due_at > db_now())
           AND w.ctid = h.row AND w.attempt = 0
    ), concerned AS MATERIALIZED (
        SELECT merchant_id, endpoint_id, bool_or(outcome = 'delivered') AS any_delivered
          FROM held GROUP BY merchant_id, endpoint_id ORDER BY merchant_id, endpoint_id
    ), better AS (
        UPDATE webhook_endpoints e SET failing_since = NULL FROM concerned c
         WHERE c.any_delivered AND e.merchant_id = c.merchant_id AND e.id = c.endpoint_id
           AND e.failing_since IS NOT NULL
    ), worse AS (
        UPDATE webhook_endpoints e SET failing_since = db_now() FROM concerned c
         WHERE NOT c.any_delivered AND e.merchant_id = c.merchant_id AND e.id = c.endpoint_id
           AND e.failing_since IS NULL
    ), logged AS (
        INSERT INTO webhook_attempts (id, merchant_id, endpoint_id, event_id, type, attempt,
            outcome, url, sent_at, took_ms, status, reason, answer)
        SELECT id, merchant_id, endpoint_id, event_id, type, failures + 1, outcome, url, sent_at,
               took_ms, status, reason, answer
          FROM held
    )
    SELECT h.id, e.id, e.merchant_id, e.mode, h.outcome <> 'delivered'
               AND e.failing_since < db_now() - make_interval(secs => $15::float8),
           h.id IN (SELECT id FROM behind WHERE outcome <> 'failed')
      FROM held h LEFT JOIN webhook_endpoints e
        ON e.merchant_id = h.merchant_id AND e.id = h.endpoint_id
"""


class Told(msgspec.Struct, frozen=True):
    """What became of one attempt."""

    delivery: Delivery
    id: UUID
    """Of the attempt in the log."""
    sent_at: Any
    """When it was begun: a datetime in UTC."""
    took_ms: int
    outcome: str
    """`delivered`; `failed`: it is tried again; or `parked`: it is not."""
    again_s: float | None = None
    """After a failure: how long until the next attempt, in seconds."""
    status: int | None = None
    reason: str | None = None
    answer: str = ""


async def claim(
    lane: Any,
    most_of: Mapping[UUID, int],
    *,
    of_each: int,
    most: int,
    lease_s: float = LEASE_S,
    only: Sequence[Back] | None = None,
) -> list[Delivery]:
    """Claim what is due: at most `of_each` of each endpoint, of those in `most_of` at most so many,
    and at most `most` in all; `only` of these endpoints, and only what became due not so long ago.

    `lane` runs `claim_statement`.
    """
    held_until = monotonic() + lease_s
    arguments = (list(most_of), list(most_of.values()), of_each, lease_s, most)
    if only is None:
        rows = await lane.fetch(arguments)
    else:
        columns = [list(column) for column in zip(*only, strict=True)] or [[], [], []]
        rows = await lane.fetch((*arguments, *columns), RECENT)
    return [_delivery(row, held_until) for row in rows]


class Recorded(NamedTuple):
    """What a group of attempts led to."""

    ids: set[UUID]
    """Those that were still this worker's; the others were not written down."""
    dead: set[tuple[UUID, Mode, UUID]]
    """Endpoints that have failed for too long: merchant, mode and id."""
    behind: set[tuple[UUID, UUID]]
    """Endpoints (merchant, id) where an event that waited behind one of these can be claimed
    now."""


async def record(lane: Any, told: Sequence[Told]) -> Recorded:
    """Write down what became of attempts, in one statement; in another one those whose rows were
    changed in the same moment. `lane` runs RECORD."""
    recorded = await _record(lane, told)
    missing = [each for each in told if each.id not in recorded.ids]
    if not missing:
        return recorded
    more = await _record(lane, missing)
    return Recorded(
        recorded.ids | more.ids, recorded.dead | more.dead, recorded.behind | more.behind
    )


async def _record(lane: Any, told: Sequence[Told]) -> Recorded:
    columns = zip(
        *(
            (
                *key_of(each.delivery),
                *(each.delivery.attempt, each.outcome, each.again_s, each.reason, each.id),
                *(each.sent_at, each.took_ms, each.status, each.answer, each.delivery.url),
                each.delivery.failures,
            )
            for each in told
        ),
        strict=True,
    )
    rows = await lane.fetch((*map(list, columns), float(DISABLE_AFTER_S)))
    return Recorded(
        {row[0] for row in rows},
        {(row[2], MODE[row[3]], row[1]) for row in rows if row[4]},
        {(row[2], row[1]) for row in rows if row[5] and row[1] is not None},
    )


def key_of(delivery: Delivery) -> Key:
    """Return a delivery's key in the work list."""
    return delivery.merchant_id, delivery.endpoint_id, delivery.event_id


def _delivery(row: Any, held_until: float) -> Delivery:
    merchant_id, endpoint_id, event_id, mode, *others, secret, old_secret = row
    secrets = (secret,) if old_secret is None else (secret, old_secret)
    return Delivery(  # type: ignore[call-arg]  # mypy cannot count `*`
        merchant_id, endpoint_id, event_id, MODE[mode], *others, secrets, held_until
    )
