"""Statements: what settled in a time, and what banks took back in it, added up as finance wants it.

Money counts on the day on which its batch settled; a return or a chargeback on the day on which it
was found, so that a month that is over never changes. The sums of each batch are compared with what
the processor says of it, whoever its payments belong to, and what is open is named.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from easypay.money import THOUSANDTHS, WHOLE_CURRENCIES

Runner = Any

DIMENSIONS: Final[Mapping[str, str]] = {
    "day": "(m.at AT TIME ZONE zone.name)::date::text",
    "batch": "m.batch_id",
    "merchant": "m.merchant_id",
    "mode": "m.mode",
    "currency": "m.currency",
    "brand": "m.card_brand",
    "order_reference": "m.order_reference",
}
"""By what a statement can be added up, and the SQL of each."""

SUMS: Final = ("charged", "refunded", "returned", "charged_back", "reversed")
_AT_ONCE: Final = 1_000
"""Lines that are fetched at once: a statement by orders may have millions."""


class Sum(msgspec.Struct, frozen=True):
    """How many, and how much in minor units."""

    count: int
    amount: int

    def __add__(self, other: "Sum") -> "Sum":
        return Sum(self.count + other.count, self.amount + other.amount)


class Sums(msgspec.Struct, frozen=True):
    """What was paid out and taken back. A refund that a bank returned came back, so it makes
    `returned` less."""

    charged: Sum
    refunded: Sum
    returned: Sum
    charged_back: Sum
    reversed: Sum

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(*(getattr(self, each) + getattr(other, each) for each in SUMS))

    @property
    def net(self) -> int:
        """What is left for the merchant, before the fees of banks."""
        gone = self.refunded.amount + self.returned.amount + self.charged_back.amount
        return self.charged.amount - gone + self.reversed.amount


NOTHING: Final = Sums(*(Sum(0, 0) for _ in SUMS))


class Question(msgspec.Struct, frozen=True):
    """A time, and how to add up what happened in it. `by` has `currency` in it always: amounts of
    two currencies are never added. None: every merchant, either mode."""

    since: datetime
    until: datetime
    time_zone: str
    by: tuple[str, ...]
    merchant_id: UUID | None = None
    mode: str | None = None


class Line(msgspec.Struct, frozen=True):
    """The sums of one group; `of` has a value for each of the question's `by`."""

    of: dict[str, Any]
    sums: Sums


class Difference(msgspec.Struct, frozen=True):
    """A batch whose sums are not the processor's. `what`: `charges`, `charged_minor` and so on."""

    batch_id: str
    what: str
    processor: int
    ours: int


class Open(msgspec.Struct, frozen=True):
    """Something that a statement does not explain yet: a kind of difference, or books that were not
    read. `amount` is in minor units."""

    what: str
    count: int
    amount: int | None = None
    currency: str | None = None


class Others(msgspec.Struct, frozen=True):
    """Charges and refunds of a batch that no payment here explains, and that are no difference: of
    other programs that use the account, or from before EasyPay knew it."""

    batch_id: str
    currency: str
    charged: Sum
    refunded: Sum


class Statement(msgspec.Struct, frozen=True):
    """The end of a statement. `totals` is by currency, `batches` how many were compared with the
    processor's sums. What is in `others` is in `totals`, too, unless it is one merchant's."""

    totals: Mapping[str, Sums]
    batches: int
    others: Sequence[Others]
    differences: Sequence[Difference]
    open: Sequence[Open]


def _sums(number: str) -> str:
    """Return the SQL of the sums of rows `m`: of transactions (`became` is null) or of changes.
    `number`: how many they are."""
    signed = "CASE m.kind WHEN 'charge' THEN m.amount_minor ELSE -m.amount_minor END"
    conditions = {
        "charged": ("m.became IS NULL AND m.kind = 'charge'", "m.amount_minor"),
        "refunded": ("m.became IS NULL AND m.kind = 'refund'", "m.amount_minor"),
        "returned": ("m.became = 'returned'", signed),
        "charged_back": ("m.became = 'charged_back'", signed),
        "reversed": ("m.became IN ('chargeback_reversed', 'settled')", signed),
    }
    return ", ".join(
        f"coalesce({aggregate} FILTER (WHERE {condition}), 0)::bigint"
        for condition, amount in (conditions[name] for name in SUMS)
        for aggregate in (number, f"sum({amount})")
    )


