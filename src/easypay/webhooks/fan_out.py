"""The fan-out: follows the feed and writes what each endpoint is to be told.

It is one statement that moves its mark in `feed_readers` and writes the rows of
`webhook_deliveries`, so each event is fanned out exactly once, whichever worker does it and dies
when. It reads only the streams of merchants that have an endpoint. While nobody has one it has no
mark and does nothing.

The tables of this month and the last are read first; if an event lies in another month, all are.

While an old snapshot is held the mark has a version for each of its moves, and a search by its name
walks over all of them. So a worker remembers to which place of the table it has moved the mark. It
reads the mark by its name only if it is not there any more, because another worker was quicker, and
now and then.
"""

from typing import Any, Final
from uuid import UUID

from easypay import clock
from easypay.clock import monotonic
from easypay.db.connections import Lane
from easypay.events.readers import Place, PlanAge, tables_of
from easypay.webhooks.endpoints import READER

MOST: Final = 2_000
"""Events of the feed that one statement passes over."""
_READ_EVERY_S: Final = 10.0
"""How often the mark is read by its name. After a failover the server may know less than the one
before, and behind a pooler no error tells of it."""

_MARK: Final = "mark"
"""The variant of the lane's statement that reads the mark and the end of the feed."""
_READ_MARK: Final = f"""
    SELECT last_seq, ctid, (SELECT max(seq) FROM feed) FROM feed_readers WHERE name = '{READER}'
"""
_NEWEST: Final = "newest"
"""The variant that asks for the newest event after the mark, and whether the mark is still at its
place. It is asked again and again, so it searches for no row that changes often: those have many
versions beside an old snapshot."""
_READ_NEWEST: Final = f"""
    SELECT seq, EXISTS (SELECT FROM feed_readers
                         WHERE ctid = $2::tid AND name = '{READER}' AND last_seq = $1)
      FROM feed WHERE seq > $1 ORDER BY seq DESC LIMIT 1
"""
_READ: Final = {_MARK: _READ_MARK, _NEWEST: _READ_NEWEST}
# The caller has read `$2` from a statement that was over, so this one sees every endpoint that was
# there before the event `$2`. An event behind one that has failed waits for the same moment, so a
# claim does not look at it again and again. No two events of one statement are due at the same
# time: a claim begins at the time of the last row that the one before it took.
_FAN_OUT: Final = """
    WITH wanted AS MATERIALIZED (
        SELECT s.stream, e.merchant_id, e.mode, e.id AS endpoint_id, e.types, e.after_seq
          FROM webhook_endpoints e
         CROSS JOIN LATERAL (SELECT stream FROM streams
                WHERE merchant_id = e.merchant_id AND mode = e.mode LIMIT 1) AS s
         WHERE e.state <> 'disabled'
    ), happened AS MATERIALIZED (
        SELECT f.seq, f.stream, f.event_id, f.payment_id
          FROM (SELECT DISTINCT stream FROM wanted OFFSET 0) AS w
          JOIN (SELECT * FROM feed WHERE seq > $1 AND seq <= $2 OFFSET 0) AS f USING (stream)
    ), taken AS (
        UPDATE feed_readers SET last_seq = $2::bigint
         WHERE ctid = $3::tid AND name = '{name}' AND last_seq = $1::bigint
           AND NOT EXISTS (SELECT FROM happened WHERE {outside})
        RETURNING ctid AS row
    ), written AS (
        INSERT INTO webhook_deliveries (merchant_id, endpoint_id, event_id, mode, payment_id, seq,
            type, due_at)
        SELECT w.merchant_id, w.endpoint_id, h.event_id, w.mode, h.payment_id, h.seq, e.type,
               greatest(db_now() - make_interval(secs => ($2 - h.seq) * 1e-6::float8), (
                   SELECT d.due_at FROM webhook_deliveries d
                    WHERE d.endpoint_id = w.endpoint_id AND d.payment_id = h.payment_id
                      AND d.parked_at IS NULL AND d.reason IS NOT NULL
                    ORDER BY d.seq DESC LIMIT 1))
          FROM taken CROSS JOIN happened h
          JOIN wanted w ON w.stream = h.stream AND h.seq > w.after_seq
         CROSS JOIN LATERAL (SELECT * FROM {events} AS e
                WHERE e.merchant_id = w.merchant_id AND e.payment_id = h.payment_id
                  AND e.id = h.event_id LIMIT 1) AS e
         WHERE cardinality(w.types) = 0 OR e.type = ANY (w.types)
        ON CONFLICT DO NOTHING
        RETURNING merchant_id, endpoint_id
    )
    SELECT w.merchant_id, w.endpoint_id, taken.row
      FROM taken LEFT JOIN (SELECT DISTINCT * FROM written) AS w ON true
"""


