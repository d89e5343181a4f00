"""Removes a customer's personal data from its payments, a bounded group at a time. SQL only.

A payment that has something open is left for later: its request is in flight, so its reply, which
repeats what the shop sent, is still to be written. Nothing here waits for a row that somebody else
has locked; such a payment is left for later, too. So a payment that is being recorded never waits
in a circle with an erasure. Payments of which references are copied just now (a batch of the
processor's books is read) are left for later as well: the copy would be written after the erasure.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from easypay import ids
from easypay.customers.erasure_rows import Erasure
from easypay.customers.personal_data import erased
from easypay.db.partitions import within_months

Runner = Any

AT_ONCE: Final = 100
"""Payments that are changed in one transaction."""
LOOKED_AT: Final = 2_000
"""Payments that are read for one group: most are other customers'."""
_SKEW: Final = timedelta(days=1)
"""Clocks of two hosts differ by less than this."""

_BY_REFERENCE: Final = """
    SELECT s.payment_id FROM payment_search s
     WHERE s.stream = (SELECT stream FROM streams WHERE merchant_id = $1 AND mode = $2)
       AND s.customer_reference = $3 AND s.payment_id > $4 AND s.payment_id < $5
     ORDER BY s.payment_id LIMIT $6
"""
OF_CUSTOMER: Final = """\
(p.customer_id = {customer} OR (p.customer_id IS NULL AND p.customer_reference = {reference}
        AND p.id >= {low} AND p.id < {high}))"""
"""Whether a payment `p` is the customer's."""
_LOOK: Final = f"""
    SELECT id, theirs FROM (
        SELECT p.id, {OF_CUSTOMER.format(customer="$4", reference="$5", low="$6", high="$7")}
               AS theirs
          FROM payments p
         WHERE p.merchant_id = $1 AND p.mode = $2 AND p.id > $3
         ORDER BY p.id LIMIT $8) AS looked_at
"""
# Only this customer's: what was found through the search table is looked at once more.
_FREE: Final = f"""
    SELECT p.id, p.active_operation IS NULL AND p.refund_reserved_minor = 0
      FROM payments p
     WHERE p.merchant_id = $1 AND p.mode = $2 AND p.id = ANY ($3) AND {{within}}
       AND {OF_CUSTOMER.format(customer="$4", reference="$5", low="$6", high="$7")}
     ORDER BY p.id FOR UPDATE SKIP LOCKED
"""
_ERASE: Final = """
    UPDATE payments p SET {nothing}, version = p.version + 1
     WHERE p.merchant_id = $1 AND p.mode = $2 AND p.id = ANY ($3) AND {within} AND ({something})
    RETURNING p.id
"""
# Nobody else writes the search table while the mark is held: whoever held it before looks again.
_HOLD_FOLD: Final = "UPDATE feed_readers SET version = version + 1 WHERE name = 'payments'"
_ERASE_SEARCH: Final = """
    UPDATE payment_search s SET {nothing}
     WHERE s.stream = (SELECT stream FROM streams WHERE merchant_id = $1 AND mode = $2)
       AND s.payment_id = ANY ($3) AND ({something})
"""
_ERASE_BOOKS: Final = """
    UPDATE settled_transactions s SET {nothing}
     WHERE s.merchant_id = $1 AND s.mode = $2 AND s.payment_id = ANY ($3) AND ({something})
"""
COPYING: Final = "hashtextextended('easypay books ' || encode(account, 'hex'), 0)"
"""The key of a lock: whoever copies references from payments of an account holds it alone."""
_NOBODY_COPIES: Final = f"""
    SELECT coalesce(bool_and(pg_try_advisory_xact_lock_shared({COPYING})), true)
      FROM (SELECT DISTINCT account FROM processor_logins
             WHERE merchant_id = $1 AND mode = $2) AS of_merchant
"""
_COPIES: Final = {"payment_search": _ERASE_SEARCH, "settled_transactions": _ERASE_BOOKS}
"""By table: removes copies of the payments' references."""
_REPLIES: Final = """
    SELECT o.id, o.payment_id FROM operations o
     WHERE o.merchant_id = $1 AND o.payment_id = ANY ($2) AND o.id >= $3
       AND o.reply_body IS NOT NULL
"""
_LOCK_REPLIES: Final = """
    SELECT o.id, o.payment_id, o.reply_body FROM operations o
     WHERE o.merchant_id = $1 AND o.id = ANY ($2) AND {within}
     ORDER BY o.id FOR UPDATE SKIP LOCKED
"""
_WRITE_REPLIES: Final = """
    UPDATE operations o SET reply_body = r.body
      FROM unnest($2::uuid[], $3::bytea[]) AS r(id, body)
     WHERE o.merchant_id = $1 AND o.id = r.id AND {within}
"""


