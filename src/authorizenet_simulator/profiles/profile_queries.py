"""Requests that read customer profiles: one, its parts, lists. Numbers are masked."""

from itertools import islice
from typing import Final

from authorizenet_simulator.profiles.profile_reader import number, said, tree
from authorizenet_simulator.state import payment_methods
from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.customer_profiles import Address, PaymentProfile, Profile
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.state.payment_methods import Instrument
from authorizenet_simulator.transactions import accept_nonces
from authorizenet_simulator.wire import amounts, paging
from authorizenet_simulator.wire.replies import NOTHING_FOUND, ApiError, Reply, Tree


def find(ledger: Ledger, account: Account, body: Tree) -> Profile:
    """The account's own profile that `body` names. Raises ApiError E00040."""
    profile = ledger.profiles.find(account.login, number(body.get("customerProfileId")))
    if profile is None:
        raise ApiError("E00040")
    return profile


def find_payment(profile: Profile, payment_id: str | None) -> PaymentProfile:
    """Raises ApiError E00040."""
    payment = profile.payment(number(payment_id))
    if payment is None:
        raise ApiError("E00040")
    return payment


def default_payment(profile: Profile) -> PaymentProfile:
    """The one meant where a request names none. Raises ApiError E00121."""
    payment = profile.payment(profile.default_payment)
    if payment is None:
        raise ApiError("E00121")
    return payment


