"""Write the requests to Authorize.Net's customer vault (CIM): pure functions to bytes.

As everywhere, the keys of every object are in the schema's order. The reference of a profile is
its `merchantCustomerId`, by which it is found again; `refId` is one call's own, and is checked.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from easypay.processors.authorize_net.messages import (
    authentication,
    bill_to_element,
    method_element,
    text,
    whole,
)
from easypay.processors.base import Account, BankAccount, Card
from easypay.processors.customer_vault import (
    MethodIds,
    StoreFromTransactionRequest,
    StoreRequest,
    UpdateRequest,
    VaultedMethod,
)


class Message(NamedTuple):
    """A request without credentials: the method's name, and its fields in order."""

    name: str
    fields: dict[str, object]


def encode(message: Message, account: Account, ref_id: str) -> bytes:
    """Return the bytes of a request. `ref_id`: at most 20 characters, echoed by the reply."""
    head = {"merchantAuthentication": authentication(account), "refId": ref_id}
    return msgspec.json.encode({message.name: {**head, **message.fields}})


def new_profile(request: StoreRequest) -> Message:
    """Make a profile with one method."""
    profile = {**_identity(request), "paymentProfiles": [_payment_profile(request)]}
    mode = _validation_mode(request)
    return Message("createCustomerProfileRequest", {"profile": profile, "validationMode": mode})


def new_method(request: StoreRequest, customer_profile_id: str) -> Message:
    """Add a method to a profile."""
    return Message(
        "createCustomerPaymentProfileRequest",
        {
            "customerProfileId": customer_profile_id,
            "paymentProfile": _payment_profile(request),
            "validationMode": _validation_mode(request),
        },
    )


def from_transaction(
    request: StoreFromTransactionRequest, customer_profile_id: str | None
) -> Message:
    """Store a transaction's method, in a profile or in a new one."""
    fields: dict[str, object] = {"transId": request.transaction_id}
    if customer_profile_id is None:
        fields["customer"] = _identity(request)
    else:
        fields["customerProfileId"] = customer_profile_id
    return Message("createCustomerProfileFromTransactionRequest", fields)


def profile_by_id(customer_profile_id: str) -> Message:
    """Request a profile with its methods, their expiry and brand."""
    return Message(
        "getCustomerProfileRequest", {"customerProfileId": customer_profile_id, **_SHOW_ALL}
    )


def profile_by_reference(reference: str) -> Message:
    """Request the profile that was made with `reference`."""
    return Message("getCustomerProfileRequest", {"merchantCustomerId": reference, **_SHOW_ALL})


def one_method(ids: MethodIds) -> Message:
    """Request one method, with its expiry and brand."""
    return Message("getCustomerPaymentProfileRequest", {**_named(ids), **_SHOW_ALL})


def changed_method(request: UpdateRequest, shown: Mapping[str, Any]) -> Message:
    """Change a method. `shown` is the method as the processor showed it: what is sent back masked
    stays as it is, and what is not sent might be removed."""
    profile: dict[str, object] = {}
    if isinstance(kind := shown.get("customerType"), str):
        profile["customerType"] = kind
    if request.billing_address is not None:
        bill_to = bill_to_element(request.billing_address)
    else:
        bill_to = _sent_back(shown.get("billTo"), _ADDRESS)
    if bill_to:
        profile["billTo"] = bill_to
    if payment := _payment_sent_back(request, shown.get("payment")):
        profile["payment"] = payment
    is_default = request.is_default
    if is_default is None and shown.get("defaultPaymentProfile") is True:
        is_default = True
    if is_default is not None:
        profile["defaultPaymentProfile"] = is_default
    return _update(request.ids, profile)


def stored_again(request: StoreRequest, stored: VaultedMethod) -> Message:
    """Give a stored card the expiry and address with which it was to be stored again."""
    profile = _payment_profile(msgspec.structs.replace(request, validate=False))
    if stored.is_default:
        profile["defaultPaymentProfile"] = True
    return _update(stored.ids, profile)


