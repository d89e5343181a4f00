"""The erasure of a customer as rows: begun, how far it has come, and what it waits for.

An erasure is a row of `customer_erasures`. It goes on in steps; each step is done in bounded
groups, and each group is one short transaction that locks the erasure's row, changes some rows, and
writes how far it came. So it can stop anywhere, go on anywhere, and run twice at once.

    webhooks    what shops answered to events of this customer and of its payments
    batches     lines of uploaded files
    reference   its payments by the customer's reference, through the search table
    payments    all payments since it was made: those made with its stored methods, and any that the
                search table did not have yet
    left over   payments that had something open: the erasure waits until they have not
    methods     the processor has deleted everything; what is kept of methods, and past events
    again       what came since it was begun: answers of shops to messages that were under way, past
                events, payments; until nothing new is found
    customer    the customer itself; an event and an audit entry
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from easypay import ids
from easypay.clock import now
from easypay.customers import store
from easypay.errors import NotFound
from easypay.mode import MODE, Mode

Runner = Any

STEPS: Final = (
    *(
        "webhooks",
        "batches",
        "reference",
        "payments",
        "left over",
        "methods",
        "again",
        "customer",
        "done",
    ),
)
"""In their order. `done` is the end."""
LOWEST: Final = UUID(int=0)

_CUSTOMER: Final = """
    SELECT reference, created_at, deleted_at FROM customers
     WHERE merchant_id = $1 AND mode = $2 AND id = $3 FOR UPDATE
"""
# Another customer may have had the reference before. From its deletion on, it is this one's.
_REFERENCE_SINCE: Final = """
    SELECT max(deleted_at) FROM customers
     WHERE merchant_id = $1 AND mode = $2 AND reference = $3 AND id <> $4
       AND deleted_at <= $5
"""
_BEGIN: Final = """
    INSERT INTO customer_erasures AS e (merchant_id, mode, customer_id, with_references, step,
        after_id, after_endpoint, from_payment, until_payment)
    VALUES ($1, $2, $3, $4, $5, $6, $6, $7, $8)
    ON CONFLICT (merchant_id, mode, customer_id) DO UPDATE
       SET state = 'erasing', with_references = e.with_references OR excluded.with_references,
           step = excluded.step, after_id = excluded.after_id, waiting_for = NULL,
           after_endpoint = excluded.after_endpoint, begun_at = db_now()
     WHERE e.state = 'erased' OR (excluded.with_references AND NOT e.with_references)
"""
_WORK: Final = """
    INSERT INTO erasure_work (merchant_id, mode, customer_id, due_at)
    VALUES ($1, $2, $3, db_now() + make_interval(secs => $4))
    ON CONFLICT (merchant_id, mode, customer_id) DO UPDATE
       SET due_at = least(erasure_work.due_at, excluded.due_at), parked_at = NULL
"""
_AUDIT: Final = """
    INSERT INTO audit_entries (id, actor, action, subject, detail) VALUES ($1, $2, $3, $4, $5)
"""
_GO_ON: Final = """
    UPDATE customer_erasures
       SET step = $4, after_id = $5, after_endpoint = $6, left_over = $7, rows = $8,
           waiting_for = $9
     WHERE merchant_id = $1 AND mode = $2 AND customer_id = $3
"""
_END: Final = """
    UPDATE customer_erasures
       SET state = 'erased', step = 'done', waiting_for = NULL, rows = $4,
           erased_at = coalesce(erased_at, db_now())
     WHERE merchant_id = $1 AND mode = $2 AND customer_id = $3
"""


class Erasure(msgspec.Struct, frozen=True):
    """One row of `customer_erasures`."""

    merchant_id: UUID
    mode: Mode
    customer_id: UUID
    state: Literal["erasing", "erased"]
    with_references: bool
    step: str
    after_id: UUID
    after_endpoint: UUID
    from_payment: UUID
    until_payment: UUID
    left_over: Sequence[UUID]
    rows: Mapping[str, int]
    waiting_for: str | None
    asked_at: datetime
    begun_at: datetime
    erased_at: datetime | None


class ErasureRequest(msgspec.Struct, frozen=True):
    """Who asks for an erasure, and why, for the audit log. `references`: the references and
    descriptions on payments go, too."""

    actor: str
    because: str
    references: bool


_COLUMNS: Final = ", ".join(Erasure.__struct_fields__)
_FIND: Final = f"""
    SELECT {_COLUMNS} FROM customer_erasures
     WHERE merchant_id = $1 AND mode = $2 AND customer_id = $3
