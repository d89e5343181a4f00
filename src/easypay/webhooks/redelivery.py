"""Send events again: one, or all of a span of time. They keep their ids and their order."""

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from easypay import ids
from easypay.errors import FieldError, NotFound, ValidationFailed
from easypay.webhooks.endpoints import READER
from easypay.webhooks.model import Endpoint

Runner = Any
MOST: Final = 100_000
"""Events of the feed that one call looks at."""
_AT_ONCE: Final = 1_000
_SLACK: Final = timedelta(hours=1)
"""Events of the feed are in the order of their commits, so their times are out of order by less."""

_STREAM: Final = "SELECT stream FROM streams WHERE merchant_id = $1 AND mode = $2"
# What the fan-out has not read yet, it will write itself, in its order.
_FANNED_OUT: Final = """
    SELECT greatest(e.after_seq, (SELECT last_seq FROM feed_readers WHERE name = $3))
      FROM webhook_endpoints e WHERE e.merchant_id = $1 AND e.id = $2
"""
_NEWEST: Final = "SELECT coalesce(max(position), 0) FROM feed WHERE stream = $1"
_AT: Final = """
    SELECT event_id FROM feed WHERE stream = $1 AND position >= $2 ORDER BY position LIMIT 1
"""
# What waits after a failure, or is parked, is tried at once. What is due anyway stays as it is.
_INTO: Final = """
        INSERT INTO webhook_deliveries AS w (merchant_id, endpoint_id, event_id, mode, payment_id,
            seq, type, due_at)
        SELECT $1, $2, f.event_id, $3, f.payment_id, f.seq, e.type, db_now()
          FROM found f
         CROSS JOIN LATERAL (SELECT * FROM events AS e WHERE e.merchant_id = $1
                AND e.payment_id = f.payment_id AND e.id = f.event_id LIMIT 1) AS e
         WHERE cardinality($4::text[]) = 0 OR e.type = ANY ($4)
        ON CONFLICT (merchant_id, endpoint_id, event_id) DO UPDATE
           SET due_at = db_now(), failures = 0, parked_at = NULL
         WHERE w.parked_at IS NOT NULL OR w.failures > 0
        RETURNING 1"""
_PAGE: Final = f"""
    WITH page AS MATERIALIZED (
        SELECT * FROM feed WHERE stream = $5 AND position >= $6 ORDER BY position LIMIT $7
    ), found AS MATERIALIZED (
        SELECT * FROM page WHERE event_id >= $8 AND event_id < $9 AND seq <= $10
    ), written AS ({_INTO})
    SELECT max(position), min(event_id::text)::uuid, count(*), (SELECT count(*) FROM written)
      FROM page
"""
# Each month's mark says which transactions have their events in the feed.
_EVENT: Final = """
    SELECT e.payment_id, e.type,
           e.written_by::text::bigint < m.read_below
               AND e.written_by::text::bigint <> ALL (m.still_open)
      FROM events e JOIN pg_class c ON c.oid = e.tableoid
      LEFT JOIN feed_months m ON c.relname = 'events_' || m.month
     WHERE e.merchant_id = $1 AND e.mode = $2 AND e.id = $3
"""
_ONE: Final = f"""
    WITH found AS MATERIALIZED (
        SELECT $5::uuid AS event_id, $6::uuid AS payment_id, $7::bigint AS seq
    ), written AS ({_INTO})
    SELECT count(*) FROM written
"""
_WITHIN: Final = """
    SELECT seq FROM (SELECT seq, event_id FROM feed WHERE stream = $1 AND position >= $2
                      ORDER BY position LIMIT $3) AS near WHERE event_id = $4
"""
_ANYWHERE: Final = "SELECT seq FROM feed WHERE stream = $1 AND event_id = $2"


