"""The statements of `statistics`: what is looked at first, what is added up, and what is changed by
events that are not folded yet.

Their plans do not depend on values: every part finds its rows by a key or a range of one, whatever
the planner believes. A LIMIT or OFFSET 0 keeps it so. So each is planned once for a connection
(SETTINGS). Behind a pooler, where every statement is planned each time, it is planned for its
values: then PostgreSQL looks at no other months than those between the bounds of the ids.

Those that count return rows of one shape: what was counted, bucket, currency, brand, decline codes,
numbers. The numbers of ALL are those of a tally, and of CODES the declines of each code; of any
other counter they are its count and its amount.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from easypay.payments.counters import (
    BRAND,
    COLUMNS,
    COUNTED_STATUS,
    CREATED,
    FLOW,
    FLOW_MINOR,
    FLOWS,
    PROCESSING,
    STATUSES,
    TOOK,
    each_column,
)
from easypay.payments.seals import FAR_BEHIND

COUNTED: Final = (*FLOWS, *(f"now_{status}" for status in (PROCESSING, *STATUSES)))
"""What a tally counts: `counters.COUNTERS`, and the payments whose outcome is unknown."""
ALL: Final = "all"
CODES: Final = "codes"
MOST_AT_THE_EDGES: Final = 5_000
"""Events, and payments, that are read one by one for the two ends of a stretch."""

# A look for events that are not numbered reads a block range index, never a whole month. And a plan
# for any values takes everything for a few rows, which it would sort instead of hashing them.
_PLANNED_ONCE: Final = "SET LOCAL plan_cache_mode = force_generic_plan"
SETTINGS: Final = "; ".join(
    (
        _PLANNED_ONCE,
        "SET LOCAL enable_seqscan = off",
        "SET LOCAL enable_sort = off",
    )
)
PLANNED_ANEW: Final = SETTINGS.replace(
    _PLANNED_ONCE, "SET LOCAL plan_cache_mode = force_custom_plan"
)
"""SETTINGS behind a pooler."""

# what is looked at first -----------------------------------------------------------------------

# $1 merchant, $2 mode, $3 and $4 the stretch, $5 interval, $6 and $7 the stretch as ids
_LOOK: Final = """
    SELECT z.*, CASE WHEN date_trunc('month', first.day::timestamp) = first.day THEN first_day
                     ELSE local_start((date_trunc('month', first.day::timestamp)
                                       + interval '1 month')::date, zone) END AS first_month,
           late.events, late.payments, unknown.payments, at_ends.events, at_ends.payments
      FROM (
        SELECT zone, ready, sealed,
               CASE WHEN local_start(local_day($3, zone), zone) = $3 THEN $3
                    ELSE local_start(local_day($3, zone) + 1, zone) END AS first_day,
               local_start(local_day(least($4, days_until), zone), zone) AS last_day,
               local_start(date_trunc('month', local_day(least($4, months_until), zone)::timestamp)
                           ::date, zone) AS last_month,
               CASE $5::text
               WHEN 'hour' THEN ARRAY(
                    SELECT t FROM generate_series(date_bin('15 minutes', $3, '2000-01-01Z'), $4,
                                                  interval '15 minutes') AS t
                     WHERE extract(minute FROM t AT TIME ZONE zone) = 0 AND t > $3 AND t < $4)
               WHEN 'none' THEN '{{}}'
               ELSE ARRAY(
                    SELECT DISTINCT local_start(d::date, zone)
                      FROM generate_series(date_trunc($5, local_day($3, zone)::timestamp),
                                           local_day($4, zone)::timestamp,
                                           ('1 ' || $5)::interval) AS d
                     WHERE local_start(d::date, zone) > $3 AND local_start(d::date, zone) < $4
                     ORDER BY 1) END AS starts
          FROM (SELECT m.time_zone AS zone, s.time_zone IS NOT DISTINCT FROM m.time_zone AS sealed,
                       s.days_until, s.months_until,
                       (SELECT h.caught_up AND h.last_seq - r.last_seq <= {far}
                               AND NOT EXISTS (
                               SELECT FROM feed_months WHERE read_below
                                    > pg_snapshot_xmax(pg_current_snapshot())::text::bigint)
                          FROM feed_head h, feed_readers r WHERE r.name = 'payments') AS ready
                  FROM merchants m
                  LEFT JOIN statistics_seals s ON s.merchant_id = m.merchant_id
                 WHERE m.merchant_id = $1) AS merchant
        OFFSET 0) AS z
     CROSS JOIN LATERAL (SELECT local_day(first_day, zone) OFFSET 0) AS first(day)
     CROSS JOIN LATERAL (
           SELECT array_agg(id) AS events, array_agg(payment_id) AS payments
             FROM ({late} LIMIT {far} + 1) AS late WHERE z.ready) AS late
     CROSS JOIN LATERAL (
           SELECT array_agg(payment_id) AS payments FROM (
               SELECT DISTINCT payment_id FROM unresolved_operations
                WHERE merchant_id = $1 AND payment_id >= $6 AND payment_id < $7
                LIMIT {far} + 1) AS unknown) AS unknown
     CROSS JOIN LATERAL (
           SELECT array_agg(id) AS events, array_agg(payment_id) AS payments
             FROM ({ends}) AS of_ends WHERE z.ready) AS at_ends
