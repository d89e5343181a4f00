"""Charges a stored payment method, and creates a profile from a charge."""

from typing import Final

import msgspec

from authorizenet_simulator.profiles import visibility
from authorizenet_simulator.profiles.profile_creation import (
    Duplicate,
    Identity,
    add_address,
    add_payment,
    check_room,
    identity,
    make,
)
from authorizenet_simulator.profiles.profile_queries import default_payment
from authorizenet_simulator.profiles.profile_reader import address as address_text
from authorizenet_simulator.profiles.profile_reader import is_true, number, tree
from authorizenet_simulator.state import payment_methods, statuses
from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.customer_profiles import Address, PaymentProfile, Profile
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.state.payment_methods import PaymentMethod
from authorizenet_simulator.state.transactions import Txn
from authorizenet_simulator.transactions.transaction_request import (
    AUTH,
    CAPTURE_ONLY,
    REFUND,
    SALE,
    TransactionRequest,
    charged,
)
from authorizenet_simulator.wire.codes import MESSAGES
from authorizenet_simulator.wire.replies import ApiError, Reply, Tree

NOT_FOUND: Final = "Customer Profile ID or Customer Payment Profile ID not found."
_CHARGES: Final = frozenset({SALE, AUTH, CAPTURE_ONLY})


def use(request: TransactionRequest, sent: Tree) -> None:
    """Put the payment method and addresses of the profile in `sent` into the request. Raises
    ApiError: E00040 for unknown ids, E00051 for another profile's transaction, E00090, E00092 and
    E00093 for fields that a profile excludes, E00095 for a card with a profile id but without a
    shipping profile id, E00098 for an unknown shipping profile, E00121 if no payment profile is
    given and the profile has no default one."""
    payment_sent: Tree | None = sent.get("paymentProfile")
    has_payment = "payment" in request.tree
    if has_payment and payment_sent is not None:
        raise ApiError("E00090")
    if has_payment and "customerProfileId" in sent and "shippingProfileId" not in sent:
        raise ApiError("E00095")
    if "shippingProfileId" in sent and "shipTo" in request.tree:
        raise ApiError("E00092")
    if payment_sent is not None and "billTo" in request.tree:
        raise ApiError("E00093")
    if "customerProfileId" not in sent:
        if payment_sent is not None or "shippingProfileId" in sent:
            raise ApiError("E00040", NOT_FOUND)
        return
    ledger, account = request.ledger, request.account
    profile = visibility.profile(ledger, account, number(sent["customerProfileId"]))
    if profile is None:
        raise ApiError("E00040", NOT_FOUND)
    request.customer = profile.profile_id
    shown: Tree = {"customerProfileId": str(profile.profile_id)}
    if payment_sent is not None:
        payment_id = number(payment_sent["paymentProfileId"])
        payment = visibility.payment(ledger, account, profile, payment_id)
        if payment is None:
            raise ApiError("E00040", NOT_FOUND)
        _put_payment(request, profile, payment, payment_sent.get("cardCode"))
        shown["customerPaymentProfileId"] = str(payment.payment_id)
    elif "payment" not in request.tree and request.tree["transactionType"] in (*_CHARGES, REFUND):
        payment = default_payment(ledger, account, profile)
        _put_payment(request, profile, payment, None)
        shown["customerPaymentProfileId"] = str(payment.payment_id)
    if "shippingProfileId" in sent:
        found = profile.address(number(sent["shippingProfileId"]))
        if found is None:
            raise ApiError("E00098")
        request.tree["shipTo"] = without_contact(tree(found.ship_to))
        shown["customerAddressId"] = str(found.address_id)
    request.tree["profile"] = shown


