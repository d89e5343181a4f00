"""Rules for new profiles and for payment methods and addresses added to them.

Every change is checked first, then written to the journal as one event.
"""

from typing import Final, NamedTuple

from authorizenet_simulator.profiles import profile_notifications
from authorizenet_simulator.profiles.profile_reader import same_address, same_payment
from authorizenet_simulator.state import payment_methods
from authorizenet_simulator.state.customer_profiles import (
    MOST_ADDRESSES,
    MOST_PAYMENTS,
    Address,
    AddressStored,
    PaymentProfile,
    PaymentStored,
    Profile,
    ProfileMade,
)
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.wire.codes import MESSAGES
from authorizenet_simulator.wire.replies import ApiError, Tree

DUPLICATE_PAYMENT: Final = "A duplicate customer payment profile already exists."
DUPLICATE_ADDRESS: Final = "A duplicate customer shipping address already exists."


class Duplicate(ApiError):
    """E00039 for a payment profile or address; `existing` is the id of the existing one."""

    def __init__(self, text: str, existing: int) -> None:
        super().__init__("E00039", text)
        self.existing = existing


class Identity(NamedTuple):
    """The fields by which the merchant identifies a customer."""

    merchant_customer_id: str
    description: str
    email: str


def identity(sent: Tree) -> Identity:
    """Read the identity fields. Raises ApiError E00041 if all are empty."""
    found = Identity(
        *(
            payment_methods.without_card_numbers(sent.get(name, "").strip())
            for name in ("merchantCustomerId", "description", "email")
        )
    )
    if not any(found):
        raise ApiError("E00041", "One or more fields in the profile must contain a value.")
    return found


def check_identity(ledger: Ledger, login: str, wanted: Identity, own: int = 0) -> None:
    """Raise ApiError E00039 if a profile other than `own` has the same identity."""
    existing = ledger.profiles.shelf(login).by_identity.get(wanted, own)
    if existing != own:
        if not ledger.settings_of(ledger.accounts[login]).duplicate_ids_told:
            raise ApiError("E00039")
        raise ApiError("E00039", f"A duplicate record with ID {existing} already exists.")


def check_payment(
    profile: Profile | None, others: list[PaymentProfile], payment: PaymentProfile
) -> None:
    """Raise Duplicate if `profile`, or `others` to be added with it, has the payment method."""
    for other in (*(() if profile is None else profile.payments), *others):
        if other.payment_id != payment.payment_id and same_payment(other, payment):
            raise Duplicate(DUPLICATE_PAYMENT, other.payment_id)


def check_address(profile: Profile | None, others: list[Address], address: Address) -> None:
    """Raise Duplicate if `profile`, or `others` to be added with it, has the address."""
    for other in (*(() if profile is None else profile.addresses), *others):
        if other.address_id != address.address_id and same_address(other, address):
            raise Duplicate(DUPLICATE_ADDRESS, other.address_id)


def check_room(payments: int, addresses: int) -> None:
    """Raise ApiError E00042 or E00043 if the counts exceed a profile's maximum."""
    if payments > MOST_PAYMENTS:
        raise ApiError("E00042", MESSAGES["E00042"].format(MOST_PAYMENTS))
    if addresses > MOST_ADDRESSES:
        raise ApiError("E00043", MESSAGES["E00043"].format(MOST_ADDRESSES))


def make(
    ledger: Ledger,
    login: str,
    wanted: Identity,
    payments: list[PaymentProfile],
    addresses: list[Address],
    *,
    kind: str = "regular",
    default_payment: int = 0,
    default_address: int = 0,
) -> Profile:
    """Create a customer profile from checked parts, whose ids were taken from the store in
    ascending order. Raises ApiError E00039."""
    check_identity(ledger, login, wanted)
    profile = Profile(
        ledger.profiles.next.profile,
        *wanted,
        kind,
        payments,
        addresses,
        default_payment,
        default_address,
        ledger.clock.now_ms(),
    )
    ledger.do(ProfileMade(login, profile))
    profile_notifications.customer(ledger, login, profile, "created")
    return profile


def add_payment(
    ledger: Ledger, login: str, profile: Profile, payment: PaymentProfile, default: bool | None
) -> None:
    """Add a payment profile. Raises ApiError E00042, Duplicate."""
    check_payment(profile, [], payment)
    check_room(len(profile.payments) + 1, 0)
    ledger.do(PaymentStored(login, profile.profile_id, payment, default))
    profile_notifications.payment_profile(ledger, login, profile, payment, "created")


def add_address(
    ledger: Ledger, login: str, profile: Profile, address: Address, default: bool | None
) -> None:
    """Add a shipping address. Raises ApiError E00043, Duplicate."""
    check_address(profile, [], address)
    check_room(0, len(profile.addresses) + 1)
    ledger.do(AddressStored(login, profile.profile_id, address, default))
