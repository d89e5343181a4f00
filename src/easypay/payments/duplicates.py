"""Payments that look like one made shortly before, under another idempotency key.

Two payments of a merchant and mode look alike if card (or bank account), amount, currency and order
reference are the same and the second begins within the merchant's window. A payment counts unless
it is declined, failed, voided or expired by then; one whose outcome is not known counts.

Only payments of merchants who check come here (`flows`). They begin by a statement of their own,
which compares and begins in one transaction: two gateways that begin the same purchase at once
insert the same row of `duplicate_guards`, so that the second waits for the first one's commit.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from hashlib import sha256
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import msgspec
from msgspec.structs import replace

from easypay import ids
from easypay.db.group_commit import GroupCommitter
from easypay.errors import DuplicatePayment
from easypay.payment_details import INTENT_TYPE
from easypay.payments import store
from easypay.payments.begin import Ask, NewPayment
from easypay.payments.model import Status
from easypay.payments.statements import (
    NEW_PAYMENT_COLUMNS,
    Statement,
    begin_payments_arguments,
    insert_operations,
    new_payment_values,
)

ENDED_WITHOUT_MONEY: Final = (Status.DECLINED, Status.FAILED, Status.VOIDED, Status.EXPIRED)
"""Payments with these statuses are nobody's duplicate, and nobody is theirs."""
ENDED_SQL: Final = ", ".join(f"'{status}'" for status in ENDED_WITHOUT_MONEY)
_MOST_KEPT: Final = 16
"""How many payments of one purchase a guard remembers: the first and the newest ones."""


_json = msgspec.json.Encoder()


class CheckedPayment(msgspec.Struct, frozen=True, gc=False):
    """A payment to begin unless it is a duplicate, or (`refuses` false) in any case."""

    new: NewPayment
    digest: bytes
    window_s: int
    refuses: bool

    @property
    def merchant_id(self) -> UUID:
        return self.new.merchant_id

    @property
    def operation_id(self) -> UUID:
        return self.new.operation_id


class Checked(NamedTuple):
    """What came of a checked payment."""

    begun: bool
    twin: UUID | None
    """The payment that it looks like. None if there is none, or if its key was used before."""


def checked_payment(ask: Ask, new: NewPayment) -> CheckedPayment | None:
    """Return how a payment is checked. None if it cannot be: a token has no fingerprint."""
    if new.card_fingerprint is None:
        return None
    caller, payment = ask.caller, new.payment
    order = payment.details.order_reference
    compared = _json.encode(
        (caller.merchant_id, caller.mode, payment.amount_minor, payment.currency, order)
    )
    return CheckedPayment(
        new=new,
        digest=sha256(new.card_fingerprint + compared).digest(),
        window_s=caller.duplicate_window_s,
        refuses=caller.duplicates == "reject" and not ask.allow_duplicate,
    )


# the statement ---------------------------------------------------------------------------------

CHECK_FIELDS: Final = ("digest", "window_s", "refuses")
"""The fields of duplicate_check, in the order of `begin_checked_arguments`."""

# A key that was used before neither checks nor changes a guard: a repeat is no duplicate of itself.
# `guarded` then inserts a row for each purchase. If there is one, even one that another gateway
# committed after this statement had begun, ON CONFLICT sees its newest version. It drops the
# payments that do not count any more and adds the new one, unless that is refused. So RETURNING
# tells by the first id which payment the new one looks like, and by the last one whether it begins.
# A payment that another gateway committed just now has a guard but cannot be seen here: it counts.
# If two gateways claim one key, one gets a unique violation: its group runs again as single
# statements, and finds the other's key. All guards are taken first, then all keys, each in order.
BEGIN_CHECKED_PAYMENTS: Final = f"""
    WITH input AS (
        SELECT * FROM unnest($1::{INTENT_TYPE}[], $2::duplicate_check[])
    ), guarded AS (
        INSERT INTO duplicate_guards AS g
            (merchant_id, mode, digest, payment_ids, begun_at, until)
        SELECT i.merchant_id, i.mode, i.digest, ARRAY[i.payment_id], ARRAY[db_now()],
               db_now() + make_interval(secs => i.window_s)
          FROM input i
         WHERE (SELECT k.operation_id FROM idempotency_keys k
                 WHERE k.merchant_id = i.merchant_id AND k.mode = i.mode AND k.key = i.key) IS NULL
        ON CONFLICT (merchant_id, mode, digest) DO UPDATE
           SET (payment_ids, begun_at, until) = (
               SELECT CASE WHEN begins THEN ids || i.payment_id ELSE ids END,
                      CASE WHEN begins THEN times || db_now() ELSE times END,
                      CASE WHEN begins THEN excluded.until ELSE g.until END
                 FROM input i,
              LATERAL (SELECT coalesce(array_agg(e.id ORDER BY e.nth), '{{{{}}}}') AS all_ids,
                              coalesce(array_agg(e.at ORDER BY e.nth), '{{{{}}}}') AS all_times
                         FROM unnest(g.payment_ids, g.begun_at)
                              WITH ORDINALITY AS e(id, at, nth)
                        WHERE e.at > db_now() - make_interval(secs => i.window_s)
                          AND (SELECT p.status IN ({ENDED_SQL}) FROM {{payments}} p
                                WHERE p.merchant_id = g.merchant_id AND p.mode = g.mode
                                  AND p.id = e.id) IS NOT TRUE
                          AND (SELECT p.status IN ({ENDED_SQL}) FROM {{earlier_payments}} p
                                WHERE p.merchant_id = g.merchant_id AND p.mode = g.mode
                                  AND p.id = e.id) IS NOT TRUE
                      ) AS counting,
              LATERAL (SELECT NOT i.refuses OR all_ids = '{{{{}}}}' AS begins,
                              cardinality(all_ids) >= {_MOST_KEPT} AS many) AS verdict,
              LATERAL (SELECT CASE WHEN many THEN all_ids[1:1] || all_ids[3:]
                                   ELSE all_ids END AS ids,
                              CASE WHEN many THEN all_times[1:1] || all_times[3:]
                                   ELSE all_times END AS times) AS kept
                WHERE i.payment_id = excluded.payment_ids[1])
        RETURNING digest, payment_ids
    ), checked AS (
        SELECT i.*, nullif(g.payment_ids[1], i.payment_id) AS possible_duplicate_of,
               g.payment_ids[cardinality(g.payment_ids)] = i.payment_id AS begins
          FROM input i JOIN guarded g USING (digest)
    ), fresh AS NOT MATERIALIZED (
        SELECT * FROM checked WHERE begins
    ), claimed AS (
        INSERT INTO idempotency_keys
            (merchant_id, mode, key, fingerprint, operation_id, payment_id, created_at)
        SELECT merchant_id, mode, key, fingerprint, operation_id, payment_id, db_now() FROM fresh
         ORDER BY merchant_id, mode, key
    ), new_payments AS (
        INSERT INTO payments ({NEW_PAYMENT_COLUMNS}, possible_duplicate_of)
        SELECT {new_payment_values("processing")}, possible_duplicate_of
          FROM fresh
    ), new_operations AS (
        {insert_operations("in_flight")}
    )
    SELECT operation_id, begins, possible_duplicate_of FROM checked
"""