def _put_payment(
    request: TransactionRequest, profile: Profile, payment: PaymentProfile, code: str | None
) -> None:
    result = payment_methods.cvv_result(code)
    request.stored = msgspec.structs.replace(payment.method, cvv_result=result)
    if (bank := tree(payment.details).get("bankAccount")) is not None:
        request.how = {"bank": bank}
    if payment.bill_to:
        request.tree["billTo"] = tree(payment.bill_to)
    if "customer" not in request.tree:
        named = {"id": profile.merchant_customer_id, "email": profile.email}
        request.tree["customer"] = {key: value for key, value in named.items() if value}
    original = request.ledger.txns.get(number(request.tree.get("refTransId")))
    if original is not None and original.login == request.account.login:
        _check_issued_for(original, profile, payment)


def _check_issued_for(original: Txn, profile: Profile, payment: PaymentProfile) -> None:
    """Raise ApiError E00051 if the original was charged neither to the profile nor to its card."""
    kept = tree(original.details)
    through = kept.get("profile", {})
    ids = (through.get("customerProfileId"), through.get("customerPaymentProfileId"))
    if ids == (str(profile.profile_id), str(payment.payment_id)):
        return
    if charged(kept)[0] != payment.method.fingerprint:
        raise ApiError("E00051")


def without_contact(ship_to: Tree) -> Tree:
    """Remove telephone, fax and email, which a transaction's shipping address does not have."""
    contact = ("phoneNumber", "faxNumber", "email")
    return {key: value for key, value in ship_to.items() if key not in contact}


def show(request: TransactionRequest, reply: Reply) -> None:
    """Add the profile's ids to the reply, before the network transaction id."""
    if (shown := request.tree.get("profile")) is None:
        return
    response = reply.payload["transactionResponse"]
    network = response.pop("networkTransId", None)
    response["profile"] = shown
    if network is not None:
        response["networkTransId"] = network


def check_creation(request: TransactionRequest, sent: Tree) -> None:
    """Check a request with `createProfile`. Raises ApiError E00088, E00089."""
    if any(key != "createProfile" for key in sent):
        raise ApiError("E00088")
    if "payment" not in request.tree:
        raise ApiError("E00089")


def create_afterwards(request: TransactionRequest, reply: Reply) -> None:
    """Create a profile from an approved or held charge; an error does not undo the charge."""
    response = reply.payload["transactionResponse"]
    if response["responseCode"] not in ("1", "4") or response["transId"] == "0":
        return
    result, code, text = "Ok", "I00001", MESSAGES["I00001"]
    ids: Tree = {}
    try:
        ids = _ids_of(_create_of_charge(request))
    except ApiError as error:
        result, code, text = "Error", error.code, error.text
    messages = {"resultCode": result, "message": [{"code": code, "text": text}]}
    reply.payload["profileResponse"] = {"messages": messages, **ids}


def _create_of_charge(request: TransactionRequest) -> Profile:
    if "cim" in request.settings.switched_off:
        raise ApiError("E00044")
    if request.tree["transactionType"] not in _CHARGES:
        raise ApiError("E00100")
    if request.payment_method is None:
        raise ApiError("E00103")
    customer = request.tree.get("customer") or {}
    method = _storable(request.payment_method)
    bank = (request.tree.get("payment") or {}).get("bankAccount")
    shown: Tree = {} if "type" not in customer else {"customerType": customer["type"]}
    if bank is not None:
        shown["bankAccount"] = payment_methods.shown_bank(bank)
    return _create(
        request.ledger, request.account, _customer(customer), method, shown, request.tree
    )


def _customer(sent: Tree) -> Identity:
    """Return the transaction's customer. Raises ApiError E00102 if it has none."""
    if not sent.get("id") and not sent.get("email"):
        raise ApiError("E00102")
    return identity({"merchantCustomerId": sent.get("id", ""), "email": sent.get("email", "")})


def _storable(method: PaymentMethod) -> PaymentMethod:
    month = payment_methods.year_month(method.expiry) or ""
    return msgspec.structs.replace(method, expiry=month, cvv_result="")