def validation(ids: MethodIds, cvc: str | None) -> Message:
    """Let the issuer check a stored method."""
    fields: dict[str, object] = {**_named(ids)}
    if cvc:
        fields["cardCode"] = cvc
    return Message(
        "validateCustomerPaymentProfileRequest", {**fields, "validationMode": "liveMode"}
    )


def method_deletion(ids: MethodIds) -> Message:
    """Delete one method."""
    return Message("deleteCustomerPaymentProfileRequest", {**_named(ids)})


def profile_deletion(customer_profile_id: str) -> Message:
    """Delete a profile with its methods."""
    return Message("deleteCustomerProfileRequest", {"customerProfileId": customer_profile_id})


_SHOW_ALL: Final[Mapping[str, object]] = {"unmaskExpirationDate": True, "includeIssuerInfo": True}
"""Without these the expiry is masked and the brand left out."""
_ADDRESS: Final = (
    "firstName", "lastName", "company", "address", "city", "state", "zip", "country",
    "phoneNumber", "faxNumber", "email",
)  # fmt: skip
_BANK: Final = (
    "accountType", "routingNumber", "accountNumber", "nameOnAccount", "echeckType", "bankName",
)  # fmt: skip


def _named(ids: MethodIds) -> dict[str, str]:
    return {
        "customerProfileId": ids.customer_profile_id,
        "customerPaymentProfileId": ids.payment_profile_id,
    }


def _identity(request: StoreRequest | StoreFromTransactionRequest) -> dict[str, object]:
    identity: dict[str, object] = {"merchantCustomerId": request.reference}
    if description := text(request.description, 255):
        identity["description"] = description
    if email := whole(request.email, 255):
        identity["email"] = email
    return identity


def _payment_profile(request: StoreRequest) -> dict[str, object]:
    profile: dict[str, object] = {}
    if request.billing_address and (bill_to := bill_to_element(request.billing_address)):
        profile["billTo"] = bill_to
    method = request.method
    if isinstance(method, Card) and not request.validate:  # the code is for the check only
        method = msgspec.structs.replace(method, cvc=None)
    _, profile["payment"] = method_element(method)
    return profile


def _validation_mode(request: StoreRequest) -> str:
    if not request.validate:
        return "none"
    # A bank account cannot be authorized for nothing: only its form is checked.
    return "testMode" if isinstance(request.method, BankAccount) else "liveMode"


def _update(ids: MethodIds, profile: dict[str, object]) -> Message:
    return Message(
        "updateCustomerPaymentProfileRequest",
        {
            "customerProfileId": ids.customer_profile_id,
            "paymentProfile": {**profile, "customerPaymentProfileId": ids.payment_profile_id},
            "validationMode": "none",
        },
    )


def _payment_sent_back(request: UpdateRequest, payment: object) -> dict[str, object] | None:
    if not isinstance(payment, dict):
        return None
    if isinstance(bank := payment.get("bankAccount"), dict):
        return {"bankAccount": _sent_back(bank, _BANK)}
    card = payment.get("creditCard")
    if not isinstance(card, dict):
        return None
    number, expiry = card.get("cardNumber"), card.get("expirationDate")
    if not isinstance(number, str):
        return None
    year, _, month = expiry.partition("-") if isinstance(expiry, str) else ("", "", "")
    if request.exp_year is not None:
        year = f"{request.exp_year:04d}"
    if request.exp_month is not None:
        month = f"{request.exp_month:02d}"
    known = year.isdigit() and month.isdigit()
    shown = f"{year}-{month}" if known else "XXXX"
    return {"creditCard": {"cardNumber": number, "expirationDate": shown}}


def _sent_back(shown: object, names: tuple[str, ...]) -> dict[str, str]:
    if not isinstance(shown, dict):
        return {}
    return {name: value for name in names if isinstance(value := shown.get(name), str) and value}
