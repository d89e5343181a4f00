"""The payment profile that pays for a subscription: given by the merchant, or created for it."""

import msgspec

from authorizenet_simulator.profiles import (
    profile_creation,
    profile_notifications,
    profile_queries,
    profile_reader,
    visibility,
)
from authorizenet_simulator.profiles.profile_reader import number, tree
from authorizenet_simulator.state import payment_methods
from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.customer_profiles import (
    Address,
    AddressStored,
    PaymentProfile,
    PaymentStored,
    Profile,
)
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.state.payment_methods import PaymentMethod
from authorizenet_simulator.state.subscriptions import Payer, Subscription
from authorizenet_simulator.wire.replies import ApiError, Tree


def payment_of(ledger: Ledger, login: str, payer: Payer) -> PaymentProfile | None:
    """Return the current payment profile; None if deleted after the subscription ended."""
    profile = ledger.profiles.find(login, payer.profile)
    return None if profile is None else profile.payment(payer.payment)


def payment_method_of(ledger: Ledger, subscription: Subscription) -> PaymentMethod | None:
    """Return the current payment method."""
    found = payment_of(ledger, subscription.login, subscription.terms.payer)
    return None if found is None else found.method


def named(ledger: Ledger, account: Account, sent: Tree) -> Payer:
    """Return the payment profile given in a request. Raises ApiError E00014, E00040."""
    profile = visibility.profile(ledger, account, number(sent["customerProfileId"]))
    if profile is None:
        raise ApiError("E00040")
    if "customerPaymentProfileId" not in sent:
        raise ApiError("E00014", "Customer Payment Profile ID is required.")
    payment_id = sent["customerPaymentProfileId"]
    payment = profile_queries.find_payment(ledger, account, profile, payment_id)
    address = 0
    if "customerAddressId" in sent:
        address = number(sent["customerAddressId"])
        if profile.address(address) is None:
            raise ApiError("E00040")
    return Payer(profile.profile_id, payment.payment_id, address)


def made(
    ledger: Ledger, account: Account, subscription: int, method: PaymentMethod, sent: Tree
) -> Payer:
    """Create a customer profile for a subscription that was sent with a payment method."""
    customer: Tree = sent.get("customer") or {}
    wanted = profile_creation.identity(
        {
            "merchantCustomerId": customer.get("id", ""),
            "description": f"Profile created by Subscription: {subscription}",
            "email": customer.get("email", ""),
        }
    )
    shown: Tree = {"customerType": customer["type"]} if "type" in customer else {}
    payment = _stored(ledger.profiles.next.payment, method, sent, "", shown)
    ship_to = profile_reader.address(sent.get("shipTo"))
    addresses = [Address(ledger.profiles.next.address, ship_to)] if ship_to else []
    profile = profile_creation.make(ledger, account.login, wanted, [payment], addresses)
    return Payer(
        profile.profile_id, payment.payment_id, addresses[0].address_id if addresses else 0
    )


def changed(
    ledger: Ledger, account: Account, payer: Payer, method: PaymentMethod, sent: Tree
) -> Payer:
    """Apply an update's payment method and addresses to the profile. Raises ApiError."""
    profile = ledger.profiles.find(account.login, payer.profile)
    before = payment_of(ledger, account.login, payer)
    if profile is None or before is None:
        raise ApiError("E00040")
    if "payment" in sent or "billTo" in sent:
        kept = tree(before.details)
        if "payment" in sent:
            kept.pop("bankAccount", None)
        payment = _stored(before.payment_id, method, sent, before.bill_to, kept)
        profile_creation.check_payment(profile, [], payment)
        ledger.do(PaymentStored(account.login, profile.profile_id, payment, None))
        profile_notifications.payment_profile(ledger, account.login, profile, payment, "updated")
    return _with_address(ledger, account, profile, payer, sent) if "shipTo" in sent else payer


def _with_address(
    ledger: Ledger, account: Account, profile: Profile, payer: Payer, sent: Tree
) -> Payer:
    before = profile.address(payer.address)
    ship_to = {**tree("" if before is None else before.ship_to), **sent["shipTo"]}
    address_id = ledger.profiles.next.address if before is None else before.address_id
    address = Address(address_id, profile_reader.address(ship_to))
    ledger.do(AddressStored(account.login, profile.profile_id, address, None))
    return msgspec.structs.replace(payer, address=address_id)


def _stored(
    payment_id: int, method: PaymentMethod, sent: Tree, bill_to: str, shown: Tree
) -> PaymentProfile:
    """Return a payment profile with the sent fields replacing the earlier ones."""
    bank = (sent.get("payment") or {}).get("bankAccount")
    if bank is not None:
        shown["bankAccount"] = payment_methods.shown_bank(bank)
    details = payment_methods.without_card_numbers(msgspec.json.encode(shown).decode())
    expiry = payment_methods.year_month(method.expiry) or ""
    return PaymentProfile(
        payment_id,
        msgspec.structs.replace(method, expiry=expiry, cvv_result=""),
        profile_reader.address({**tree(bill_to), **(sent.get("billTo") or {})}),
        details if shown else "",
    )


def ids_of(payer: Payer) -> Tree:
    """Return the profile's ids for a reply."""
    ids = {"customerProfileId": str(payer.profile), "customerPaymentProfileId": str(payer.payment)}
    if payer.address:
        ids["customerAddressId"] = str(payer.address)
    return {"profile": ids}


def shown(ledger: Ledger, account: Account, payer: Payer) -> Tree:
    """Return the customer with the subscription's payment profile and address, masked."""
    profile = ledger.profiles.find(account.login, payer.profile)
    if profile is None:
        return {}
    named = {
        "merchantCustomerId": profile.merchant_customer_id,
        "description": profile.description,
        "email": profile.email,
    }
    found: Tree = {key: value for key, value in named.items() if value}
    found["customerProfileId"] = str(profile.profile_id)
    if (payment := profile.payment(payer.payment)) is not None:
        found["paymentProfile"] = profile_queries.masked_payment(ledger, account, profile, payment)
    if (address := profile.address(payer.address)) is not None:
        found["shippingProfile"] = profile_queries.masked_address(address)
    return found