def _create(
    ledger: Ledger,
    account: Account,
    wanted: Identity,
    method: PaymentMethod,
    shown: Tree,
    sent: Tree,
    *,
    kind: str = "regular",
    default_payment: bool = False,
    default_address: bool = False,
) -> Profile:
    """Create a profile with one payment method, and with the address if `sent` has one."""
    payment = _payment_of(ledger, method, shown, sent)
    ship_to = address_text(sent.get("shipTo"))
    addresses = [Address(ledger.profiles.next.address, ship_to)] if ship_to else []
    return make(
        ledger,
        account.login,
        wanted,
        [payment],
        addresses,
        kind=kind,
        default_payment=payment.payment_id if default_payment else 0,
        default_address=addresses[0].address_id if default_address and addresses else 0,
    )


def _payment_of(ledger: Ledger, method: PaymentMethod, shown: Tree, sent: Tree) -> PaymentProfile:
    details = payment_methods.without_card_numbers(msgspec.json.encode(shown).decode())
    return PaymentProfile(
        ledger.profiles.next.payment,
        method,
        address_text(sent.get("billTo")),
        details if shown else "",
        ledger.clock.now_ms(),
    )


def _ids_of(profile: Profile) -> Tree:
    return {
        "customerProfileId": str(profile.profile_id),
        "customerPaymentProfileIdList": [str(each.payment_id) for each in profile.payments],
        "customerShippingAddressIdList": [str(each.address_id) for each in profile.addresses],
    }


def from_transaction(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """createCustomerProfileFromTransactionRequest: create a profile, or add a payment method and
    address to one. Raises ApiError E00039, E00040, E00042, E00099 to E00103."""
    txn = ledger.txns.get(number(body["transId"]))
    if txn is None or txn.login != account.login:
        raise ApiError("E00099")
    if txn.type not in _CHARGES:
        raise ApiError("E00100")
    if txn.response_code not in (1, 4) or txn.status == statuses.VOIDED:
        raise ApiError("E00101")
    sent = tree(txn.details)
    fingerprint, expiry = charged(sent)
    if not fingerprint:
        raise ApiError("E00103")
    legacy = fingerprint == payment_methods.fingerprint(
        payment_methods.LEGACY_TEST_CARD, ledger.salt
    )
    method = PaymentMethod(fingerprint, txn.last4, txn.brand, expiry, legacy=legacy)
    customer = sent.get("customer") or {}
    shown: Tree = {} if "type" not in customer else {"customerType": customer["type"]}
    if "bank" in sent:
        shown["bankAccount"] = sent["bank"]
    default_payment = is_true(body.get("defaultPaymentProfile"))
    default_address = is_true(body.get("defaultShippingAddress"))
    if "customerProfileId" not in body:
        wanted = identity(body["customer"]) if body.get("customer") else _customer(customer)
        made = _create(
            ledger,
            account,
            wanted,
            _storable(method),
            shown,
            sent,
            kind=body.get("profileType", "regular"),
            default_payment=default_payment,
            default_address=default_address,
        )
        return Reply({**_ids_of(made), "validationDirectResponseList": []})
    profile = visibility.profile(ledger, account, number(body["customerProfileId"]))
    if profile is None:
        raise ApiError("E00040")
    payment = _payment_of(ledger, _storable(method), shown, sent)
    ship_to = address_text(sent.get("shipTo"))
    check_room(0, len(profile.addresses) + bool(ship_to))
    payload: Tree = {
        "customerProfileId": str(profile.profile_id),
        "customerPaymentProfileIdList": [str(payment.payment_id)],
        "customerShippingAddressIdList": [],
        "validationDirectResponseList": [],
    }
    try:
        add_payment(ledger, account.login, profile, payment, default_payment or None)
    except Duplicate as duplicate:
        told = ledger.settings_of(account).duplicate_ids_told
        payload["customerPaymentProfileIdList"] = [str(duplicate.existing)] if told else []
        return Reply(payload, "Error", duplicate.code, duplicate.text)
    if ship_to:
        address = Address(ledger.profiles.next.address, ship_to)
        try:
            add_address(ledger, account.login, profile, address, default_address or None)
            address_id = address.address_id
        except Duplicate as duplicate:
            address_id = duplicate.existing
        payload["customerShippingAddressIdList"] = [str(address_id)]
    return Reply(payload)