async def redeliver_one(runner: Runner, endpoint: Endpoint, event_id: UUID) -> None:
    """Let an endpoint be sent an event again, in its place among those of its payment that wait.

    An event that the fan-out has not reached yet is sent by it, in its turn. Raises NotFound if
    the merchant has no such event, or its month was archived; ValidationFailed if the fan-out has
    not reached it, and will not send it to this endpoint.
    """
    row = await runner.fetchrow(_EVENT, endpoint.merchant_id, endpoint.mode, event_id)
    if row is None:
        raise NotFound(f"there is no event {ids.typed(ids.EVENT, event_id)}")
    payment_id, kind, is_numbered = row
    seq = await _number_of(runner, endpoint, event_id) if is_numbered else None
    fanned_out = await runner.fetchval(_FANNED_OUT, endpoint.merchant_id, endpoint.id, READER)
    if seq is None or fanned_out is None or seq > fanned_out:
        if endpoint.state != "disabled" and (not endpoint.types or kind in endpoint.types):
            return
        why = (
            "The event has just happened, and its turn to be sent has not come yet. Send this "
            "request again in a second; if that does not help, no worker runs."
        )
        raise ValidationFailed.of([FieldError("#/event_id", "too_early", why)])
    await runner.execute(
        _ONE,
        *(endpoint.merchant_id, endpoint.id, endpoint.mode, []),
        *(event_id, payment_id, seq),
    )


async def _number_of(runner: Runner, endpoint: Endpoint, event_id: UUID) -> int | None:
    """Return an event's number in the feed, which has no index on ids: it is looked for among those
    of the same time, and then everywhere. None if it has none."""
    stream = await runner.fetchval(_STREAM, endpoint.merchant_id, endpoint.mode)
    moment = ids.moment_of(event_id)
    for slack in (timedelta(seconds=1), timedelta(minutes=1), _SLACK):
        first = await _first_position(runner, stream, ids.lowest_id_at(moment - slack))
        behind = await _first_position(runner, stream, ids.lowest_id_at(moment + slack))
        most = max(0, behind - first)
        seq: int | None = await runner.fetchval(_WITHIN, stream, first, most, event_id)
        if seq is not None:
            return seq
    found: int | None = await runner.fetchval(_ANYWHERE, stream, event_id)
    return found


async def redeliver(runner: Runner, endpoint: Endpoint, *, since: datetime, until: datetime) -> int:
    """Let an endpoint be sent all events of its types again that happened from `since` until
    `until`, oldest first. Return how many.

    Raises ValidationFailed if there are too many; those up to the limit were taken. Safe to repeat.
    """
    stream = await runner.fetchval(_STREAM, endpoint.merchant_id, endpoint.mode)
    if stream is None or since >= until:
        return 0
    low, high = ids.lowest_id_at(since), ids.lowest_id_at(until)
    beyond = ids.lowest_id_at(until + _SLACK)
    fanned_out = await runner.fetchval(_FANNED_OUT, endpoint.merchant_id, endpoint.id, READER)
    position = await _first_position(runner, stream, ids.lowest_id_at(since - _SLACK))
    count: int = 0
    looked_at = 0
    while looked_at < MOST:
        last, oldest, of_page, written = await runner.fetchrow(
            _PAGE,
            *(endpoint.merchant_id, endpoint.id, endpoint.mode, endpoint.types),
            *(stream, position, _AT_ONCE, low, high, fanned_out),
        )
        count += written
        looked_at += of_page
        if of_page < _AT_ONCE or oldest >= beyond:
            return count
        position = last + 1
    why = f"The span has more than {MOST} events; {count} are sent again. Ask for a shorter one."
    raise ValidationFailed.of([FieldError("#/until", "range_too_long", why)])


async def _first_position(runner: Runner, stream: int, low: UUID) -> int:
    """Return the first position in a stream with an event not older than `low`."""
    first = 1
    behind: int = await runner.fetchval(_NEWEST, stream) + 1
    while first < behind:
        middle = (first + behind) // 2
        event_id = await runner.fetchval(_AT, stream, middle)
        if event_id is not None and event_id < low:
            first = middle + 1
        else:
            behind = middle
    return first