# What only the reference had linked to the customer is recognised afterwards.
_NOTE: Final = """
    INSERT INTO erased_payments (merchant_id, mode, customer_id, payment_id)
    SELECT $1, $2, $3, unnest($4::uuid[]) ON CONFLICT DO NOTHING
"""
_FORGET: Final = """
    DELETE FROM erased_payments WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM erased_payments
         WHERE merchant_id = $1 AND mode = $2 AND customer_id = $3 LIMIT $4))
"""


class Group(msgspec.Struct, frozen=True):
    """What came of a group: the payments that were changed, those that are left for later, and how
    many rows of each table were changed."""

    changed: Sequence[UUID]
    left: Sequence[UUID]
    rows: Mapping[str, int]


async def by_reference(runner: Runner, erasure: Erasure, reference: str) -> list[UUID]:
    """Return the next payments with the customer's reference, at most AT_ONCE."""
    low = max(erasure.after_id, erasure.from_payment)
    rows = await runner.fetch(
        _BY_REFERENCE,
        *(erasure.merchant_id, erasure.mode, reference, low, erasure.until_payment, AT_ONCE),
    )
    return [row[0] for row in rows]


async def by_looking(
    runner: Runner, erasure: Erasure, reference: str | None, after: UUID
) -> tuple[list[UUID], UUID | None]:
    """Look at the next payments of the merchant. Return those of the customer, at most AT_ONCE, and
    the id up to which all were looked at; None at the end."""
    rows = await runner.fetch(
        _LOOK,
        *(erasure.merchant_id, erasure.mode, after, erasure.customer_id, reference),
        *(erasure.from_payment, erasure.until_payment, LOOKED_AT),
    )
    theirs = [row[0] for row in rows if row[1]]
    if len(theirs) > AT_ONCE:
        return theirs[:AT_ONCE], theirs[AT_ONCE - 1]
    return theirs, rows[-1][0] if len(rows) == LOOKED_AT else None


async def erase(
    connection: Runner, erasure: Erasure, reference: str | None, payments: Sequence[UUID]
) -> Group:
    """Remove the personal data of payments, within a transaction. `reference` is the customer's."""
    if not payments:
        return Group((), (), {})
    within = within_months("p.id", payments)
    who = (erasure.merchant_id, erasure.mode)
    if erasure.with_references and not await connection.fetchval(_NOBODY_COPIES, *who):
        others = await _of_others(connection, erasure, reference, payments)
        return Group((), sorted(set(payments) - others), {})
    rows = await connection.fetch(
        _FREE.format(within=within),
        *(*who, payments, erasure.customer_id, reference),
        *(erasure.from_payment, erasure.until_payment),
    )
    free = [row[0] for row in rows if row[1]]
    left = set(payments) - set(free)
    left -= await _of_others(connection, erasure, reference, left)
    if not free:
        return Group((), sorted(left), {})
    unread, replies = await _erase_replies(connection, erasure, free)
    left |= unread
    free = [payment for payment in free if payment not in unread]
    columns = erased("payments", references=erasure.with_references)
    changed = await connection.fetch(
        _ERASE.format(within=within, **_removal("p", columns)), *who, free
    )
    rows_changed = {"payments": len(changed), "operations": replies}
    if erasure.with_references:
        await connection.execute(_NOTE, *who, erasure.customer_id, free)
        await connection.execute(_HOLD_FOLD)
        for table, sql in _COPIES.items():
            removal = _removal("s", erased(table, references=True))
            done = await connection.execute(sql.format(**removal), *who, free)
            rows_changed[table] = count_of(done)
    return Group([row[0] for row in changed], sorted(left), rows_changed)


