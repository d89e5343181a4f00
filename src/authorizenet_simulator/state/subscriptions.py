"""Subscriptions (ARB): their terms, their payments, and when the next one is due.

Only events change this store; `subscription_requests` and `recurring_payments` make them.
Amounts are hundredths, times Unix milliseconds.
"""

import heapq
from collections.abc import Iterator
from datetime import date
from typing import Any, Final

import msgspec

from authorizenet_simulator.state import payment_dates
from authorizenet_simulator.state.store import Store
from authorizenet_simulator.state.transactions import Txn

ACTIVE: Final = "active"
SUSPENDED: Final = "suspended"
CANCELED: Final = "canceled"
EXPIRED: Final = "expired"
TERMINATED: Final = "terminated"
RUNNING: Final = frozenset({ACTIVE, SUSPENDED})
"""Statuses with something still due: a payment or the end."""


class Payer(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The ids of the paying profile; `address` is 0 if there is none."""

    profile: int
    payment: int
    address: int = 0


class Terms(msgspec.Struct, frozen=True, array_like=True):
    """The terms that the merchant sets and may change."""

    name: str
    length: int
    unit: str
    start: date
    total: int
    trial_occurrences: int
    amount: int
    trial_amount: int
    payer: Payer
    details: str
    """JSON of the order and customer that were sent."""

    def amount_of(self, pay_num: int) -> int:
        """Return the amount of payment `pay_num`, counted from 1."""
        return self.trial_amount if pay_num <= self.trial_occurrences else self.amount

    def due_ms(self, pay_num: int, created_ms: int) -> int | None:
        """Return the due time of payment `pay_num`; None after the year 9999."""
        return payment_dates.due_ms(self.start, self.unit, self.length, pay_num - 1, created_ms)

    def ends_with(self, pay_num: int) -> bool:
        return self.total != payment_dates.FOREVER and pay_num >= self.total


class Payment(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One attempted payment."""

    pay_num: int
    at: int
    trans_id: int
    """0 if the payment was rejected without a transaction."""
    response: str


class Subscription(msgspec.Struct, array_like=True):
    """The current state of one subscription."""

    number: int
    login: str
    terms: Terms
    created: int
    digest: str
    """Digest of the fields that duplicate detection compares."""
    next_at: int
    """When its next payment is due or, if suspended, its termination."""
    status: str = ACTIVE
    past: int = 0
    """How many payments fell due so far, failed ones included."""
    payments: list[Payment] = []


class Created(msgspec.Struct, array_like=True, tag="subscription"):
    subscription: Subscription


class Changed(msgspec.Struct, array_like=True, tag="subscription_changed"):
    number: int
    terms: Terms
    digest: str
    status: str


class Charged(msgspec.Struct, array_like=True, tag="subscription_charged"):
    """A payment and its transaction, in one event, so that a crash cannot separate them."""

    number: int
    pay_num: int
    at: int
    txn: Txn | None
    """None if nothing was stored: rejected, free of charge, or test mode."""
    digest: int
    response: str
    """'' for a payment that is not listed, such as a free one."""
    status: str
    next_at: int


class Ended(msgspec.Struct, array_like=True, tag="subscription_ended"):
    number: int
    status: str


class Numbering(msgspec.Struct, array_like=True, tag="subscription_numbering"):
    """The next id, written on a reset."""

    next_number: int


Event = Created | Changed | Charged | Ended | Numbering


class Subscriptions(Store):
    """The store of subscriptions. `begin` is the first id; ids fit 32 bits, as in the schema."""

    events = (
        Created,
        Changed,
        Ended,
        Numbering,
    )  # the ledger passes Charged on

    def __init__(self, begin: int) -> None:
        self.next_number = begin
        self._by_number: dict[int, Subscription] = {}
        self._by_login: dict[str, dict[int, Subscription]] = {}
        self._by_profile: dict[int, dict[int, Subscription]] = {}
        self._by_digest: dict[str, int] = {}
        self._queue: list[tuple[int, int]] = []
        """(next_at, number); may contain outdated entries."""

    def find(self, login: str, number: int) -> Subscription | None:
        """Return the subscription if it is the account's own."""
        found = self._by_number.get(number)
        return found if found is not None and found.login == login else None

    def of(self, login: str) -> list[Subscription]:
        """Return an account's subscriptions, oldest first."""
        return list(self._by_login.get(login, {}).values())

    def duplicate_of(self, digest: str) -> Subscription | None:
        """Return an active or suspended subscription with the same digest."""
        found = self._by_number.get(self._by_digest.get(digest, 0))
        if found is None or found.digest != digest or found.status not in RUNNING:
            return None
        return found

    def tied_to(self, profile_id: int, payment_id: int = 0, address_id: int = 0) -> list[int]:
        """Return ids of active and suspended subscriptions of a profile (E00105 to E00107).

        A payment profile or address id selects only those that use it.
        """
        return [
            each.number
            for each in self._by_profile.get(profile_id, {}).values()
            if each.status in RUNNING
            and payment_id in (0, each.terms.payer.payment)
            and address_id in (0, each.terms.payer.address)
        ]

    def apply(self, event: Any) -> None:
        match event:
            case Created(subscription):
                self._created(subscription)
            case Changed():
                self._changed(event)
            case Charged():
                self._charged(event)
            case Ended(number, status):
                self._by_number[number].status = status
            case Numbering(next_number):
                self.next_number = next_number

    def _created(self, subscription: Subscription) -> None:
        number = subscription.number
        self.next_number = number + 1
        self._by_number[number] = subscription
        self._by_login.setdefault(subscription.login, {})[number] = subscription
        self._by_digest[subscription.digest] = number
        self._tie(subscription)
        heapq.heappush(self._queue, (subscription.next_at, number))

    def _changed(self, event: Changed) -> None:
        changed = self._by_number[event.number]
        self._untie(changed)
        changed.terms, changed.digest, changed.status = event.terms, event.digest, event.status
        self._by_digest[event.digest] = event.number
        self._tie(changed)

    def _tie(self, subscription: Subscription) -> None:
        tied = self._by_profile.setdefault(subscription.terms.payer.profile, {})
        tied[subscription.number] = subscription

    def _untie(self, subscription: Subscription) -> None:
        profile_id = subscription.terms.payer.profile
        tied = self._by_profile[profile_id]
        del tied[subscription.number]
        if not tied:
            del self._by_profile[profile_id]

    def _charged(self, event: Charged) -> None:
        charged = self._by_number[event.number]
        charged.past = event.pay_num
        charged.status, charged.next_at = event.status, event.next_at
        if event.response:
            trans_id = 0 if event.txn is None else event.txn.trans_id
            charged.payments.append(Payment(event.pay_num, event.at, trans_id, event.response))
        if event.status in RUNNING:
            heapq.heappush(self._queue, (event.next_at, event.number))

    def reset(self, login: str) -> None:
        gone = list(self._by_number) if not login else list(self._by_login.get(login, ()))
        for number in gone:
            subscription = self._by_number.pop(number)
            self._untie(subscription)
            self._by_digest.pop(subscription.digest, None)
        if login:
            self._by_login.pop(login, None)
        else:
            self._by_login.clear()

    def snapshot(self) -> Iterator[Event]:
        yield Numbering(self.next_number)

    def first_due(self) -> Subscription | None:
        """Return the subscription that is due next, at its `next_at`; None if there is none."""
        queue = self._queue
        while queue:
            next_at, number = queue[0]
            found = self._by_number.get(number)
            if found is not None and found.status in RUNNING and found.next_at == next_at:
                return found
            heapq.heappop(queue)
        return None
