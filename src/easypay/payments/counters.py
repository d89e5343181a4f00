"""What the statistics count, and how an event is counted. Names and SQL; the same in the fold, in
a question for what is not folded yet, and in the check by the rows.

A flow is something that happened, at the moment of its event. What the money did decides: if
captured money goes back before it settled, by a void or by a refund that was made as one, it is
`undone`; `voided` is a hold that was let go.
"""

from collections.abc import Callable, Iterable
from typing import Final

FLOWS: Final = (
    *("sold", "authorized", "captured", "refunded", "undone", "voided", "expired"),
    *("declined", "failed", "in_review"),
)
STATUSES: Final = (
    *("in_review", "authorized", "captured", "declined", "failed", "voided", "expired"),
)
"""The statuses that are counted. A payment whose outcome is unknown has no event, so questions
count it themselves."""
PROCESSING: Final = "processing"

COUNTERS: Final = (*FLOWS, *(f"now_{status}" for status in STATUSES))
"""The counters of `payment_counts`; the amount of each is in `<counter>_minor`."""
COLUMNS: Final = tuple(column for name in COUNTERS for column in (name, f"{name}_minor"))

QUARTER_S: Final = 900


def quarter_of(moment: str) -> str:
    """Return SQL for the start of the quarter of an hour of a moment."""
    return f"date_bin('15 minutes', {moment}, '2000-01-01Z')"


CREATED: Final = (
    "('1970-01-01Z'::timestamptz + ('x' || encode(substr(uuid_send({id}), 1, 6), 'hex'))"
    "::bit(48)::bigint * interval '1 ms')"
)
"""When a payment was created: the moment in its id."""

# Of a payment that is captured by hand, only its earlier events tell what a void undid. They are
# looked up for such an event alone: a join would begin a search for every event.
TOOK: Final = """CROSS JOIN LATERAL (
               SELECT CASE WHEN e.type = 'payment.voided' AND p.capture = 'manual' THEN (
                      SELECT c.amount_minor FROM {events} c
                       WHERE c.merchant_id = e.merchant_id AND c.payment_id = e.payment_id
                         AND c.type = 'payment.captured'
                       LIMIT 1) END AS amount_minor) AS took"""
FLOW: Final = """CASE e.type
               WHEN 'payment.captured' THEN
                    CASE p.capture WHEN 'automatic' THEN 'sold' ELSE 'captured' END
               WHEN 'payment.authorized' THEN 'authorized'
               WHEN 'payment.declined' THEN 'declined'
               WHEN 'payment.failed' THEN 'failed'
               WHEN 'payment.in_review' THEN 'in_review'
               WHEN 'payment.expired' THEN 'expired'
               WHEN 'payment.voided' THEN
                    CASE WHEN p.capture = 'automatic' AND p.authorized_minor > 0
                              OR took.amount_minor IS NOT NULL THEN 'undone' ELSE 'voided' END
               WHEN 'refund.succeeded' THEN
                    CASE e.status WHEN 'voided' THEN 'undone' ELSE 'refunded' END
               END"""
"""The flow of an event `e` of a payment `p`, with TOOK joined; null if it is none."""
FLOW_MINOR: Final = "coalesce(took.amount_minor, e.amount_minor)"
COUNTED_STATUS: Final = "nullif(nullif(p.status, 'processing'), 'pending')"
BRAND: Final = "coalesce(s.counted_brand, p.card_brand, '')"
"""The brand by which a payment `p` is counted, with its row `s` of the search table."""


def each_column(template: Callable[[str], str], names: Iterable[str] = COLUMNS) -> str:
    """Return a piece of SQL for each column, with commas between."""
    return ", ".join(map(template, names))


SUMS: Final = each_column(lambda column: f"sum(c.{column})::bigint AS {column}")
"""The sums over rows `c` of payment_counts."""
PIVOT: Final = ", ".join(
    f"nullif(sum_bigint(n) FILTER (WHERE counter = '{name}'), 0) AS {name}, "
    f"nullif(sum_bigint(minor) FILTER (WHERE counter = '{name}'), 0) AS {name}_minor"
    for name in COUNTERS
)
"""COLUMNS out of rows (counter, n, minor), whose numbers are bigint."""


def add(new: str) -> str:
    """Return SQL that adds the columns of a row `new` to those of the row `c` that is there."""
    return each_column(
        lambda column: (
            f"{column} = CASE WHEN {new}.{column} IS NULL THEN c.{column}"
            f" ELSE coalesce(c.{column}, 0) + {new}.{column} END"
        )
    )
