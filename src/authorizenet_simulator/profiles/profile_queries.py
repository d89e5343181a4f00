"""Requests that read customer profiles, their parts and lists. Numbers are masked."""

from itertools import islice
from typing import Final

from authorizenet_simulator.profiles import visibility
from authorizenet_simulator.profiles.profile_reader import is_true, number, tree
from authorizenet_simulator.state import payment_methods
from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.customer_profiles import Address, PaymentProfile, Profile
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.state.payment_methods import PaymentMethod
from authorizenet_simulator.transactions import accept_nonces
from authorizenet_simulator.wire import amounts, paging
from authorizenet_simulator.wire.replies import NOTHING_FOUND, ApiError, Reply, Tree


def find(ledger: Ledger, account: Account, body: Tree) -> Profile:
    """Return the account's profile with the id in `body`. Raises ApiError E00040."""
    profile = visibility.profile(ledger, account, number(body.get("customerProfileId")))
    if profile is None:
        raise ApiError("E00040")
    return profile


def find_payment(
    ledger: Ledger, account: Account, profile: Profile, payment_id: str | None
) -> PaymentProfile:
    """Return the payment profile. Raises ApiError E00040 if there is none."""
    payment = visibility.payment(ledger, account, profile, number(payment_id))
    if payment is None:
        raise ApiError("E00040")
    return payment


def default_payment(ledger: Ledger, account: Account, profile: Profile) -> PaymentProfile:
    """Return the default payment profile. Raises ApiError E00121 if there is none."""
    payment = visibility.payment(ledger, account, profile, profile.default_payment)
    if payment is None:
        raise ApiError("E00121")
    return payment


