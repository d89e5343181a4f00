"""The interface of a processor's books: what it has settled, and what it has not settled yet.

Amounts are minor units, times are in UTC. A list of the processor names no currency, so whoever
reads one says in which currency the account keeps it; without one the amounts are hundredths, and
their currency is ''.

Nothing here raises for what the network or the processor does: what cannot be read is `Unread`, a
value with a reason. Half a list is never shown as a whole one: a reader of pages gives either all
of them, or an `Unread` as its last item.

`books_of` returns the books of a processor, which need not have any.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple, Protocol, get_args, runtime_checkable

import msgspec

from easypay.processors.base import Account, Deadline, Processor, ProcessorAnswer

LONGEST_SPAN: Final = timedelta(days=31)
"""The longest span that one question about batches may cover."""

MoneyKind = Literal["charge", "refund"]
Meaning = Literal[
    "held",
    "authorized",
    "captured",
    "settled",
    "returned",
    "charged_back",
    "chargeback_reversed",
    "failed",
    "voided",
    "expired",
    "declined",
    "unclear",
]
"""What a transaction's status means for its money: `held` awaits a review; `authorized` holds money
and takes none; `captured` will be in a batch, also as a refund; `failed` could not be settled."""

MEANINGS: Final[tuple[Meaning, ...]] = get_args(Meaning)
MOVED: Final = frozenset({"settled", "returned", "charged_back", "chargeback_reversed"})
"""Meanings of a transaction that was in a batch that settled."""


class Unread(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Something that could not be read, and why. `refused`: the processor does not let us read
    it (reporting is off, the login is wrong), so that a person has to change something there."""

    reason: str
    refused: bool = False
    absent: bool = False
    """It does not know what it was asked about."""


class BrandFigures(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A batch's counts and sums of one brand, as the processor tells them."""

    brand: str
    """Their word."""
    charged_minor: int = 0
    charges: int = 0
    refunded_minor: int = 0
    refunds: int = 0
    voids: int = 0
    declines: int = 0
    errors: int = 0
    returned_minor: int = 0
    returns: int = 0
    charged_back_minor: int = 0
    chargebacks: int = 0
    # The same by what the bank took back. Some batches tell only these.
    charges_returned_minor: int = 0
    charges_returned: int = 0
    refunds_returned_minor: int = 0
    refunds_returned: int = 0
    charges_charged_back_minor: int = 0
    charges_charged_back: int = 0
    refunds_charged_back_minor: int = 0
    refunds_charged_back: int = 0


class SettledBatch(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A batch that the processor has settled."""

    batch_id: str
    settled_at: datetime
    state: str
    """Their word."""
    closed: bool
    """No transaction enters or leaves it any more."""
    method: str | None
    """`card` or `bank_account`, if they say which."""
    statistics: Sequence[BrandFigures] = ()


class BookLine(NamedTuple):
    """A transaction in a list."""

    transaction_id: str
    status: str
    """Their word."""
    meaning: Meaning
    kind: MoneyKind | None
    """None: neither its status nor its amount tells, so ask about the transaction itself."""
    reference: str | None
    amount_minor: int
    currency: str
    card_brand: str | None
    last4: str | None
    submitted_at: datetime | None


class ReturnedItem(NamedTuple):
    """A bank's return of a settled payment."""

    item_id: str
    code: str | None
    message: str | None
    at: datetime | None


class BookedTransaction(NamedTuple):
    """Everything that the books say of one transaction."""

    line: BookLine
    type: str | None
    """Their word for what was asked."""
    asked: Literal["sale", "authorize", "refund"] | None
    """The same as we call it. None: something that we never ask for."""
    method: Literal["card", "bank_account"] | None
    order_reference: str | None
    authorized_minor: int | None
    answer: ProcessorAnswer
    parent_id: str | None
    """The transaction that a refund returns."""
    batch_id: str | None
    settled_at: datetime | None
    returned_items: Sequence[ReturnedItem]


class Books(Protocol):
    """The calls to a processor's books. None of them moves money."""

    async def currencies(self, account: Account, deadline: Deadline) -> Sequence[str] | Unread:
        """Return the currencies in which the account is kept."""
        ...

    async def batches(
        self, account: Account, since: datetime, until: datetime, currency: str, deadline: Deadline
    ) -> Sequence[SettledBatch] | Unread:
        """Return the batches that settled in a span, oldest first, with their statistics. A longer
        span than LONGEST_SPAN is asked about in several questions."""
        ...

    def batch(
        self, account: Account, batch_id: str, currency: str, deadline: Deadline
    ) -> AsyncIterator[Sequence[BookLine] | Unread]:
        """Yield the transactions of a batch page by page, ordered by their ids."""
        ...

    def unsettled(
        self, account: Account, currency: str, deadline: Deadline, *, held: bool = False
    ) -> AsyncIterator[Sequence[BookLine] | Unread]:
        """Yield what has not settled, page by page; with `held` only what awaits a review. What
        settles meanwhile may be missing."""
        ...

    async def transaction(
        self, account: Account, transaction_id: str, currency: str, deadline: Deadline
    ) -> BookedTransaction | Unread:
        """Return one transaction; Unread.absent if they do not know it."""
        ...


@runtime_checkable
class HasBooks(Protocol):
    """A processor's client has this attribute if its books can be read."""

    @property
    def books(self) -> Books: ...


def books_of(processor: Processor) -> Books | None:
    """Return the processor's books; None if they cannot be read."""
    return processor.books if isinstance(processor, HasBooks) else None