MOVED: Final = _sums("count(*)")
"""The sums of rows `m` with kind, became (null, or what became of it later) and amount_minor."""
ADDED_UP: Final = _sums("sum(m.transactions)")
"""The same of rows that stand for several: `transactions` says how many."""


def sums_of(row: Sequence[int]) -> Sums:
    """Return the sums in a row of MOVED or ADDED_UP."""
    return Sums(*(Sum(row[2 * n], row[2 * n + 1]) for n in range(len(SUMS))))


# Each batch is in one piece of the primary key. Changes are few, however many payments there are.
_MOVES: Final = """
    SELECT s.settled_at AS at, s.batch_id, s.merchant_id, s.mode, s.currency, s.card_brand,
           s.order_reference, s.kind, s.amount_minor, NULL AS became
      FROM settled_batches b JOIN settled_transactions s USING (account, batch_id)
     WHERE b.settled_at >= $1 AND b.settled_at < $2
       AND ($4::uuid IS NULL OR s.merchant_id = $4) AND ($5::text IS NULL OR s.mode = $5)
    UNION ALL
    SELECT c.found_at, s.batch_id, s.merchant_id, s.mode, s.currency, s.card_brand,
           s.order_reference, s.kind, c.amount_minor, c.became
      FROM settlement_changes c
      JOIN settled_transactions s USING (account, batch_id, transaction_id)
     WHERE c.found_at >= $1 AND c.found_at < $2
       AND ($4::uuid IS NULL OR s.merchant_id = $4) AND ($5::text IS NULL OR s.mode = $5)
"""
_HUNDREDTHS: Final = """CASE WHEN a.currency IS NOT NULL THEN s.amount_minor
                WHEN s.currency = ANY($4::text[]) THEN s.amount_minor * 100
                WHEN s.currency = ANY($5::text[]) THEN s.amount_minor / 10
                ELSE s.amount_minor END"""
# A batch is compared whole: its account may have several merchants. If it has several currencies,
# too, the processor's sums are hundredths of whatever was charged.
_BATCHES: Final = f"""
    SELECT b.batch_id, b.read_at IS NOT NULL AS is_read, b.statistics,
           count(*) FILTER (WHERE s.kind = 'charge') AS charges,
           coalesce(sum({_HUNDREDTHS}) FILTER (WHERE s.kind = 'charge'), 0)::bigint
               AS charged_minor,
           count(*) FILTER (WHERE s.kind = 'refund') AS refunds,
           coalesce(sum({_HUNDREDTHS}) FILTER (WHERE s.kind = 'refund'), 0)::bigint
               AS refunded_minor
      FROM settled_batches b
      LEFT JOIN account_books a USING (account)
      LEFT JOIN settled_transactions s USING (account, batch_id)
     WHERE b.settled_at >= $1 AND b.settled_at < $2
       AND ($3::uuid IS NULL OR b.account IN
            (SELECT account FROM processor_logins WHERE merchant_id = $3))
     GROUP BY b.account, b.batch_id ORDER BY b.settled_at, b.batch_id
"""
_OTHERS: Final = """
    SELECT s.batch_id, s.currency,
           count(*) FILTER (WHERE s.kind = 'charge'),
           coalesce(sum(s.amount_minor) FILTER (WHERE s.kind = 'charge'), 0)::bigint,
           count(*) FILTER (WHERE s.kind = 'refund'),
           coalesce(sum(s.amount_minor) FILTER (WHERE s.kind = 'refund'), 0)::bigint
      FROM settled_batches b JOIN settled_transactions s USING (account, batch_id)
     WHERE b.settled_at >= $1 AND b.settled_at < $2 AND s.payment_id IS NULL
       AND ($3::uuid IS NULL OR b.account IN
            (SELECT account FROM processor_logins WHERE merchant_id = $3))
       AND NOT EXISTS (SELECT FROM reconciliation_breaks d
                        WHERE d.account = s.account AND d.kind = 'unexplained_' || s.kind
                          AND d.subject = s.transaction_id AND d.state <> 'cleared')
     GROUP BY b.settled_at, s.account, s.batch_id, s.currency
     ORDER BY b.settled_at, s.batch_id, s.currency
"""
_COMPARED: Final = ("charges", "charged_minor", "refunds", "refunded_minor")
_BREAKS: Final = """
    SELECT kind, count(*), sum(coalesce(their_minor, our_minor))::bigint,
           coalesce(nullif(their_currency, ''), our_currency) AS currency
      FROM reconciliation_breaks
     WHERE state = 'open' AND coalesce(happened_at, found_at) < $1
       AND ($2::uuid IS NULL OR merchant_id = $2) AND ($3::text IS NULL OR mode = $3)
     GROUP BY 1, 4 ORDER BY 1, 4
"""
_UNREAD: Final = """
    SELECT count(*) FROM account_books
     WHERE last_started_at IS NOT NULL AND retired_at IS NULL
       AND (read_until < least($1, db_now() - interval '1 day') OR last_failure IS NOT NULL)
       AND ($2::uuid IS NULL OR account IN
            (SELECT account FROM processor_logins WHERE merchant_id = $2))
"""
_NEVER_READ: Final = """
    SELECT count(DISTINCT l.account) FROM processor_logins l
     WHERE l.created_at < $1 AND ($2::uuid IS NULL OR l.merchant_id = $2)
       AND ($3::text IS NULL OR l.mode = $3)
       AND NOT EXISTS (SELECT FROM account_books a WHERE a.account = l.account
                          AND (a.last_started_at IS NOT NULL OR a.retired_at IS NOT NULL))
"""
# What came to an account after its books were retired is in no sum.
_RETIRED: Final = """
    SELECT count(*) FROM account_books
     WHERE retired_at < $1 AND ($2::uuid IS NULL OR account IN
            (SELECT account FROM processor_logins WHERE merchant_id = $2))
"""


