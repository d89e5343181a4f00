"""Customer profiles: stored customers, their payment methods and addresses.

Every merchant has its own `Shelf`, so another merchant's id is an unknown id. No card or account
number is stored here: a payment profile holds an `PaymentMethod`.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, get_args

import msgspec

from authorizenet_simulator.state.payment_methods import PaymentMethod
from authorizenet_simulator.state.store import Store

MOST_PAYMENTS: Final = 10
MOST_ADDRESSES: Final = 100


class PaymentProfile(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One stored payment method. The `expiry` of its method is YYYY-MM."""

    payment_id: int
    method: PaymentMethod
    bill_to: str
    """JSON of the address; '' if there is none."""
    details: str
    """JSON of other shown fields: customer type, bank account, masked licence; '' for none."""
    made_at: int = 0
    """When it was created (Unix milliseconds); 0 if that is not known."""


class Address(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One shipping address; `ship_to` is JSON."""

    address_id: int
    ship_to: str


class Profile(msgspec.Struct, gc=False, array_like=True):
    """One customer. A default id is 0 if there is none."""

    profile_id: int
    merchant_customer_id: str
    description: str
    email: str
    kind: str
    """'regular' or 'guest'."""
    payments: list[PaymentProfile]
    addresses: list[Address]
    default_payment: int = 0
    default_address: int = 0
    made_at: int = 0
    """When it was created (Unix milliseconds); 0 if that is not known."""

    @property
    def identity(self) -> tuple[str, str, str]:
        """Two profiles with the same identity are duplicates."""
        return self.merchant_customer_id, self.description, self.email

    def payment(self, payment_id: int) -> PaymentProfile | None:
        return next((each for each in self.payments if each.payment_id == payment_id), None)

    def address(self, address_id: int) -> Address | None:
        return next((each for each in self.addresses if each.address_id == address_id), None)


class ProfileMade(msgspec.Struct, array_like=True, tag="customer"):
    login: str
    profile: Profile


class ProfileChanged(msgspec.Struct, array_like=True, tag="customer_change"):
    login: str
    profile_id: int
    merchant_customer_id: str
    description: str
    email: str
    kind: str


class ProfileDeleted(msgspec.Struct, array_like=True, tag="customer_delete"):
    login: str
    profile_id: int


class PaymentStored(msgspec.Struct, array_like=True, tag="customer_payment"):
    """A payment profile was added, or replaced the one with its id."""

    login: str
    profile_id: int
    payment: PaymentProfile
    default: bool | None
    """None: unchanged."""


class PaymentDeleted(msgspec.Struct, array_like=True, tag="customer_payment_delete"):
    login: str
    profile_id: int
    payment_id: int


class AddressStored(msgspec.Struct, array_like=True, tag="customer_address"):
    """A shipping address was added, or replaced the one with its id."""

    login: str
    profile_id: int
    address: Address
    default: bool | None


class AddressDeleted(msgspec.Struct, array_like=True, tag="customer_address_delete"):
    login: str
    profile_id: int
    address_id: int


class IdsGiven(msgspec.Struct, array_like=True, tag="customer_ids"):
    """The next free ids, written on a reset."""

    profile: int
    payment: int
    address: int


Event = (
    ProfileMade
    | ProfileChanged
    | ProfileDeleted
    | PaymentStored
    | PaymentDeleted
    | AddressStored
    | AddressDeleted
    | IdsGiven
)

SubscriptionsOf = Callable[[int, int, int], Sequence[int]]
"""Returns the ids of the active and suspended subscriptions of (customer profile id, payment
profile id or 0 for any, address id or 0 for any)."""


def _no_subscriptions(profile_id: int, payment_id: int, address_id: int) -> Sequence[int]:
    return ()


class Shelf:
    """One merchant's profiles, and their indexes."""

    __slots__ = (
        "_out_of_order",
        "by_email",
        "by_identity",
        "by_merchant_id",
        "expiring",
        "profiles",
    )

    def __init__(self) -> None:
        self.profiles: dict[int, Profile] = {}
        self.by_identity: dict[tuple[str, str, str], int] = {}
        self.by_merchant_id: dict[str, tuple[int, ...]] = {}
        self.by_email: dict[str, tuple[int, ...]] = {}
        self.expiring: dict[str, dict[int, int]] = {}
        """YYYY-MM -> payment profile id -> customer profile id; read it with `expiring_in`."""
        self._out_of_order: set[str] = set()
        """Months whose ids are unsorted because a card got a new expiry."""

    def add(self, profile: Profile) -> None:
        self.profiles[profile.profile_id] = profile
        self.enter(profile)
        for payment in profile.payments:
            self.enter_payment(profile, payment)

    def enter(self, profile: Profile) -> None:
        """Add the profile to the indexes by identity, merchant's customer id and email."""
        number = profile.profile_id
        self.by_identity[profile.identity] = number
        for index, key in self._named(profile):
            if key:
                index[key] = (*index.get(key, ()), number)

    def leave(self, profile: Profile) -> None:
        number = profile.profile_id
        if self.by_identity.get(profile.identity) == number:
            del self.by_identity[profile.identity]
        for index, key in self._named(profile):
            if key:
                rest = tuple(each for each in index[key] if each != number)
                if rest:
                    index[key] = rest
                else:
                    del index[key]

    def _named(self, profile: Profile) -> Iterator[tuple[dict[str, tuple[int, ...]], str]]:
        yield self.by_merchant_id, profile.merchant_customer_id
        yield self.by_email, profile.email

    def enter_payment(self, profile: Profile, payment: PaymentProfile) -> None:
        if expiry := payment.method.expiry:
            month = self.expiring.setdefault(expiry, {})
            if month and next(reversed(month)) > payment.payment_id:
                self._out_of_order.add(expiry)
            month[payment.payment_id] = profile.profile_id

    def leave_payment(self, payment: PaymentProfile) -> None:
        if expiry := payment.method.expiry:
            month = self.expiring[expiry]
            del month[payment.payment_id]
            if not month:
                del self.expiring[expiry]
                self._out_of_order.discard(expiry)

    def expiring_in(self, month: str) -> dict[int, int]:
        """Return payment profile id -> customer profile id of a month, ids ascending."""
        if month in self._out_of_order:
            self.expiring[month] = dict(sorted(self.expiring[month].items()))
            self._out_of_order.remove(month)
        return self.expiring.get(month, {})


_EMPTY: Final = Shelf()


class Profiles(Store):
    """The store of profiles. The ledger sets `subscriptions_of`."""

    events = get_args(Event)

    def __init__(self) -> None:
        self._shelves: dict[str, Shelf] = {}
        # The ranges are far apart, so that an id of the wrong kind is never found. They fit the
        # schema's 32 bits.
        self.next = IdsGiven(900_000_001, 1_200_000_001, 1_500_000_001)
        """The next ids; each is taken when an event with it is applied."""
        self.subscriptions_of: SubscriptionsOf = _no_subscriptions

    def shelf(self, login: str) -> Shelf:
        """Return the merchant's shelf for reading; empty for a merchant without profiles."""
        return self._shelves.get(login, _EMPTY)

    def shelves(self) -> dict[str, Shelf]:
        """Return every merchant's shelf by login, for reading."""
        return self._shelves

    def find(self, login: str, profile_id: int) -> Profile | None:
        return self.shelf(login).profiles.get(profile_id)

    def apply(self, event: Event) -> None:
        match event:
            case ProfileMade(login, profile):
                self._shelves.setdefault(login, Shelf()).add(profile)
                self._used(profile.profile_id, profile.payments, profile.addresses)
            case ProfileChanged():
                self._changed(event)
            case ProfileDeleted(login, profile_id):
                shelf = self._shelves[login]
                profile = shelf.profiles.pop(profile_id)
                shelf.leave(profile)
                for payment in profile.payments:
                    shelf.leave_payment(payment)
            case PaymentStored():
                self._payment_stored(event)
            case PaymentDeleted(login, profile_id, payment_id):
                shelf = self._shelves[login]
                profile = shelf.profiles[profile_id]
                gone = profile.payment(payment_id)
                assert gone is not None
                shelf.leave_payment(gone)
                profile.payments.remove(gone)
                if profile.default_payment == payment_id:
                    profile.default_payment = 0
            case AddressStored():
                self._address_stored(event)
            case AddressDeleted(login, profile_id, address_id):
                profile = self._shelves[login].profiles[profile_id]
                profile.addresses = [
                    each for each in profile.addresses if each.address_id != address_id
                ]
                if profile.default_address == address_id:
                    profile.default_address = 0
            case IdsGiven():
                self.next = event

    def _used(
        self, profile: int, payments: Sequence[PaymentProfile], addresses: Sequence[Address]
    ) -> None:
        highest_payment = max((each.payment_id for each in payments), default=0)
        highest_address = max((each.address_id for each in addresses), default=0)
        self.next = IdsGiven(
            max(self.next.profile, profile + 1),
            max(self.next.payment, highest_payment + 1),
            max(self.next.address, highest_address + 1),
        )

    def _changed(self, event: ProfileChanged) -> None:
        shelf = self._shelves[event.login]
        profile = shelf.profiles[event.profile_id]
        shelf.leave(profile)
        profile.merchant_customer_id = event.merchant_customer_id
        profile.description = event.description
        profile.email = event.email
        profile.kind = event.kind
        shelf.enter(profile)

    def _payment_stored(self, event: PaymentStored) -> None:
        shelf, payment = self._shelves[event.login], event.payment
        profile = shelf.profiles[event.profile_id]
        before = profile.payment(payment.payment_id)
        if before is None:
            profile.payments.append(payment)
            self._used(0, (payment,), ())
        else:
            shelf.leave_payment(before)
            profile.payments[profile.payments.index(before)] = payment
        shelf.enter_payment(profile, payment)
        profile.default_payment = _default(
            profile.default_payment, payment.payment_id, event.default
        )

    def _address_stored(self, event: AddressStored) -> None:
        profile, address = self._shelves[event.login].profiles[event.profile_id], event.address
        before = profile.address(address.address_id)
        if before is None:
            profile.addresses.append(address)
            self._used(0, (), (address,))
        else:
            profile.addresses[profile.addresses.index(before)] = address
        profile.default_address = _default(
            profile.default_address, address.address_id, event.default
        )

    def reset(self, login: str) -> None:
        if login:
            self._shelves.pop(login, None)
        else:
            self._shelves.clear()

    def snapshot(self) -> Iterator[Event]:
        yield self.next


def _default(current: int, number: int, wanted: bool | None) -> int:
    if wanted:
        return number
    return 0 if wanted is False and current == number else current
