"""Removes a customer's personal data from the lines of uploaded files, in bounded groups. SQL only.

A line loses its request when it ends, so what is left is in lines that wait, and in lines of
batches that are never run. A line that waits keeps what is needed to send it. Lines that somebody
has locked are looked at again later: nothing here waits for whoever sends them.

A line is the customer's if it names one of its stored methods, acts on or made one of its payments,
or gives its reference in a file from the time when the reference was the customer's. What is
sealed cannot be read here. It goes when its line ends, or with the next erasure of any customer if
its batch is never run.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from easypay import ids
from easypay.customers.erasing_payments import OF_CUSTOMER
from easypay.customers.erasure_rows import LOWEST, Erasure
from easypay.payment_details import DETAIL_FIELDS

Runner = Any

LOOKED_AT: Final = 2_000
"""Lines that are read for one group: most are other customers'."""
BUSY: Final = "lines of a batch are being sent; they are looked at again"
UPLOADING: Final = "a file is being uploaded; its lines are looked at when all have come"
_SKEW: Final = timedelta(seconds=90)
"""A file whose upload began so much later is not looked at."""
_NEVER_RUN: Final = ("invalid", "cancelled")
_UNENDED: Final = ("waiting", "claimed", "open")

_BATCH: Final = """
    SELECT id, state FROM batches
     WHERE merchant_id = $1 AND mode = $2 AND id >= $3 AND id < $4
       AND (state <> 'checking' OR upload_until = '-infinity')
       AND ($5::timestamptz IS NULL OR ended_at IS NULL OR ended_at > $5)
     ORDER BY id LIMIT 1
"""
_UPLOADING: Final = """
    SELECT id FROM batches
     WHERE merchant_id = $1 AND mode = $2 AND id < $3
       AND state = 'checking' AND upload_until > db_now()
     ORDER BY id LIMIT 1
"""
_METHODS: Final = """
    SELECT id FROM payment_methods WHERE merchant_id = $1 AND mode = $2 AND customer_id = $3
"""
# Each payment is found by its key: the limits keep PostgreSQL from reading all of a merchant's.
_LOOK: Final = f"""
    SELECT l.line, l.state, l.reference, l.request, l.sealed IS NOT NULL,
           p.id IS NOT NULL OR e.payment_id IS NOT NULL
      FROM (SELECT * FROM batch_lines WHERE merchant_id = $1 AND batch_id = $3 AND line > $4
             ORDER BY line LIMIT {LOOKED_AT}) AS l
      LEFT JOIN LATERAL (
           SELECT p.id FROM payments p
            WHERE p.merchant_id = $1 AND p.mode = $2 AND p.id = l.payment_id
              AND {OF_CUSTOMER.format(customer="$5", reference="$6", low="$7", high="$8")}
            LIMIT 1) AS p ON true
      LEFT JOIN LATERAL (
           SELECT e.payment_id FROM erased_payments e
            WHERE e.merchant_id = $1 AND e.mode = $2 AND e.customer_id = $5
              AND e.payment_id = l.payment_id LIMIT 1) AS e ON true
     ORDER BY l.line
"""
_LOCK: Final = """
    SELECT line, state, request FROM batch_lines
     WHERE merchant_id = $1 AND batch_id = $2 AND line = ANY ($3)
     ORDER BY line FOR UPDATE SKIP LOCKED
"""
_WRITE: Final = """
    UPDATE batch_lines l
       SET request = i.request, sealed = CASE WHEN $5 THEN NULL ELSE l.sealed END,
           reference = CASE WHEN i.theirs AND $6 THEN NULL ELSE l.reference END
      FROM unnest($3::integer[], $4::text[], $7::boolean[]) AS i(line, request, theirs)
     WHERE l.merchant_id = $1 AND l.batch_id = $2 AND l.line = i.line
"""


class Place(NamedTuple):
    """How far the lines were looked at: all of earlier batches, and of this batch those up to
    `line`."""

    batch_id: UUID
    line: int


FIRST: Final = Place(LOWEST, 0)


class Looked(NamedTuple):
    """What came of a group: the lines that were changed, where the next group begins (None at the
    end), and why to wait before it."""

    changed: int
    at: Place | None
    waiting_for: str | None = None


class _Line(NamedTuple):
    line: int
    state: str
    reference: str | None
    request: str | None
    is_sealed: bool
    pays: bool
    """Whether its payment is the customer's."""


