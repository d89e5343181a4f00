"""Requests that create, change and delete customer profiles; `METHODS` lists all of them."""

from typing import Final

from authorizenet_simulator.profiles import (
    profile_charges,
    profile_creation,
    profile_notifications,
    profile_queries,
    profile_transactions,
    profile_validation,
)
from authorizenet_simulator.profiles.profile_creation import Duplicate, Identity
from authorizenet_simulator.profiles.profile_queries import find, find_payment
from authorizenet_simulator.profiles.profile_reader import address as address_text
from authorizenet_simulator.profiles.profile_reader import is_true, number, payment_profile
from authorizenet_simulator.profiles.profile_validation import NO_ADDRESS, judged
from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.customer_profiles import (
    Address,
    AddressDeleted,
    AddressStored,
    PaymentDeleted,
    PaymentProfile,
    PaymentStored,
    Profile,
    ProfileChanged,
    ProfileDeleted,
)
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.transactions import address_checks
from authorizenet_simulator.wire.replies import ApiError, Handler, Reply, Tree


def _default(sent: Tree, name: str) -> bool | None:
    return is_true(sent[name]) if name in sent else None


def create(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """createCustomerProfileRequest: create everything in the request, or nothing."""
    payload: Tree = {
        "customerPaymentProfileIdList": [],
        "customerShippingAddressIdList": [],
        "validationDirectResponseList": [],
    }
    try:
        return _create(ledger, account, body, now, payload)
    except ApiError as error:
        return Reply(payload, "Error", error.code, error.text)


def _create(ledger: Ledger, account: Account, body: Tree, now: int, payload: Tree) -> Reply:
    sent = body["profile"]
    wanted = profile_creation.identity(sent)
    profile_creation.check_identity(ledger, account.login, wanted)
    listed, addressed = sent.get("paymentProfiles", ()), sent.get("shipToList", ())
    profile_creation.check_room(len(listed), len(addressed))
    payments: list[PaymentProfile] = []
    default_payment = 0
    for payment_id, each in enumerate(listed, ledger.profiles.next.payment):
        payment = payment_profile(ledger, account, each, payment_id, now)
        profile_creation.check_payment(None, payments, payment)
        payments.append(payment)
        if is_true(each.get("defaultPaymentProfile")):
            default_payment = payment_id
    addresses: list[Address] = []
    for address_id, each in enumerate(addressed, ledger.profiles.next.address):
        _check_place(ledger, account, each)
        address = Address(address_id, address_text(each))
        profile_creation.check_address(None, addresses, address)
        addresses.append(address)
    for payment in payments:
        verdict = profile_validation.validate(
            ledger, account, wanted, payment, body.get("validationMode", "none"), now
        )
        if verdict is not None:
            payload["validationDirectResponseList"].append(verdict.direct)
            if verdict.problem is not None:
                raise ApiError("E00027", verdict.problem)
    made = profile_creation.make(
        ledger,
        account.login,
        wanted,
        payments,
        addresses,
        kind=sent.get("profileType", "regular"),
        default_payment=default_payment,
    )
    return Reply(
        {
            "customerProfileId": str(made.profile_id),
            "customerPaymentProfileIdList": [str(each.payment_id) for each in payments],
            "customerShippingAddressIdList": [str(each.address_id) for each in addresses],
            "validationDirectResponseList": payload["validationDirectResponseList"],
        }
    )


def update(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """updateCustomerProfileRequest: omitted fields become empty, except the profile's type.
    Raises ApiError E00039, E00040, E00041."""
    sent = body["profile"]
    profile = find(ledger, account, sent)
    wanted = profile_creation.identity(sent)
    profile_creation.check_identity(ledger, account.login, wanted, profile.profile_id)
    kind = sent.get("profileType", profile.kind)
    ledger.do(ProfileChanged(account.login, profile.profile_id, *wanted, kind))
    profile_notifications.customer(ledger, account.login, profile, "updated")
    return Reply({})


def delete(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """deleteCustomerProfileRequest. Raises ApiError E00040, E00106."""
    profile = find(ledger, account, body)
    if ledger.profiles.subscriptions_of(profile.profile_id, 0, 0):
        raise ApiError("E00106")
    ledger.do(ProfileDeleted(account.login, profile.profile_id))
    profile_notifications.customer(ledger, account.login, profile, "deleted")
    return Reply({})


def create_payment(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """createCustomerPaymentProfileRequest. The reply to a duplicate has the existing id.
    Raises ApiError E00040, E00042 and those of a payment method."""
    profile = find(ledger, account, body)
    sent = body["paymentProfile"]
    payment = payment_profile(ledger, account, sent, ledger.profiles.next.payment, now)
    payload: Tree = {"customerProfileId": str(profile.profile_id)}
    try:
        profile_creation.check_payment(profile, [], payment)
    except Duplicate as duplicate:
        if not ledger.settings_of(account).duplicate_ids_told:
            payload = {}
        else:
            payload["customerPaymentProfileId"] = str(duplicate.existing)
        return Reply(payload, "Error", duplicate.code, duplicate.text)
    profile_creation.check_room(len(profile.payments) + 1, 0)
    customer, mode = Identity(*profile.identity), body.get("validationMode", "none")
    verdict = profile_validation.validate(ledger, account, customer, payment, mode, now)
    if verdict is not None and verdict.problem is not None:
        return judged({**payload, "validationDirectResponse": verdict.direct}, verdict)
    default = _default(sent, "defaultPaymentProfile")
    profile_creation.add_payment(ledger, account.login, profile, payment, default)
    payload["customerPaymentProfileId"] = str(payment.payment_id)
    if verdict is not None:
        payload["validationDirectResponse"] = verdict.direct
    return Reply(payload)


def update_payment(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """updateCustomerPaymentProfileRequest: masked values and an omitted payment method or address
    are kept, everything else is replaced. Raises ApiError E00039, E00040 and those of a payment
    method."""
    profile = find(ledger, account, body)
    sent = body["paymentProfile"]
    before = find_payment(ledger, account, profile, sent.get("customerPaymentProfileId"))
    payment = payment_profile(ledger, account, sent, before.payment_id, now, before)
    profile_creation.check_payment(profile, [], payment)
    customer, mode = Identity(*profile.identity), body.get("validationMode", "none")
    verdict = profile_validation.validate(ledger, account, customer, payment, mode, now)
    if verdict is None or verdict.problem is None:
        default = _default(sent, "defaultPaymentProfile")
        ledger.do(PaymentStored(account.login, profile.profile_id, payment, default))
        profile_notifications.payment_profile(ledger, account.login, profile, payment, "updated")
    if verdict is None:
        return Reply({})
    return judged({"validationDirectResponse": verdict.direct}, verdict)


def delete_payment(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """deleteCustomerPaymentProfileRequest. Raises ApiError E00040, E00105."""
    profile = find(ledger, account, body)
    payment = find_payment(ledger, account, profile, body["customerPaymentProfileId"])
    if ledger.profiles.subscriptions_of(profile.profile_id, payment.payment_id, 0):
        raise ApiError("E00105")
    ledger.do(PaymentDeleted(account.login, profile.profile_id, payment.payment_id))
    profile_notifications.payment_profile(ledger, account.login, profile, payment, "deleted")
    return Reply({})


def create_address(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """createCustomerShippingAddressRequest. The reply to a duplicate has the existing id.
    Raises ApiError E00040, E00043."""
    profile = find(ledger, account, body)
    _check_place(ledger, account, body["address"])
    address = Address(ledger.profiles.next.address, address_text(body["address"]))
    default = _default(body, "defaultShippingAddress")
    payload: Tree = {"customerProfileId": str(profile.profile_id)}
    try:
        profile_creation.add_address(ledger, account.login, profile, address, default)
    except Duplicate as duplicate:
        payload["customerAddressId"] = str(duplicate.existing)
        return Reply(payload, "Error", duplicate.code, duplicate.text)
    payload["customerAddressId"] = str(address.address_id)
    return Reply(payload)


def update_address(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """updateCustomerShippingAddressRequest. Raises ApiError E00039, E00040."""
    profile = find(ledger, account, body)
    sent = dict(body["address"])
    before = _find_address(profile, sent.pop("customerAddressId", None), NO_ADDRESS)
    _check_place(ledger, account, sent)
    address = Address(before.address_id, address_text(sent))
    profile_creation.check_address(profile, [], address)
    default = _default(body, "defaultShippingAddress")
    ledger.do(AddressStored(account.login, profile.profile_id, address, default))
    return Reply({})


def delete_address(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """deleteCustomerShippingAddressRequest. Raises ApiError E00040, E00107."""
    profile = find(ledger, account, body)
    address = _find_address(profile, body["customerAddressId"], None)
    if ledger.profiles.subscriptions_of(profile.profile_id, 0, address.address_id):
        raise ApiError("E00107")
    ledger.do(AddressDeleted(account.login, profile.profile_id, address.address_id))
    return Reply({})


def _check_place(ledger: Ledger, account: Account, address: Tree) -> None:
    """Check country and state. Raises ApiError E00082, E00085."""
    address_checks.check(ledger.settings_of(account), {"shipTo": address})


def _find_address(profile: Profile, address_id: str | None, text: str | None) -> Address:
    address = profile.address(number(address_id))
    if address is None:
        raise ApiError("E00040", text)
    return address


METHODS: Final[dict[str, Handler]] = {
    "createCustomerProfileRequest": create,
    "createCustomerProfileFromTransactionRequest": profile_charges.from_transaction,
    "getCustomerProfileRequest": profile_queries.get,
    "getCustomerProfileIdsRequest": profile_queries.get_ids,
    "updateCustomerProfileRequest": update,
    "deleteCustomerProfileRequest": delete,
    "createCustomerPaymentProfileRequest": create_payment,
    "getCustomerPaymentProfileRequest": profile_queries.get_payment,
    "getCustomerPaymentProfileListRequest": profile_queries.expiring,
    "getCustomerPaymentProfileNonceRequest": profile_queries.nonce,
    "updateCustomerPaymentProfileRequest": update_payment,
    "deleteCustomerPaymentProfileRequest": delete_payment,
    "validateCustomerPaymentProfileRequest": profile_validation.validate_request,
    "createCustomerShippingAddressRequest": create_address,
    "getCustomerShippingAddressRequest": profile_queries.get_address,
    "updateCustomerShippingAddressRequest": update_address,
    "deleteCustomerShippingAddressRequest": delete_address,
    "createCustomerProfileTransactionRequest": profile_transactions.create,
}