"""
_NOT_FOLDED: Final = """
    SELECT f.event_id AS id, f.payment_id
      FROM (SELECT stream, event_id, payment_id FROM feed
             WHERE seq > (SELECT last_seq FROM feed_readers WHERE name = 'payments')
            OFFSET 0) AS f
     WHERE f.stream = (SELECT stream FROM streams WHERE merchant_id = $1 AND mode = $2)
"""
# Nothing moves past OFFSET 0: what is new comes by its number, or from the block range index, never
# from all that the merchant has.
_NOT_NUMBERED: Final = """
    UNION ALL
    SELECT n.id, n.payment_id
      FROM (SELECT e.merchant_id, e.mode, e.id, e.payment_id FROM events_{month} e
             WHERE (e.written_by::text::bigint >= coalesce((
                        SELECT read_below FROM feed_months WHERE month = '{month}'), 0)
                    AND e.written_by::text::bigint < 1::bigint << 61)
                OR e.written_by::text::bigint = ANY (ARRAY(
                        SELECT unnest(still_open) FROM feed_months WHERE month = '{month}'))
            OFFSET 0) AS n
     WHERE n.merchant_id = $1 AND n.mode = $2
"""
# The bounds of the ids are arguments, so PostgreSQL knows the months when the statement begins, and
# opens no others. One text does for all months: planning one for each took longer than running it.
_OF_AN_END: Final = """
    SELECT id, payment_id FROM (
        SELECT id, payment_id FROM events e
         WHERE merchant_id = $1 AND mode = $2 AND id >= ${low} AND id < ${high}
           AND created_at >= ${since} AND created_at < ${until}
         LIMIT {most} + 1) AS of_end
"""
_NONE: Final = "SELECT NULL::uuid AS id, NULL::uuid AS payment_id WHERE false"
_BOUNDS: Final = ("low", "high", "since", "until")


@lru_cache(maxsize=64)
def look(near: Sequence[str], ends: int) -> str:
    """Return the statement that is run first. Its one row has what is known of the merchant's time
    zone and seals, the events that are not folded, the payments whose outcome is unknown, and the
    events of the ends.

    `near`: the months that may have events without a number. From $8 on the arguments are for each
    end its bounds: two ids and two moments.
    """
    late = _NOT_FOLDED + "".join(_NOT_NUMBERED.format(month=month) for month in near)
    of_ends = [
        _OF_AN_END.format(
            most=MOST_AT_THE_EDGES,
            **{name: 8 + 4 * end + place for place, name in enumerate(_BOUNDS)},
        )
        for end in range(ends)
    ]
    return _LOOK.format(far=FAR_BEHIND, late=late, ends=" UNION ALL ".join(of_ends) or _NONE)


# what is added up ------------------------------------------------------------------------------

# $1 merchant, $2 mode, $3 starts of the buckets, $4 currency or null, $5 to $7 the pieces to read,
# $8 the most totals; from $9 on the ends as ids, and then for each month the payments whose outcome
# is unknown
_PIECES: Final = """
      FROM unnest($5::text[], $6::timestamptz[], $7::timestamptz[]) AS piece(grain, since, until)
     CROSS JOIN LATERAL (
           SELECT width_bucket(start, $3::timestamptz[]) - 1 AS bucket, * FROM {table} c
            WHERE c.merchant_id = $1 AND c.mode = $2 AND c.grain = piece.grain
              AND c.start >= piece.since AND c.start < piece.until
              AND ($4::text IS NULL OR c.currency = $4)
           OFFSET 0) AS c