def get_ids(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """getCustomerProfileIdsRequest."""
    return Reply({"ids": list(map(str, ledger.profiles.shelf(account.login).profiles))})


def get(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """getCustomerProfileRequest: by id, by the merchant's id or by email; the newest if several
    match. Raises ApiError E00040."""
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
        newest = (visibility.profile(ledger, account, each) for each in reversed(found))
        known = next(filter(None, newest), None)
        if known is None:
            raise ApiError("E00040")
        profile = known
    named = {
        "merchantCustomerId": profile.merchant_customer_id,
        "description": profile.description,
        "email": profile.email,
    }
    result: Tree = {key: value for key, value in named.items() if value}
    result["customerProfileId"] = str(profile.profile_id)
    if payments := visibility.payments(ledger, account, profile):
        result["paymentProfiles"] = [
            _payment_profile(ledger, account, profile, payment, body) for payment in payments
        ]
    if profile.addresses:
        result["shipToList"] = [_address(address) for address in profile.addresses]
    result["profileType"] = profile.kind
    return _with_subscriptions({"profile": result}, ledger, profile)


def _with_subscriptions(
    payload: Tree, ledger: Ledger, profile: Profile, payment_id: int = 0, address_id: int = 0
) -> Reply:
    found = ledger.profiles.subscriptions_of(profile.profile_id, payment_id, address_id)
    if found:
        payload["subscriptionIds"] = list(map(str, found))
    return Reply(payload)


def get_payment(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """getCustomerPaymentProfileRequest: by id, or the default one. Raises ApiError E00040,
    E00121."""
    profile = find(ledger, account, body)
    if "customerPaymentProfileId" in body:
        payment = find_payment(ledger, account, profile, body["customerPaymentProfileId"])
    else:
        payment = default_payment(ledger, account, profile)
    result = _payment_profile(ledger, account, profile, payment, body, alone=True)
    subscriptions = ledger.profiles.subscriptions_of(profile.profile_id, payment.payment_id, 0)
    if subscriptions:
        result = _in_order({**result, "subscriptionIds": list(map(str, subscriptions))})
    return Reply({"paymentProfile": result})


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


def _in_order(result: Tree) -> Tree:
    return {key: result[key] for key in _ORDER if key in result}


def _payment_profile(
    ledger: Ledger,
    account: Account,
    profile: Profile,
    payment: PaymentProfile,
    request: Tree,
    *,
    alone: bool = False,
) -> Tree:
    result = tree(payment.details)
    if payment.bill_to:
        result["billTo"] = tree(payment.bill_to)
    if alone:
        result["customerProfileId"] = str(profile.profile_id)
    result["customerPaymentProfileId"] = str(payment.payment_id)
    if profile.default_payment == payment.payment_id:
        result["defaultPaymentProfile"] = True
    kind_told = ledger.settings_of(account).payment_kind_told
    if payment.method.brand == "eCheck":
        bank = result.pop("bankAccount", {})
        result["payment"] = {"bankAccount": _bank_account(payment.method, bank, kind_told)}
    else:
        result["payment"] = {
            "creditCard": _card(ledger, payment.method, request, alone and kind_told)
        }
    if "excludeFromAccountUpdater" in result:
        result["excludeFromAccountUpdater"] = is_true(result["excludeFromAccountUpdater"])
    if "originalAuthAmount" in result:
        result["originalAuthAmount"] = amounts.as_number(result["originalAuthAmount"])
    return _in_order(result)


def _bank_account(method: PaymentMethod, bank: Tree, kind_told: bool) -> Tree:
    shown = {
        "accountType": bank.get("accountType", "checking" if kind_told else None),
        "routingNumber": bank.get("routingNumber", "XXXX"),
        "accountNumber": payment_methods.masked(method.last4),
        "nameOnAccount": bank.get("nameOnAccount", ""),
        "echeckType": bank.get("echeckType", "WEB"),
        "bankName": bank.get("bankName"),
    }
    return {name: value for name, value in shown.items() if value is not None}


def _card(ledger: Ledger, method: PaymentMethod, request: Tree, kind_told: bool) -> Tree:
    unmasked = is_true(request.get("unmaskExpirationDate"))
    issuer = is_true(request.get("includeIssuerInfo"))
    shown = {
        "cardNumber": payment_methods.masked(method.last4),
        "expirationDate": method.expiry if unmasked else "XXXX",
        "cardType": method.brand if kind_told or issuer else "",
        "issuerNumber": payment_methods.issuer_number(method, ledger.salt) if issuer else "",
    }
    return {name: value for name, value in shown.items() if value}


def _address(address: Address) -> Tree:
    return {**tree(address.ship_to), "customerAddressId": str(address.address_id)}


def get_address(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """getCustomerShippingAddressRequest: by id, or the default one. Raises ApiError E00040,
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
    """getCustomerPaymentProfileListRequest: one page of the cards that expire in a month, ordered
    by id. Raises ApiError E00013."""
    month = payment_methods.year_month(body["month"])
    if month is None:
        raise ApiError("E00013", "Month is invalid.")
    shelf = ledger.profiles.shelf(account.login)
    found = shelf.expiring_in(month)
    start, stop = paging.bounds(body, len(found))
    descending = is_true((body.get("sorting") or {}).get("orderDescending"))
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
    result: Tree = {
        "defaultPaymentProfile": profile.default_payment == payment_id,
        "customerPaymentProfileId": payment_id,
        "customerProfileId": profile.profile_id,
        "billTo": tree(payment.bill_to),
    }
    shown = _payment_profile(ledger, account, profile, payment, {})
    also = ("payment", "originalNetworkTransId", "originalAuthAmount", "excludeFromAccountUpdater")
    return result | {key: shown[key] for key in also if key in shown}


def nonce(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """getCustomerPaymentProfileNonceRequest: issue a nonce for a stored payment method.
    Raises ApiError E00040."""
    profile = find(ledger, account, body)
    payment = find_payment(ledger, account, profile, body["customerPaymentProfileId"])
    return accept_nonces.issue(ledger, account, payment.method, now)


def masked_payment(
    ledger: Ledger, account: Account, profile: Profile, payment: PaymentProfile
) -> Tree:
    """Return a payment profile for a subscription's reply, masked."""
    return _payment_profile(ledger, account, profile, payment, {})


def masked_address(address: Address) -> Tree:
    """Return a shipping address with its id."""
    return _address(address)
