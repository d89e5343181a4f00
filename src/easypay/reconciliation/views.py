"""Differences and the state of reconciliation as the API and the command line show them. Pure."""

from collections.abc import Sequence
from uuid import UUID

import msgspec

from easypay import ids
from easypay.clock import rfc3339, rfc3339_or_none
from easypay.reconciliation.accounts import Books
from easypay.reconciliation.model import Break
from easypay.reconciliation.state import AccountState, OpenOfKind

_SHOWN_DIGITS = 12


class SideView(msgspec.Struct, frozen=True):
    """What one side says."""

    state: str | None
    amount: int | None
    currency: str | None


class BreakView(msgspec.Struct, frozen=True):
    """A difference between the processor's books and ours."""

    id: str
    kind: str
    state: str
    owner: str | None
    merchant_id: str | None
    mode: str | None
    payment_id: str | None
    operation_id: str | None
    batch_id: str | None
    transaction_id: str | None
    reference: str | None
    ours: SideView
    theirs: SideView
    card_last4: str | None
    happened_at: str | None
    found_at: str
    closed_at: str | None
    closed_by: str | None
    reason: str | None


class OpenBreaksView(msgspec.Struct, frozen=True):
    """The open differences of one kind, and since when the oldest is known."""

    kind: str
    count: int
    oldest_found_at: str


class ReadBooksView(msgspec.Struct, frozen=True):
    """When the books of an account were read, and how far."""

    account: str
    read_until: str | None
    last_started_at: str | None
    last_ended_at: str | None
    failure: str | None
    retired_at: str | None
    shared: bool


class ReconciliationView(msgspec.Struct, frozen=True):
    """When the books were read, and what is open."""

    accounts: list[ReadBooksView]
    open: list[OpenBreaksView]


class BooksView(msgspec.Struct, frozen=True):
    """An account's books, and what people said of them, on the command line."""

    account: str
    merchants: str
    read_until: str | None
    retired_at: str | None
    shared_at: str | None
    failure: str | None


def books_view(books: Books) -> BooksView:
    return BooksView(
        books.account.hex()[:_SHOWN_DIGITS],
        ", ".join(ids.typed(ids.MERCHANT, each) for each in books.merchants),
        rfc3339_or_none(books.read_until),
        rfc3339_or_none(books.retired_at),
        rfc3339_or_none(books.shared_at),
        books.failure,
    )


def break_view(found: Break) -> BreakView:
    return BreakView(
        id=ids.typed(ids.BREAK, found.id),
        kind=found.kind,
        state=found.state,
        owner=found.owner,
        merchant_id=_typed(ids.MERCHANT, found.merchant_id),
        mode=found.mode,
        payment_id=_typed(ids.PAYMENT, found.payment_id),
        operation_id=_typed(ids.OPERATION, found.operation_id),
        batch_id=found.batch_id,
        transaction_id=found.transaction_id,
        reference=found.reference,
        ours=SideView(found.our_state, found.our_minor, found.our_currency),
        theirs=SideView(found.their_state, found.their_minor, found.their_currency),
        card_last4=found.last4,
        happened_at=rfc3339_or_none(found.happened_at),
        found_at=rfc3339(found.found_at),
        closed_at=rfc3339_or_none(found.closed_at),
        closed_by=found.closed_by,
        reason=found.reason,
    )


def state_view(
    accounts: Sequence[AccountState], still_open: Sequence[OpenOfKind]
) -> ReconciliationView:
    return ReconciliationView(
        accounts=[
            ReadBooksView(
                account=each.account.hex()[:_SHOWN_DIGITS],
                read_until=rfc3339_or_none(each.read_until),
                last_started_at=rfc3339_or_none(each.last_started_at),
                last_ended_at=rfc3339_or_none(each.last_ended_at),
                failure=each.last_failure,
                retired_at=rfc3339_or_none(each.retired_at),
                shared=each.shared_at is not None,
            )
            for each in accounts
        ],
        open=[
            OpenBreaksView(each.kind, each.number, rfc3339(each.oldest_at)) for each in still_open
        ],
    )


def _typed(kind: str, value: UUID | None) -> str | None:
    return None if value is None else ids.typed(kind, value)