"""
_STREAM: Final = "(SELECT stream FROM streams WHERE merchant_id = $1 AND mode = $2)"
# Of the ends, the payments as they were counted last: what changed since then is among the changes.
_END: Final = """
    SELECT 'now_' || s.counted_status, {bucket}, s.currency, {brand}, NULL, {numbers}
      FROM (SELECT payment_id, currency, counted_status, counted_brand, amount_minor
              FROM payment_search
             WHERE stream = {stream} AND payment_id >= ${low} AND payment_id < ${high}
               AND counted_status IS NOT NULL
             LIMIT {most} + 1) AS s
     WHERE $4::text IS NULL OR s.currency = $4
     GROUP BY 1, 2, 3, 4
"""
# LIMIT: a look-up by key for each payment, however big the merchant is.
_SEARCH_ROW: Final = f"""LEFT JOIN LATERAL (
               SELECT r.counted_status, r.counted_brand FROM payment_search r
                WHERE {{wanted}} AND r.stream = {_STREAM} AND r.payment_id = p.id
                LIMIT 1) AS s ON true"""
_UNKNOWN: Final = """
    SELECT 'now_processing', {bucket}, p.currency, {brand}, NULL, {numbers}
      FROM unnest(${ids}::uuid[]) AS i(payment_id)
     CROSS JOIN LATERAL (
           SELECT id, currency, card_brand, amount_minor FROM payments{month}
            WHERE merchant_id = $1 AND mode = $2 AND id = i.payment_id AND status = 'processing'
            LIMIT 1) AS p
      {search_row}
     WHERE $4::text IS NULL OR p.currency = $4
     GROUP BY 1, 2, 3, 4
