"""Write the requests that move money: pure functions from a request to bytes.

Authorize.Net maps JSON onto an XML sequence, so the keys of every object are in the schema's
order. Each operation sends its reference as `refId`, which is echoed and checked, and as invoice
number, by which an inquiry finds it.
"""

from typing import Final

import msgspec

from easypay.money import Money
from easypay.processors.base import (
    Account,
    Address,
    AuthorizeRequest,
    BankAccount,
    CaptureRequest,
    Card,
    Method,
    RefundRequest,
    ReviewRequest,
    StoredCredential,
    StoredMethod,
    VoidRequest,
)

DUPLICATE_WINDOW_S: Final = 28_800
"""The longest that Authorize.Net allows. A repeat within it is refused with reason 11."""

_WINDOW: Final = {"settingName": "duplicateWindow", "settingValue": str(DUPLICATE_WINDOW_S)}
_RECURRING: Final = {"settingName": "recurringBilling", "settingValue": "true"}
_SETTINGS: Final = msgspec.Raw(msgspec.json.encode({"setting": [_WINDOW]}))
_ALL_OR_NOTHING: Final = {"settingName": "allowPartialAuth", "settingValue": "false"}
"""Always sent: by default an account may approve a prepaid card for less than was asked."""
_PAYMENT_SETTINGS: Final = {
    recurring: msgspec.Raw(msgspec.json.encode({"setting": settings}))
    for recurring, settings in (
        (False, [_ALL_OR_NOTHING, _WINDOW]),
        (True, [_ALL_OR_NOTHING, _RECURRING, _WINDOW]),
    )
}


def authorization(request: AuthorizeRequest) -> bytes:
    """Write a sale (`capture`) or an authorization. Text is cut to the processor's lengths."""
    transaction: dict[str, object] = {
        "transactionType": "authCaptureTransaction" if request.capture else "authOnlyTransaction",
        "amount": Money(request.amount_minor, request.currency).decimal_string(),
        "currencyCode": request.currency,
    }
    name, method = method_element(request.method)
    transaction[name] = method
    details = request.details
    transaction["order"] = {"invoiceNumber": request.reference}
    if description := text(details.description, 255):
        transaction["order"] = {"invoiceNumber": request.reference, "description": description}
    if order_reference := whole(details.order_reference, 25):
        transaction["poNumber"] = order_reference
    if not isinstance(request.method, StoredMethod):  # it has its own; sending both is E00091
        if customer := _customer(request):
            transaction["customer"] = customer
        if request.billing_address and (bill_to := bill_to_element(request.billing_address)):
            transaction["billTo"] = bill_to
    if customer_ip := text(request.customer_ip, 45):
        transaction["customerIP"] = customer_ip
    credential = request.stored_credential
    recurring = credential is not None and credential.recurring
    transaction["transactionSettings"] = _PAYMENT_SETTINGS[recurring]
    if descriptor := text(details.statement_descriptor, 255):
        transaction["merchantDescriptor"] = descriptor
    if credential is not None:
        transaction |= _stored_credential(credential, request.currency)
    return _create_transaction(request.account, request.reference, transaction)


def capture(request: CaptureRequest) -> bytes:
    """Write the capture of an earlier authorization."""
    return _create_transaction(
        request.account,
        request.reference,
        {
            "transactionType": "priorAuthCaptureTransaction",
            "amount": Money(request.amount_minor, request.currency).decimal_string(),
            "currencyCode": request.currency,
            "refTransId": request.transaction_id,
            "order": {"invoiceNumber": request.reference},
            "transactionSettings": _SETTINGS,
        },
    )


def void(request: VoidRequest) -> bytes:
    """Write the void of a transaction that has not settled."""
    return _create_transaction(
        request.account,
        request.reference,
        {
            "transactionType": "voidTransaction",
            "refTransId": request.transaction_id,
            "order": {"invoiceNumber": request.reference},
            "transactionSettings": _SETTINGS,
        },
    )