async def forget(runner: Runner, erasure: Erasure) -> None:
    """Forget which payments were erased: no message about them is under way any more."""
    who = (erasure.merchant_id, erasure.mode, erasure.customer_id)
    while count_of(await runner.execute(_FORGET, *who, LOOKED_AT)) == LOOKED_AT:
        pass


_THEIRS: Final = f"""
    SELECT p.id FROM payments p
     WHERE p.merchant_id = $1 AND p.mode = $2 AND p.id = ANY ($3) AND {{within}}
       AND {OF_CUSTOMER.format(customer="$4", reference="$5", low="$6", high="$7")}
"""


async def _of_others(
    connection: Runner, erasure: Erasure, reference: str | None, payments: Collection[UUID]
) -> set[UUID]:
    """Return those of some payments that are not the customer's, or are in the database no more."""
    if not payments:
        return set()
    rows = await connection.fetch(
        _THEIRS.format(within=within_months("p.id", payments)),
        *(erasure.merchant_id, erasure.mode, list(payments), erasure.customer_id, reference),
        *(erasure.from_payment, erasure.until_payment),
    )
    return set(payments) - {row[0] for row in rows}


async def _erase_replies(
    connection: Runner, erasure: Erasure, payments: Sequence[UUID]
) -> tuple[set[UUID], int]:
    """Remove the texts of payments from their stored replies. Return the payments of which a reply
    was locked, and how many replies were changed."""
    earliest = ids.lowest_id_at(ids.moment_of(min(payments)) - _SKEW)
    found = await connection.fetch(_REPLIES, erasure.merchant_id, payments, earliest)
    if not found:
        return set(), 0
    within = within_months("o.id", [row[0] for row in found])
    locked = await connection.fetch(
        _LOCK_REPLIES.format(within=within), erasure.merchant_id, [row[0] for row in found]
    )
    names = erased("payments", references=erasure.with_references)
    bodies = {}
    for operation_id, _, body in locked:
        without = without_texts(body, names)
        if without != body:
            bodies[operation_id] = without
    if bodies:
        await connection.execute(
            _WRITE_REPLIES.format(within=within),
            *(erasure.merchant_id, list(bodies), list(bodies.values())),
        )
    free = {row[0] for row in locked}
    return {row[1] for row in found if row[0] not in free}, len(bodies)


def without_texts(body: bytes, names: Collection[str]) -> bytes:
    """Return a stored reply without the fields of these names, wherever they are: texts become null
    and metadata an empty object. What is no JSON stays. Pure."""
    try:
        reply = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body
    if not _remove(reply, frozenset(names)):
        return body
    return msgspec.json.encode(reply)


def _remove(value: Any, names: frozenset[str]) -> bool:
    """Remove fields from a JSON value in place. Return whether there was something to remove."""
    removed = False
    if isinstance(value, list):
        for each in value:
            removed = _remove(each, names) or removed
    elif isinstance(value, dict):
        for name, each in value.items():
            # `customer` of a reply is the customer's id, which is kept.
            if name in names and name != "customer" and each not in (None, {}):
                value[name] = {} if isinstance(each, dict) else None
                removed = True
            else:
                removed = _remove(each, names) or removed
    return removed


def _removal(alias: str, columns: Sequence[str]) -> dict[str, str]:
    return {
        "nothing": ", ".join(f"{column} = NULL" for column in columns),
        "something": " OR ".join(f"{alias}.{column} IS NOT NULL" for column in columns),
    }


def count_of(done: str) -> int:
    """Return how many rows a statement has changed, from its command tag (`UPDATE 3`)."""
    return int(done.rpartition(" ")[2])