def get_ids(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """getCustomerProfileIdsRequest."""
    return Reply({"ids": list(map(str, ledger.profiles.shelf(account.login).profiles))})


def get(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """getCustomerProfileRequest: by id, by the merchant's id or by email; of several that have
    the same the newest. Raises ApiError E00040."""
    shelf = ledger.profiles.shelf(account.login)
    if "customerProfileId" in body:
        profile = find(ledger, account, body)
    else:
        merchant_id = payment_methods.without_card_numbers(
            body.get("merchantCustomerId", "").strip()
        )
        email = payment_methods.without_card_numbers(body.get("email", "").strip())
        if merchant_id:
            found = shelf.by_merchant_id.get(merchant_id, ())
        else:
            found = shelf.by_email.get(email, ())
        if not found:
            raise ApiError("E00040")
        profile = shelf.profiles[found[-1]]
    named = {
        "merchantCustomerId": profile.merchant_customer_id,
        "description": profile.description,
        "email": profile.email,
    }
    told: Tree = {key: value for key, value in named.items() if value}
    told["customerProfileId"] = str(profile.profile_id)
    if profile.payments:
        told["paymentProfiles"] = [
            _payment_profile(ledger, account, profile, payment, body)
            for payment in profile.payments
        ]
    if profile.addresses:
        told["shipToList"] = [_address(address) for address in profile.addresses]
    told["profileType"] = profile.kind
    return _with_subscriptions({"profile": told}, ledger, profile)


def _with_subscriptions(
    payload: Tree, ledger: Ledger, profile: Profile, payment_id: int = 0, address_id: int = 0
) -> Reply:
    found = ledger.profiles.subscriptions_of(profile.profile_id, payment_id, address_id)
    if found:
        payload["subscriptionIds"] = list(map(str, found))
    return Reply(payload)


def get_payment(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """getCustomerPaymentProfileRequest; without an id the default one. Raises ApiError E00040,
    E00121."""
    profile = find(ledger, account, body)
    if "customerPaymentProfileId" in body:
        payment = find_payment(profile, body["customerPaymentProfileId"])
    else:
        payment = default_payment(profile)
    told = _payment_profile(ledger, account, profile, payment, body, alone=True)
    subscriptions = ledger.profiles.subscriptions_of(profile.profile_id, payment.payment_id, 0)
    if subscriptions:
        told = _in_order({**told, "subscriptionIds": list(map(str, subscriptions))})
    return Reply({"paymentProfile": told})


_ORDER: Final = (
    "customerType",
    "billTo",
    "customerProfileId",
    "customerPaymentProfileId",
    "defaultPaymentProfile",
    "payment",
    "driversLicense",
    "taxId",
    "subscriptionIds",
    "originalNetworkTransId",
    "originalAuthAmount",
    "excludeFromAccountUpdater",
)


def _in_order(told: Tree) -> Tree:
    return {key: told[key] for key in _ORDER if key in told}


def _payment_profile(
    ledger: Ledger,
    account: Account,
    profile: Profile,
    payment: PaymentProfile,
    asked: Tree,
    *,
    alone: bool = False,
) -> Tree:
    told = tree(payment.details)
    if payment.bill_to:
        told["billTo"] = tree(payment.bill_to)
    if alone:
        told["customerProfileId"] = str(profile.profile_id)
    told["customerPaymentProfileId"] = str(payment.payment_id)
    if profile.default_payment == payment.payment_id:
        told["defaultPaymentProfile"] = True
    kind_told = ledger.settings_of(account).payment_kind_told
    if payment.instrument.brand == "eCheck":
        bank = told.pop("bankAccount", {})
        told["payment"] = {"bankAccount": _bank_account(payment.instrument, bank, kind_told)}
    else:
        told["payment"] = {
            "creditCard": _card(ledger, payment.instrument, asked, alone and kind_told)
        }
    if "excludeFromAccountUpdater" in told:
        told["excludeFromAccountUpdater"] = said(told["excludeFromAccountUpdater"])
    if "originalAuthAmount" in told:
        told["originalAuthAmount"] = amounts.as_number(told["originalAuthAmount"])
    return _in_order(told)


def _bank_account(instrument: Instrument, bank: Tree, kind_told: bool) -> Tree:
    shown = {
        "accountType": bank.get("accountType", "checking" if kind_told else None),
        "routingNumber": bank.get("routingNumber", "XXXX"),
        "accountNumber": payment_methods.masked(instrument.last4),
        "nameOnAccount": bank.get("nameOnAccount", ""),
        "echeckType": bank.get("echeckType", "WEB"),
        "bankName": bank.get("bankName"),
    }
    return {name: value for name, value in shown.items() if value is not None}


def _card(ledger: Ledger, instrument: Instrument, asked: Tree, kind_told: bool) -> Tree:
    unmasked, issuer = said(asked.get("unmaskExpirationDate")), said(asked.get("includeIssuerInfo"))
    shown = {
        "cardNumber": payment_methods.masked(instrument.last4),
        "expirationDate": instrument.expiry if unmasked else "XXXX",
        "cardType": instrument.brand if kind_told or issuer else "",
        "issuerNumber": payment_methods.issuer_number(instrument, ledger.salt) if issuer else "",
    }
    return {name: value for name, value in shown.items() if value}


def _address(address: Address) -> Tree:
    return {**tree(address.ship_to), "customerAddressId": str(address.address_id)}


def get_address(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """getCustomerShippingAddressRequest; without an id the default one. Raises ApiError E00040,
    E00121."""
    profile = find(ledger, account, body)
    named = body.get("customerAddressId")
    address = profile.address(profile.default_address if named is None else number(named))
    if address is None:
        raise ApiError("E00121" if named is None else "E00040")
    payload: Tree = {
        "defaultShippingAddress": address.address_id == profile.default_address,
        "address": _address(address),
    }
    return _with_subscriptions(payload, ledger, profile, 0, address.address_id)


def expiring(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """getCustomerPaymentProfileListRequest: cards that expire in one month, one page of them, by
    id. Raises ApiError E00013."""
    month = payment_methods.year_month(body["month"])
    if month is None:
        raise ApiError("E00013", "Month is invalid.")
    shelf = ledger.profiles.shelf(account.login)
    found = shelf.expiring_in(month)
    start, stop = paging.bounds(body, len(found))
    descending = said((body.get("sorting") or {}).get("orderDescending"))
    by_id = reversed(found) if descending else iter(found)
    ordered = list(islice(by_id, start, stop))
    total = {"totalNumInResultSet": len(found)}
    if not ordered:
        return Reply(total, *NOTHING_FOUND)
    listed = [_list_item(ledger, account, shelf.profiles[found[each]], each) for each in ordered]
    return Reply({**total, "paymentProfiles": listed})


def _list_item(ledger: Ledger, account: Account, profile: Profile, payment_id: int) -> Tree:
    payment = profile.payment(payment_id)
    assert payment is not None
    told: Tree = {
        "defaultPaymentProfile": profile.default_payment == payment_id,
        "customerPaymentProfileId": payment_id,
        "customerProfileId": profile.profile_id,
        "billTo": tree(payment.bill_to),
    }
    shown = _payment_profile(ledger, account, profile, payment, {})
    also = ("payment", "originalNetworkTransId", "originalAuthAmount", "excludeFromAccountUpdater")
    return told | {key: shown[key] for key in also if key in shown}


def nonce(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """getCustomerPaymentProfileNonceRequest: a nonce in the place of a stored payment method.
    Raises ApiError E00040."""
    profile = find(ledger, account, body)
    payment = find_payment(profile, body["customerPaymentProfileId"])
    return accept_nonces.issue(ledger, account, payment.instrument, now)


def masked_payment(
    ledger: Ledger, account: Account, profile: Profile, payment: PaymentProfile
) -> Tree:
    """One payment profile as others show it beside their own."""
    return _payment_profile(ledger, account, profile, payment, {})


def masked_address(address: Address) -> Tree:
    """One shipping address, with its id."""
    return _address(address)