def refund(request: RefundRequest) -> bytes:
    """Write the refund of a settled transaction to its card or bank account."""
    name, method = _refunded_to(request)
    return _create_transaction(
        request.account,
        request.reference,
        {
            "transactionType": "refundTransaction",
            "amount": Money(request.amount_minor, request.currency).decimal_string(),
            "currencyCode": request.currency,
            name: method,
            "refTransId": request.transaction_id,
            "order": {"invoiceNumber": request.reference},
            "transactionSettings": _SETTINGS,
        },
    )


def review(request: ReviewRequest) -> bytes:
    """Write the decision on a held transaction: approve it, or end it."""
    held = {
        "action": "approve" if request.approve else "decline",
        "refTransId": request.transaction_id,
    }
    return msgspec.json.encode(
        {
            "updateHeldTransactionRequest": {
                "merchantAuthentication": authentication(request.account),
                "refId": request.reference,
                "heldTransactionRequest": held,
            }
        }
    )


def authenticate_test(account: Account, reference: str) -> bytes:
    """Write a request that only checks the credentials."""
    return msgspec.json.encode(
        {
            "authenticateTestRequest": {
                "merchantAuthentication": authentication(account),
                "refId": reference,
            }
        }
    )


def authentication(account: Account) -> dict[str, str]:
    """Return the credentials, the first element of every request."""
    return {
        "name": account.credentials["login_id"],
        "transactionKey": account.credentials["transaction_key"],
    }


def text(value: str | None, limit: int) -> str | None:
    """Return free text as the schema takes it: at most `limit` characters, none of them control.

    .NET counts UTF-16 code units, so an emoji counts twice; none is cut in half.
    """
    if value is None:
        return None
    if value.isascii() and value.isprintable():  # nearly always
        return value[:limit].strip() or None
    if not value.isprintable():  # XML cannot hold these, and a lone surrogate has no bytes
        value = "".join(c if c.isprintable() else " " for c in value)
    units = value.encode("utf-16-le")[: 2 * limit]
    return units.decode("utf-16-le", "ignore").strip() or None


def whole(value: str | None, limit: int) -> str | None:
    """Return the same if it fits uncut, else None: a part of it would mean something else."""
    if value is None:
        return None
    found = text(value, 4 * limit)
    if found is None or (len(found) if found.isascii() else _units(found)) > limit:
        return None
    return found


def _units(value: str) -> int:
    """Return the length in UTF-16 code units, as .NET counts it."""
    return len(value.encode("utf-16-le")) // 2


def _create_transaction(account: Account, reference: str, transaction: dict[str, object]) -> bytes:
    return msgspec.json.encode(
        {
            "createTransactionRequest": {
                "merchantAuthentication": authentication(account),
                "refId": reference,
                "transactionRequest": transaction,
            }
        }
    )


def method_element(method: Method) -> tuple[str, dict[str, object]]:
    """Return the name of the payment method's element, and its content."""
    if isinstance(method, Card):
        card = {
            "cardNumber": method.number,
            "expirationDate": f"{method.exp_year:04d}-{method.exp_month:02d}",
        }
        if method.cvc:
            card["cardCode"] = method.cvc
        return "payment", {"creditCard": card}
    if isinstance(method, StoredMethod):
        profile: dict[str, object] = {"paymentProfileId": method.payment_profile_id}
        if method.cvc:
            profile["cardCode"] = method.cvc
        stored: dict[str, object] = {
            "customerProfileId": method.customer_profile_id,
            "paymentProfile": profile,
        }
        if method.shipping_profile_id:
            stored["shippingProfileId"] = method.shipping_profile_id
        return "profile", stored
    if isinstance(method, BankAccount):
        return "payment", {"bankAccount": _bank_account(method)}
    token = {"dataDescriptor": method.descriptor, "dataValue": method.value}
    return "payment", {"opaqueData": token}


