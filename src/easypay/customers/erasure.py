"""Erasing a customer: its personal data go, here and at the processor; what books need stays.

`begin` commits that the customer is to be erased; from then on it is deleted for the shop. The
processor's part is done as for every deleted customer (`flows`, `mending`). `go_on` does the rest,
group by group (`erasure_rows`), until it is done or has to wait: for the processor, or for a
payment that has something open. Whoever dies in between, a worker goes on; nothing is done twice.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from easypay import failpoints, ids
from easypay.clock import monotonic
from easypay.customers import (
    erasing_batches,
    erasing_others,
    erasing_payments,
    erasure_rows,
    events,
    store,
)
from easypay.customers.erasing_batches import Place
from easypay.customers.erasing_payments import AT_ONCE, Group
from easypay.customers.erasure_rows import Erasure, ErasureRequest
from easypay.customers.model import Customer
from easypay.customers.vault_calls import VaultCalls
from easypay.customers.views import customer_view
from easypay.db.work_list import Work, WorkList
from easypay.db.work_loop import Done, End, Later, Schedule
from easypay.errors import NotFound
from easypay.mode import MODE, Mode

log = logging.getLogger(__name__)

ERASURES: Final = WorkList(
    "erasure_work", key=(("merchant_id", "uuid"), ("mode", "text"), ("customer_id", "uuid"))
)
"""The work list of erasures."""
SCHEDULE: Final = Schedule(first_s=5.0, factor=1.5, most_s=900.0, attempts=2**31 - 1)
"""When an erasure that waits is looked at again. It is never given up."""
AT_ONCE_OF_WORKER: Final = 4
"""So many erasures run at the same time in a worker."""
TURN_S: Final = 20.0
"""How long a worker goes on with one before others get their turn, in seconds."""
_MOST_LEFT_OVER: Final = 1_000
_AGAIN_S: Final = 90.0
"""How long after its begin an erasure is looked through once more, in seconds: a payment may have
begun with a stored method at the same moment and have been written later. A webhook's message that
was under way is answered by then."""
_MARGIN: Final = timedelta(days=1)


class PaymentOf(msgspec.Struct, frozen=True, gc=False):
    """Names a payment, for the caches."""

    merchant_id: UUID
    mode: Mode
    payment_id: UUID


class Eraser:
    """The flow. `calls` deletes at the processor; `changed` and `payments_changed` are told
    after each commit, for the caches."""

    def __init__(
        self,
        calls: VaultCalls,
        *,
        call_s: float,
        changed: Callable[[UUID, Mode, UUID], None] = lambda *_: None,
        payments_changed: Callable[[Sequence[PaymentOf]], None] = lambda _: None,
    ) -> None:
        self._pool = calls.pool
        self._calls = calls
        self._call_s = call_s
        self._changed = changed
        self._payments_changed = payments_changed

    async def erase(
        self,
        merchant_id: UUID,
        mode: Mode,
        customer_id: UUID,
        asked: ErasureRequest,
        within_s: float,
    ) -> Erasure:
        """Erase a customer. Return how far it is after about `within_s` seconds; a worker does what
        is left. Raises NotFound."""
        until = monotonic() + within_s
        async with self._pool.acquire() as connection:
            erasure, profiles = await erasure_rows.begin(
                connection, merchant_id, mode, customer_id, asked, self._call_s
            )
        self._changed(merchant_id, mode, customer_id)
        failpoints.reach("erasure_begun")
        await self._calls.delete_profiles(merchant_id, mode, profiles)
        return await self.go_on(erasure, until)

    async def go_on(self, erasure: Erasure, until: float) -> Erasure:
        """Do group after group until the erasure is done, waits for something, or it is later than
        `until` on `clock.monotonic`. Return it as it is then."""
        while erasure.state == "erasing":
            erasure, waits = await self._group(erasure)
            failpoints.reach("erasure_group")
            if waits or monotonic() >= until:
                break
        return erasure

    async def _group(self, before: Erasure) -> tuple[Erasure, bool]:
        """Do one group in one transaction. Return the erasure, and whether it waits."""
        told: Sequence[UUID] = ()
        async with self._pool.acquire() as connection:
            async with connection.transaction():
                erasure = await erasure_rows.lock(connection, before)
                customer = await _customer(connection, erasure)
                if erasure.state == "erasing":
                    told = await _do_group(connection, erasure, customer)
            found = await erasure_rows.find(
                connection, erasure.merchant_id, erasure.mode, erasure.customer_id
            )
        assert found is not None
        if told:
            self._payments_changed(
                [PaymentOf(found.merchant_id, found.mode, payment) for payment in told]
            )
        if found.state == "erased":
            self._changed(found.merchant_id, found.mode, found.customer_id)
        return found, found.waiting_for is not None

    # a worker's part -----------------------------------------------------------------------------

    async def do(self, work: Work) -> End:
        """Go on with one erasure of the work list, and say how it ended."""
        merchant_id, mode_text, customer_id = work.key
        mode = MODE[mode_text]
        erasure = await erasure_rows.find(self._pool, merchant_id, mode, customer_id)
        if erasure is None:
            return Done()
        erasure = await self.go_on(erasure, monotonic() + TURN_S)
        if erasure.state == "erased":
            return await self._look_again(erasure)
        if erasure.waiting_for is None:
            return Later(0.0, None)
        return SCHEDULE.after(work, erasure.waiting_for)

    async def _look_again(self, erasure: Erasure) -> End:
        """Look once more for payments that were written while the erasure began, and for answers
        to messages that were under way when it ended."""
        age_s: float = await self._pool.fetchval(
            "SELECT extract(epoch FROM db_now() - greatest($1, $2::timestamptz))::float8",
            *(erasure.begun_at, erasure.erased_at),
        )
        if age_s < _AGAIN_S:
            return Later(_AGAIN_S - age_s, None)
        await self._erase_last_answers(erasure)
        why = await self._erase_last_lines(erasure)
        if why is not None:
            return Later(_AGAIN_S, why)
        after: UUID | None = _since(erasure)
        while after is not None:
            async with self._pool.acquire() as connection, connection.transaction():
                found, after = await erasing_payments.by_looking(connection, erasure, None, after)
                group = await erasing_payments.erase(connection, erasure, None, found)
            self._payments_changed(
                [PaymentOf(erasure.merchant_id, erasure.mode, each) for each in group.changed]
            )
            if group.left:
                return Later(_AGAIN_S, "a payment has something open")
        await erasing_payments.forget(self._pool, erasure)
        return Done()

    async def _erase_last_answers(self, erasure: Erasure) -> None:
        customer = await _customer(self._pool, erasure)
        after: UUID | None = _since(erasure)
        while after is not None:
            async with self._pool.acquire() as connection:
                _, after = await erasing_others.erase_new_answers(
                    connection, erasure, customer.reference, after
                )

    async def _erase_last_lines(self, erasure: Erasure) -> str | None:
        """Look once more at lines that were under way. Return why some have to wait."""
        place: Place | None = erasing_batches.FIRST
        while place is not None:
            async with self._pool.acquire() as connection, connection.transaction():
                looked = await erasing_batches.erase(
                    connection, erasure, None, place, since_end=True
                )
            if looked.waiting_for is not None:
                return looked.waiting_for
            place = looked.at
        return None


async def _do_group(connection: Any, erasure: Erasure, customer: Customer) -> Sequence[UUID]:
    """Do the next group of an erasure, and write how far it came. Return the payments that were
    changed."""
    reference = customer.reference
    match erasure.step:
        case "webhooks":
            changed, at = await erasing_others.erase_answers(connection, erasure, reference)
            await erasure_rows.go_on(
                connection,
                erasure,
                after_id=None if at is None else at[1],
                after_endpoint=erasure_rows.LOWEST if at is None else at[0],
                changed={"webhook_attempts": changed},
            )
        case "batches":
            await _batches(connection, erasure, reference)
        case "reference":
            return await _by_reference(connection, erasure, reference)
        case "payments":
            return await _by_looking(connection, erasure, customer)
        case "left over":
            return await _left_over(connection, erasure, reference)
        case "methods":
            await _methods(connection, erasure)
        case "again":
            await _again(connection, erasure, reference)
        case "customer":
            await _finish(connection, erasure)
        case _:
            raise AssertionError(f"an erasure has no step {erasure.step}")
    return ()


async def _batches(connection: Any, erasure: Erasure, reference: str | None) -> None:
    after = Place(erasure.after_endpoint, erasure.after_id.int)
    looked = await erasing_batches.erase(connection, erasure, reference, after)
    at = looked.at
    await erasure_rows.go_on(
        *(connection, erasure),
        after_id=None if at is None else UUID(int=at.line),
        after_endpoint=erasure_rows.LOWEST if at is None else at.batch_id,
        changed={"batch_lines": looked.changed},
        waiting_for=looked.waiting_for,
    )


async def _by_reference(connection: Any, erasure: Erasure, reference: str | None) -> Sequence[UUID]:
    found: Sequence[UUID] = ()
    if reference is not None:
        found = await erasing_payments.by_reference(connection, erasure, reference)
    group = await erasing_payments.erase(connection, erasure, reference, found)
    return await _went(connection, erasure, group, found[-1] if len(found) == AT_ONCE else None)


async def _by_looking(connection: Any, erasure: Erasure, customer: Customer) -> Sequence[UUID]:
    earliest = ids.lowest_id_at(customer.created_at - _MARGIN)
    after = max(erasure.after_id, earliest)
    found, at = await erasing_payments.by_looking(connection, erasure, customer.reference, after)
    group = await erasing_payments.erase(connection, erasure, customer.reference, found)
    return await _went(connection, erasure, group, at)


async def _went(connection: Any, erasure: Erasure, group: Group, at: UUID | None) -> Sequence[UUID]:
    """Write how far a step over payments came."""
    left = sorted({*erasure.left_over, *group.left})
    waiting_for = None
    if len(left) > _MOST_LEFT_OVER:  # do this group again when some of them have ended
        at, left = erasure.after_id, list(erasure.left_over)
        waiting_for = _open(len(left))
    await erasure_rows.go_on(
        *(connection, erasure),
        after_id=at,
        left_over=left,
        changed=group.rows,
        waiting_for=waiting_for,
    )
    return group.changed


async def _left_over(connection: Any, erasure: Erasure, reference: str | None) -> Sequence[UUID]:
    """Do again what had something open. The whole list is looked at, in groups."""
    left: list[UUID] = []
    changed: list[UUID] = []
    rows: dict[str, int] = {}
    for n in range(0, len(erasure.left_over), AT_ONCE):
        some = erasure.left_over[n : n + AT_ONCE]
        group = await erasing_payments.erase(connection, erasure, reference, some)
        left += group.left
        changed += group.changed
        for table, count in group.rows.items():
            rows[table] = rows.get(table, 0) + count
    await erasure_rows.go_on(
        *(connection, erasure),
        after_id=erasure.after_id if left else None,
        left_over=left,
        changed=rows,
        waiting_for=_open(len(left)) if left else None,
    )
    return changed


def _open(payments: int) -> str:
    return f"{payments} of the customer's payments have something open; they are erased afterwards"


def waits_for_processor(profiles: int, methods: int) -> str:
    """Return what an erasure waits for that the processor has not deleted yet. Pure."""
    return f"the processor is to delete {profiles} profiles and {methods} payment methods"


async def _methods(connection: Any, erasure: Erasure) -> None:
    """Wait until the processor has deleted everything; then erase what is kept of it here."""
    profiles, methods = await erasing_others.left_at_processor(connection, erasure)
    if profiles or methods:
        why = waits_for_processor(profiles, methods)
        await erasure_rows.go_on(connection, erasure, after_id=erasure.after_id, waiting_for=why)
        return
    changed = {"payment_methods": await erasing_others.erase_methods(connection, erasure)}
    changed["customer_events"], more = await erasing_others.erase_objects(connection, erasure)
    at = erasure.after_id if more else None
    await erasure_rows.go_on(connection, erasure, after_id=at, changed=changed)


async def _again(connection: Any, erasure: Erasure, reference: str | None) -> None:
    """Erase what came since the erasure was begun. The step ends with a look at all that is new
    which finds nothing to erase."""
    after = max(erasure.after_id, _since(erasure))
    answers, at = await erasing_others.erase_new_answers(connection, erasure, reference, after)
    objects, _ = await erasing_others.erase_objects(connection, erasure)
    if at is None and (answers or objects):
        at = after
    changed = {"webhook_attempts": answers, "customer_events": objects}
    await erasure_rows.go_on(connection, erasure, after_id=at, changed=changed)


def _since(erasure: Erasure) -> UUID:
    """Return an id below those of all that came while an erasure went on."""
    return ids.lowest_id_at(erasure.begun_at - timedelta(seconds=_AGAIN_S))


async def _finish(connection: Any, erasure: Erasure) -> None:
    """Erase the customer itself, and write the event and the audit entry: once, however often the
    erasure is asked for."""
    first = erasure.erased_at is None
    await erasing_others.erase_customer(connection, erasure)
    await erasure_rows.end(connection, erasure, {"customers": 1 if first else 0})
    if first:
        customer = await _customer(connection, erasure)
        await events.tell(
            *(connection, erasure.merchant_id, erasure.mode, erasure.customer_id),
            *(events.CUSTOMER_ERASED, customer_view(customer)),
        )
    detail = {"references": erasure.with_references, "rows": dict(erasure.rows)}
    await erasure_rows.audit(connection, "easypay", "customer.erased", erasure.customer_id, detail)


async def _customer(connection: Any, erasure: Erasure) -> Customer:
    customer = await store.find(connection, erasure.merchant_id, erasure.mode, erasure.customer_id)
    if customer is None:
        raise NotFound("the customer of an erasure is gone")
    return customer