"""
_NUMBERS: Final = "ARRAY[count(*), sum_bigint({}.amount_minor)]"


def _bucket(moment: str) -> str:
    return f"width_bucket({moment}, $3::timestamptz[]) - 1"


def _counts(*, only_statuses: bool, brand: str) -> str:
    """Return the statement that adds up the counters."""
    wanted = {f"now_{status}" for status in STATUSES} if only_statuses else {*COLUMNS}
    numbers = each_column(
        lambda column: f"sum_bigint(c.{column})" if column in wanted else "NULL::bigint",
        (column for name in COUNTED for column in (name, f"{name}_minor")),
    )
    return (
        f"SELECT '{ALL}', c.bucket, c.currency, {brand}, NULL::text[], ARRAY[{numbers}]"
        f" {_PIECES.format(table='payment_counts')} GROUP BY 2, 3, 4 LIMIT $8"
    )


def _declines(brand: str) -> str:
    return (
        f"SELECT '{CODES}', bucket, currency, brand, array_agg(code), array_agg(n) FROM ("
        f"SELECT c.bucket, c.currency, {brand} AS brand, c.code, sum_bigint(c.declines) AS n"
        f" {_PIECES.format(table='decline_counts')} GROUP BY 1, 2, 3, 4 OFFSET 0) AS codes"
        " GROUP BY 2, 3, 4"
    )


@lru_cache(maxsize=256)
def sums(*, by_brand: bool, only_statuses: bool, ends: int, unknown: Sequence[str]) -> str:
    """Return the statement that adds up the counters, the payments of the ends, and those whose
    outcome is unknown, which lie in these months."""
    brand = "c.brand" if by_brand else "NULL::text"
    parts = [_counts(only_statuses=only_statuses, brand=brand)]
    if not only_statuses:
        parts.append(_declines(brand))
    for end in range(ends):
        parts.append(
            _END.format(
                bucket=_bucket(CREATED.format(id="s.payment_id")),
                brand="s.counted_brand" if by_brand else "NULL::text",
                numbers=_NUMBERS.format("s"),
                stream=_STREAM,
                most=MOST_AT_THE_EDGES,
                low=9 + 2 * end,
                high=10 + 2 * end,
            )
        )
    for place, month in enumerate(unknown, 9 + 2 * ends):
        parts.append(
            _UNKNOWN.format(
                bucket=_bucket(CREATED.format(id="p.id")),
                brand=BRAND if by_brand else "NULL::text",
                numbers=_NUMBERS.format("p"),
                search_row=_SEARCH_ROW.format(wanted="true") if by_brand else "",
                ids=place,
                month=month,
            )
        )
    return _all_of(parts)


# what changes it -------------------------------------------------------------------------------

# $1 merchant, $2 mode, $3 starts of the buckets, $4 currency or null, $5 and $6 the stretch, $7 to
# $9 the events, their payments, and whether they are not folded yet; $10 and $11 the bounds of the
# events' ids, $12 and $13 those of the payments': as in _OF_AN_END they say which months are read
_CHANGES: Final = f"""
    WITH happened AS MATERIALIZED (
        SELECT i.is_new, e.created_at AS at, {FLOW} AS flow, {FLOW_MINOR} AS flow_minor,
               p.id AS payment_id, {CREATED.format(id="p.id")} AS created, p.amount_minor,
               p.currency, {{brand}} AS brand, {COUNTED_STATUS} AS becomes, s.counted_status AS was,
               CASE e.type WHEN 'payment.declined' THEN coalesce(p.decline_code, '') END AS code
          FROM unnest($7::uuid[], $8::uuid[], $9::boolean[]) AS i(event_id, payment_id, is_new)
         CROSS JOIN LATERAL (
               SELECT * FROM events
                WHERE merchant_id = $1 AND payment_id = i.payment_id AND id = i.event_id
                  AND id >= $10 AND id <= $11
                LIMIT 1) AS e
         CROSS JOIN LATERAL (
               SELECT * FROM payments
                WHERE merchant_id = $1 AND mode = $2 AND id = i.payment_id
                  AND id >= $12 AND id <= $13
                LIMIT 1) AS p
          {{search_row}}
          {TOOK.format(events="(SELECT * FROM events WHERE id >= $12 AND id <= $11)")}
    ), touched AS (
        SELECT DISTINCT ON (payment_id) * FROM happened
         WHERE is_new AND becomes IS DISTINCT FROM was AND created >= $5 AND created < $6
         ORDER BY payment_id
    ), changes AS (
        SELECT flow AS counter, at, currency, brand, code, 1 AS n, flow_minor AS minor
          FROM happened WHERE flow IS NOT NULL AND at >= $5 AND at < $6
        UNION ALL
        SELECT 'now_' || becomes, created, currency, brand, NULL, 1, amount_minor
          FROM touched WHERE becomes IS NOT NULL
        UNION ALL
        SELECT 'now_' || was, created, currency, brand, NULL, -1, -amount_minor
          FROM touched WHERE was IS NOT NULL
    )
    SELECT counter, {_bucket("at")}, currency, brand,
           CASE WHEN code IS NOT NULL THEN ARRAY[code] END, ARRAY[sum(n), sum_bigint(minor)]
      FROM changes WHERE $4::text IS NULL OR currency = $4
     GROUP BY 1, 2, 3, 4, code
"""


@lru_cache(maxsize=2)
def changes(*, by_brand: bool) -> str:
    """Return the statement for events that the counters do not have: those that are not folded, and
    those of the ends. What a payment took is among the events from the payment on."""
    return _CHANGES.format(
        brand=BRAND if by_brand else "NULL::text",
        search_row=_SEARCH_ROW.format(wanted="true" if by_brand else "i.is_new"),
    )


def _all_of(statements: Iterable[str]) -> str:
    return " UNION ALL ".join(f"({each})" for each in statements)