LANE: Final[dict[str, Any]] = {
    "lookups": True,
    "hash_joins": True,
    "settings": {"enable_sort": "off"},
}
"""How a lane runs these statements. What happened and who wants it are joined by a hash table: both
may be thousands. Nothing is to be sorted: otherwise the last failure of a payment may be looked for
among all that an endpoint waits for, and there may be a million."""


def lane_statement(variant: str) -> str:
    """Return what a lane runs: the fan-out for the tables of a month (`2026_11`) and the one
    before, or for all if the variant is empty. `$1`: the mark; `$2`: up to which number of the
    feed; `$3`: the mark's place. The other variants read the mark and what is new."""
    if variant in _READ:
        return _READ[variant]
    tables = tables_of(variant)
    return _FAN_OUT.format(name=READER, events=tables.events, outside=tables.outside)


class FanOut:
    """Follows the feed for one worker, over a connection of its own."""

    def __init__(self, dsn: str, *, limit_s: float) -> None:
        self._lane = Lane(dsn, "webhooks", lane_statement, limit_s=limit_s, **LANE)
        self._plan = PlanAge()
        self._mark: int | None = None
        """All events up to this number are fanned out, by this worker or another."""
        self._place: Place | None = None
        """Where this worker has put the mark; None if it has to be read."""
        self._read_at = 0.0
        """When to read it, wherever it was put."""
        self._most = MOST
        """Fewer after a failure: a statement that was too long for its time limit would be so
        each time, and nobody would be told of anything."""
        self.is_behind = False
        """Whether the last step left events for the next one."""

    async def step(self) -> list[tuple[UUID, UUID]] | None:
        """Fan out what is new, up to `MOST` events of the feed. Return the merchants and ids of
        the endpoints for which that made deliveries; None if nothing was new."""
        try:
            return await self._step()
        except Exception:
            self._read_at = 0.0
            raise

    async def _step(self) -> list[tuple[UUID, UUID]] | None:
        self.is_behind = False
        if monotonic() >= self._read_at:
            self._mark = self._place = None
        newest: int | None = None
        if self._mark is not None:
            news = await self._lane.fetch((self._mark, self._place), _NEWEST)
            if not news:
                return None
            newest, is_there = news[0]
            if not is_there:
                self._place = None
        if self._place is None:
            found = await self._lane.fetch((), _MARK)
            self._read_at = monotonic() + _READ_EVERY_S
            self._mark, self._place, newest = found[0] if found else (None, None, None)
        mark, place = self._mark, self._place
        if mark is None or newest is None or mark >= newest:
            return None
        until = min(newest, mark + self._most)
        self._place = None
        if self._plan.is_over(until - mark):
            await self._lane.close()
        try:
            for month in (f"{clock.now():%Y_%m}", ""):
                if rows := await self._lane.fetch((mark, until, place), month):
                    self._most = min(MOST, self._most + self._most // 8 + 1)
                    self._mark, self._place = until, rows[0][2]
                    self.is_behind = until < newest
                    return [(row[0], row[1]) for row in rows if row[0] is not None]
        except Exception:
            self._most = max(1, self._most // 2)
            raise
        self.is_behind = True
        return []  # another worker was quicker

    @property
    def is_needed(self) -> bool:
        """Whether anybody had an endpoint when the mark was read."""
        return self._mark is not None

    async def close(self) -> None:
        """Close the connection."""
        await self._lane.close()