"""


def _erasure_of(row: Any) -> Erasure:
    found = dict(row)
    found["mode"] = MODE[found["mode"]]
    found["rows"] = msgspec.json.decode(found["rows"], type=dict[str, int])
    return Erasure(**found)


async def find(runner: Runner, merchant_id: UUID, mode: Mode, customer_id: UUID) -> Erasure | None:
    """Return a customer's erasure. None if nobody has asked for it."""
    row = await runner.fetchrow(_FIND, merchant_id, mode, customer_id)
    return None if row is None else _erasure_of(row)


async def lock(connection: Runner, erasure: Erasure) -> Erasure:
    """Lock an erasure for the rest of the transaction, and return it as it is now."""
    return _erasure_of(await connection.fetchrow(f"{_FIND} FOR UPDATE", *_key(erasure)))


async def begin(
    connection: Runner,
    merchant_id: UUID,
    mode: Mode,
    customer_id: UUID,
    asked: ErasureRequest,
    call_s: float,
) -> tuple[Erasure, Sequence[UUID]]:
    """Commit that a customer is to be erased, and delete it here. Return the erasure, and the
    profiles that are to be deleted at the processor. A worker goes on after `call_s` seconds.

    One that is being erased goes on; one that was erased is looked through again. Raises NotFound.
    """
    who = (merchant_id, mode, customer_id)
    async with connection.transaction():
        row = await connection.fetchrow(_CUSTOMER, *who)
        if row is None:
            raise NotFound(f"there is no customer {ids.typed(ids.CUSTOMER, customer_id)}")
        reference, _, deleted_at = row
        _, profiles = await store.delete(connection, *who, None, call_s)
        until = deleted_at or now()
        since = None
        if reference is not None:
            since = await connection.fetchval(
                _REFERENCE_SINCE, merchant_id, mode, reference, customer_id, until
            )
        await connection.execute(
            _BEGIN,
            *(*who, asked.references, STEPS[0], LOWEST),
            *(LOWEST if since is None else ids.lowest_id_at(since), ids.lowest_id_at(until)),
        )
        await connection.execute(_WORK, *who, call_s)
        detail = {"because": asked.because, "references": asked.references}
        await audit(connection, asked.actor, "customer.erase", customer_id, detail)
        erasure = await find(connection, *who)
    assert erasure is not None
    return erasure, profiles


async def audit(
    connection: Runner, actor: str, action: str, customer_id: UUID, detail: Mapping[str, Any]
) -> None:
    """Write an audit entry about a customer. `detail` has no personal data."""
    text = msgspec.json.encode(detail).decode()
    subject = ids.typed(ids.CUSTOMER, customer_id)
    await connection.execute(_AUDIT, ids.new_id(), actor, action, subject, text)


async def go_on(
    connection: Runner,
    erasure: Erasure,
    *,
    after_id: UUID | None = None,
    after_endpoint: UUID = LOWEST,
    left_over: Sequence[UUID] | None = None,
    changed: Mapping[str, int] | None = None,
    waiting_for: str | None = None,
) -> None:
    """Write how far a locked erasure has come. `after_id` None: this step has ended. `changed` are
    rows by table, to be added."""
    step, at = erasure.step, after_id
    if at is None:
        step, at = STEPS[STEPS.index(step) + 1], LOWEST
    await connection.execute(
        _GO_ON,
        *(*_key(erasure), step, at, after_endpoint),
        erasure.left_over if left_over is None else left_over,
        _added(erasure, changed or {}),
        waiting_for,
    )


async def end(connection: Runner, erasure: Erasure, changed: Mapping[str, int]) -> None:
    """Write that a locked erasure is done."""
    await connection.execute(_END, *_key(erasure), _added(erasure, changed))


def _added(erasure: Erasure, changed: Mapping[str, int]) -> str:
    rows = dict(erasure.rows)
    for table, n in changed.items():
        rows[table] = rows.get(table, 0) + n
    return msgspec.json.encode({table: n for table, n in rows.items() if n}).decode()


def _key(erasure: Erasure) -> tuple[UUID, Mode, UUID]:
    return erasure.merchant_id, erasure.mode, erasure.customer_id