_ACCOUNT_TYPES: Final = {
    "checking": "checking",
    "savings": "savings",
    "business_checking": "businessChecking",
}
_REASONS: Final = {
    "resubmission": "resubmission",
    "delayed_charge": "delayedCharge",
    "reauthorization": "reauthorization",
    "no_show": "noShow",
}
"""Why a merchant charges a card on file."""


def _bank_account(account: BankAccount) -> dict[str, str]:
    fields = {
        "accountType": _ACCOUNT_TYPES[account.account_type],
        "routingNumber": account.routing_number,
        "accountNumber": account.account_number,
        "nameOnAccount": text(account.name_on_account, 22) or "",
    }
    if account.echeck_type:
        fields["echeckType"] = account.echeck_type
    if bank_name := text(account.bank_name, 50):
        fields["bankName"] = bank_name
    return fields


def _stored_credential(credential: StoredCredential, currency: str) -> dict[str, object]:
    """Return what the card networks require for a card on file."""
    if credential.first:
        kind = "isFirstRecurringPayment" if credential.recurring else "isFirstSubsequentAuth"
    else:
        kind = "isStoredCredentials" if credential.initiator == "customer" else "isSubsequentAuth"
    elements: dict[str, object] = {"processingOptions": {kind: True}}
    if kind != "isSubsequentAuth":
        return elements
    original: dict[str, object] = {}
    if network_id := text(credential.network_transaction_id, 255):
        original["originalNetworkTransId"] = network_id
    if credential.original_amount_minor is not None:
        amount = Money(credential.original_amount_minor, currency).decimal_string()
        original["originalAuthAmount"] = amount
    if credential.reason:
        original["reason"] = _REASONS[credential.reason]
    if original:
        elements["subsequentAuthInformation"] = original
    return elements


def _refunded_to(request: RefundRequest) -> tuple[str, dict[str, object]]:
    """Return the card or bank account to refund to, masked as in Authorize.Net's reporting."""
    if request.customer_profile_id and request.payment_profile_id:
        return method_element(
            StoredMethod(
                customer_profile_id=request.customer_profile_id,
                payment_profile_id=request.payment_profile_id,
            )
        )
    if request.method_type == "bank_account":
        account = {
            "routingNumber": f"XXXX{request.routing_last4 or ''}",
            "accountNumber": f"XXXX{request.card_last4}",
            "nameOnAccount": text(request.name_on_account, 22) or "Account holder",
        }
        return "payment", {"bankAccount": account}
    card = {"cardNumber": request.card_last4, "expirationDate": "XXXX"}
    return "payment", {"creditCard": card}


def _customer(request: AuthorizeRequest) -> dict[str, str]:
    customer: dict[str, str] = {}
    if reference := text(request.details.customer_reference, 20):
        customer["id"] = reference
    if email := whole(request.customer_email, 255):
        customer["email"] = email
    return customer


_BILL_TO: Final = {
    "first_name": ("firstName", 50),
    "last_name": ("lastName", 50),
    "company": ("company", 50),
    "line1": ("address", 60),
    "city": ("city", 40),
    "state": ("state", 40),
    "postal_code": ("zip", 20),
    "country": ("country", 60),
    "phone": ("phoneNumber", 25),
}
"""Our field -> (its element, its maximum length). In the schema's order, which is also ours."""
assert tuple(_BILL_TO) == Address.__struct_fields__


def bill_to_element(address: Address) -> dict[str, str]:
    """Return the content of `billTo`, without empty fields."""
    texts = msgspec.structs.astuple(address)
    values = zip(_BILL_TO.values(), texts, strict=True)
    together = "".join(filter(None, texts))
    if together.isascii() and together.isprintable():  # nearly always: what `text` does then
        return {
            name: cut for (name, most), value in values if value and (cut := value[:most].strip())
        }
    return {name: cut for (name, most), value in values if value and (cut := text(value, most))}