async def erase(
    connection: Runner,
    erasure: Erasure,
    reference: str | None,
    after: Place,
    *,
    since_end: bool = False,
) -> Looked:
    """Remove the customer's data from the next lines of the merchant's files, in a transaction.

    `since_end`: only of batches that had not ended when the erasure was begun.
    """
    who = (erasure.merchant_id, erasure.mode)
    until = ids.lowest_id_at(erasure.begun_at + _SKEW)
    # Asked first: a file that is not uploading any more has all of its lines.
    uploading = await connection.fetchval(_UPLOADING, *who, until)
    ended_after = erasure.begun_at if since_end else None
    row = await connection.fetchrow(_BATCH, *who, after.batch_id, until, ended_after)
    if uploading is not None and (row is None or uploading < row[0]):
        return Looked(0, Place(uploading, 0), UPLOADING)
    if row is None:
        return Looked(0, None)
    batch_id, state = row
    after_line = after.line if batch_id == after.batch_id else 0
    lines = await _read(connection, erasure, reference, batch_id, after_line)
    changed, locked = await _change(connection, erasure, reference, (batch_id, state), lines)
    if locked:
        return Looked(changed, Place(batch_id, after_line), BUSY)
    if len(lines) == LOOKED_AT:
        return Looked(changed, Place(batch_id, lines[-1].line))
    return Looked(changed, Place(UUID(int=batch_id.int + 1), 0))


async def _read(
    connection: Runner, erasure: Erasure, reference: str | None, batch_id: UUID, after_line: int
) -> Sequence[_Line]:
    # A plan that was made while there were few lines would read the whole table.
    await connection.execute("SET LOCAL enable_seqscan = off")
    rows = await connection.fetch(
        _LOOK,
        *(erasure.merchant_id, erasure.mode, batch_id, after_line, erasure.customer_id, reference),
        *(erasure.from_payment, erasure.until_payment),
    )
    return [_Line(*row) for row in rows]


async def _change(
    connection: Runner,
    erasure: Erasure,
    reference: str | None,
    batch: tuple[UUID, str],
    lines: Sequence[_Line],
) -> tuple[int, bool]:
    """Change lines of one batch. Return how many were, and whether others were locked."""
    batch_id, state = batch
    methods = await connection.fetch(
        _METHODS, erasure.merchant_id, erasure.mode, erasure.customer_id
    )
    theirs = _theirs(erasure, reference, batch_id, lines, {row[0] for row in methods})
    never_run = state in _NEVER_RUN
    wanted = {
        each.line: each.line in theirs
        for each in lines
        if each.line in theirs or (never_run and each.is_sealed and each.state == "waiting")
    }
    if not wanted:
        return 0, False
    rows = await connection.fetch(_LOCK, erasure.merchant_id, batch_id, list(wanted))
    read = {each.line: each for each in lines}
    changed: dict[int, str | None] = {}
    for line, now, request in rows:
        is_needed = now in _UNENDED and not never_run
        kept = without_texts(request, references=erasure.with_references) if is_needed else None
        hides = erasure.with_references and read[line].reference is not None and wanted[line]
        if kept != request or hides or (never_run and read[line].is_sealed):
            changed[line] = kept
    if changed:
        await connection.execute(
            _WRITE,
            *(erasure.merchant_id, batch_id, list(changed), list(changed.values())),
            *(never_run, erasure.with_references, [wanted[line] for line in changed]),
        )
    return len(changed), len(rows) < len(wanted)


class _Stored(msgspec.Struct):
    id: str | None = None


class _Method(msgspec.Struct):
    stored: _Stored | None = None


class _Customer(msgspec.Struct):
    reference: str | None = None


class _Named(msgspec.Struct):
    """Whom a request names."""

    payment_method: _Method | None = None
    customer: _Customer | None = None
    customer_reference: str | None = None


_decoder: Final = msgspec.json.Decoder(_Named)
_NOBODY: Final = _Named()


def _theirs(
    erasure: Erasure,
    reference: str | None,
    batch_id: UUID,
    lines: Iterable[_Line],
    methods: Collection[UUID],
) -> set[int]:
    """Return the numbers of the lines that are the customer's. Pure."""
    named = {ids.typed(ids.PAYMENT_METHOD, each) for each in methods}
    if not erasure.from_payment <= batch_id < erasure.until_payment:
        reference = None  # it was another customer's
    found = set()
    for each in lines:
        said = _NOBODY if each.request is None else _decoder.decode(each.request)
        stored = None if said.payment_method is None else said.payment_method.stored
        references = {said.customer_reference}
        if said.customer is not None:
            references.add(said.customer.reference)
        if (
            each.pays
            or (stored is not None and stored.id in named)
            or (reference is not None and reference in references)
        ):
            found.add(each.line)
    return found


_ALWAYS: Final = ("billing_address", "metadata")
_OF_REFERENCES: Final = ("customer", "line_reference", *DETAIL_FIELDS)


def without_texts(request: str | None, *, references: bool) -> str | None:
    """Return a line's request without the texts that an erasure removes. What is needed to send it
    stays, and if there is nothing to remove it is the same text. Pure."""
    if request is None:
        return None
    said: dict[str, Any] = msgspec.json.decode(request)
    for name in (*_ALWAYS, *(_OF_REFERENCES if references else ())):
        said.pop(name, None)
    customer = said.get("customer")
    if customer is not None:
        said["customer"] = {k: v for k, v in customer.items() if k == "reference"}
    return msgspec.json.encode(said).decode()