def begin_checked_arguments(items: Sequence[CheckedPayment]) -> list[list[tuple[Any, ...]]]:
    """Return the group as two arrays of rows: its intents, and how each is checked."""
    intents = begin_payments_arguments([item.new for item in items])
    return [*intents, [(item.digest, item.window_s, item.refuses) for item in items]]


def begin_checked_results(
    items: Sequence[CheckedPayment], rows: list[asyncpg.Record]
) -> Sequence[Checked]:
    """Return for each item what came of it."""
    found = {row[0]: Checked(row[1], row[2]) for row in rows}
    return [found.get(item.operation_id, _KEY_USED) for item in items]


_KEY_USED: Final = Checked(False, None)


def _window_start(item: CheckedPayment) -> UUID:
    """Return the lowest id that an earlier payment of the window can have. Gateways' clocks differ
    by seconds: a payment that is not found in the months of the two ids counts."""
    return ids.lowest_id_at(item.new.payment.created_at - timedelta(seconds=item.window_s))


BEGIN_CHECKED: Final = Statement[CheckedPayment, Checked](
    "begin-checked",
    BEGIN_CHECKED_PAYMENTS,
    begin_checked_arguments,
    begin_checked_results,
    order=lambda item: (item.merchant_id, item.new.payment.mode, item.digest),
    touches=lambda item: ((item.merchant_id, item.new.payment.mode, item.new.key), item.digest),
    months=lambda item: (item.new.payment.id, _window_start(item)),
    hash_joins=True,  # the group with its guards: a nested loop would cost half of it again
)


# what comes of it ------------------------------------------------------------------------------


class DuplicateChecks:
    """Begins the payments of merchants who check. One per process.

    `count` is called with `flagged`, `allowed` or `rejected` for each possible duplicate.
    """

    def __init__(
        self,
        committer: GroupCommitter[CheckedPayment, Checked],
        pool: Any,
        count: Callable[[str], None],
    ) -> None:
        self._committer = committer
        self._pool = pool
        self._count = count

    async def begin(self, ask: Ask, checked: CheckedPayment) -> tuple[NewPayment, bool]:
        """Commit the intent, and return it with its possible duplicate. False if the key was used.

        Raises DuplicatePayment if the merchant rejects duplicates: then nothing was written.
        """
        new = checked.new
        begun, twin = await self._committer.submit(checked)
        if begun:
            if twin is not None:
                self._count("allowed" if ask.allow_duplicate else "flagged")
                new = replace(new, payment=replace(new.payment, possible_duplicate_of=twin))
            return new, True
        # The payment with the same key may be the one it looks like: then it is a repeat.
        caller = ask.caller
        key = (caller.merchant_id, caller.mode, ask.key)
        if twin is not None and await store.find_key(self._pool, *key) is None:
            self._count("rejected")
            raise duplicate_payment(twin, checked.window_s)
        return new, False

    async def begin_again(self, checked: CheckedPayment) -> object:
        """Write an intent that was sent and that the database has lost, whatever it looks like."""
        return await self._committer.submit(replace(checked, refuses=False))


def duplicate_payment(twin: UUID, window_s: int) -> DuplicatePayment:
    """Return the refusal of a payment that looks like `twin`."""
    shown = ids.typed(ids.PAYMENT, twin)
    return DuplicatePayment(
        f"{shown} began less than {window_s} seconds ago with the same card or bank account, "
        "amount, currency and order reference. Nothing was sent, and the key is unused. If the "
        f"customer wants both, send the request again with Allow-Duplicate: true. If {shown} is "
        "declined or fails, you may repeat this request as it is.",
        payment_id=shown,
    )