async def statement_of(
    connection: Runner, question: Question, line: Callable[[Line], object]
) -> Statement:
    """Call `line` with each line, in order, and return the end of the statement: one snapshot."""
    since, until = question.since, question.until
    totals: dict[str, Sums] = {}
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        async for each in _lines(connection, question):
            currency = each.of["currency"]
            totals[currency] = each.sums + totals.get(currency, NOTHING)
            line(each)
        batches = await connection.fetch(
            _BATCHES, since, until, question.merchant_id, WHOLE_CURRENCIES, THOUSANDTHS
        )
        others = await connection.fetch(_OTHERS, since, until, question.merchant_id)
        breaks = await connection.fetch(_BREAKS, until, question.merchant_id, question.mode)
        unread = await connection.fetchval(_UNREAD, until, question.merchant_id)
        retired = await connection.fetchval(_RETIRED, until, question.merchant_id)
        never = await connection.fetchval(_NEVER_READ, until, question.merchant_id, question.mode)
    left = [Open(*row) for row in breaks]
    if not_read := sum(not row["is_read"] for row in batches):
        left.append(Open("batches_not_read", not_read))
    if unread:
        left.append(Open("books_not_read", unread))
    if retired:
        left.append(Open("books_retired", retired))
    if never:
        left.append(Open("books_never_read", never))
    compared = [row for row in batches if row["is_read"]]
    differences = [each for row in compared for each in _differences(row)]
    theirs = [Others(row[0], row[1], Sum(row[2], row[3]), Sum(row[4], row[5])) for row in others]
    return Statement(totals, len(compared), theirs, differences, left)


async def _lines(connection: Runner, question: Question) -> AsyncIterator[Line]:
    by = question.by
    assert "currency" in by, "amounts of two currencies are never added"
    keys = ", ".join(DIMENSIONS[name] for name in by)
    places = ", ".join(str(n + 1) for n in range(len(by)))
    rows = connection.cursor(
        f"SELECT {keys}, {MOVED} FROM ({_MOVES}) AS m CROSS JOIN (SELECT $3::text) AS zone(name)"
        f" GROUP BY {places} ORDER BY {places}",
        *(question.since, question.until, question.time_zone),
        *(question.merchant_id, question.mode),
        prefetch=_AT_ONCE,
    )
    async for row in rows:
        values = tuple(row)
        yield Line(dict(zip(by, values, strict=False)), sums_of(values[len(by) :]))


def _differences(row: Any) -> list[Difference]:
    told = msgspec.json.decode(row["statistics"], type=list[dict[str, Any]])
    found = []
    for what in _COMPARED:
        theirs = sum(brand.get(what, 0) for brand in told)
        if theirs != row[what]:
            found.append(Difference(row["batch_id"], what, theirs, row[what]))
    return found
