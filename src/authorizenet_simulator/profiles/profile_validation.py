"""Validates payment methods: testMode checks the format, liveMode authorizes and voids."""

from typing import Final, NamedTuple

import msgspec

from authorizenet_simulator.profiles import visibility
from authorizenet_simulator.profiles.profile_charges import NOT_FOUND, without_contact
from authorizenet_simulator.profiles.profile_creation import Identity
from authorizenet_simulator.profiles.profile_reader import number, tree
from authorizenet_simulator.state import payment_methods
from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.customer_profiles import PaymentProfile
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.state.payment_methods import PaymentMethod
from authorizenet_simulator.transactions import followups, transaction_types
from authorizenet_simulator.transactions.transaction_request import (
    AUTH,
    Refused,
    TransactionRequest,
    check_payment_method,
)
from authorizenet_simulator.wire import direct_response, replies
from authorizenet_simulator.wire.codes import REASONS
from authorizenet_simulator.wire.replies import ApiError, Reply, Tree

NO_ADDRESS: Final = "Cannot find the specified shipping address."
_ORDER: Final = {
    "invoiceNumber": "none",
    "description": "Test transaction for ValidateCustomerPaymentProfile.",
}
_ALSO_SHOWN: Final = {
    "tax": {"amount": "0.00"},
    "duty": {"amount": "0.00"},
    "shipping": {"amount": "0.00"},
    "taxExempt": "false",
    "poNumber": "none",
}


class Verdict(NamedTuple):
    """The direct response, and the text of E00027 if the payment method is invalid."""

    direct: str
    problem: str | None


def validate(
    ledger: Ledger,
    account: Account,
    customer: Identity,
    payment: PaymentProfile,
    mode: str,
    now: int,
    *,
    ship_to: Tree | None = None,
    code: str | None = None,
) -> Verdict | None:
    """Validate a payment method; the live modes authorize and void. Return None for mode 'none'."""
    if mode == "none":
        return None
    element: Tree = {"transactionType": AUTH, "amount": "1.00", "order": _ORDER}
    named = {"id": customer.merchant_customer_id, "email": customer.email}
    element["customer"] = {key: value for key, value in named.items() if value}
    if payment.bill_to:
        element["billTo"] = tree(payment.bill_to)
    if ship_to:
        element["shipTo"] = without_contact(ship_to)
    method = msgspec.structs.replace(payment.method, cvv_result=payment_methods.cvv_result(code))
    if mode == "testMode":
        response = _check_format(account, method, now)
    else:
        no_zero = mode == "oldLiveMode" or method.brand in payment_methods.NO_ZERO_AUTH
        element["amount"] = "0.01" if no_zero else "0.00"
        response = _authorize_and_void(ledger, account, method, element, now)
    direct = direct_response.render(response, {**element, **_ALSO_SHOWN}, "auth_only")
    valid = response["responseCode"] in ("1", "4")
    return Verdict(direct, None if valid else direct_response.reason(response)[1])


def _check_format(account: Account, method: PaymentMethod, now: int) -> Tree:
    """Return the transactionResponse of testMode, which only checks number and expiry."""
    response_code, reason = 1, 1
    try:
        check_payment_method(method, now)
    except Refused as refused:
        response_code, reason = 3, refused.reason
    found: Tree = replies.transaction(
        account,
        response_code,
        reason,
        text=f"(TESTMODE) {REASONS[reason][1]}",
        auth="000000",
        masked=method.masked,
        brand=method.brand,
        test=True,
    ).payload["transactionResponse"]
    return found


def _authorize_and_void(
    ledger: Ledger, account: Account, method: PaymentMethod, element: Tree, now: int
) -> Tree:
    """Authorize at most one cent and void it. Validations are never duplicates."""
    request = TransactionRequest(ledger, account, {"transactionRequest": element}, now)
    request.stored = method
    request.options["duplicateWindow"] = "0"
    response: Tree = transaction_types.run(request).payload["transactionResponse"]
    if response["responseCode"] in ("1", "4") and response["transId"] != "0":
        void = {"transactionType": "voidTransaction", "refTransId": response["transId"]}
        followups.void(TransactionRequest(ledger, account, {"transactionRequest": void}, now))
    return response


def validate_request(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """validateCustomerPaymentProfileRequest. Raises ApiError E00040 for unknown ids."""
    profile = visibility.profile(ledger, account, number(body["customerProfileId"]))
    payment_id = number(body["customerPaymentProfileId"])
    payment = None
    if profile is not None:
        payment = visibility.payment(ledger, account, profile, payment_id)
    if profile is None or payment is None:
        raise ApiError("E00040", NOT_FOUND)
    ship_to = None
    if address_id := number(body.get("customerShippingAddressId")):
        address = profile.address(address_id)
        if address is None:
            raise ApiError("E00040", NO_ADDRESS)
        ship_to = tree(address.ship_to)
    verdict = validate(
        ledger,
        account,
        Identity(*profile.identity),
        payment,
        body["validationMode"],
        now,
        ship_to=ship_to,
        code=body.get("cardCode"),
    )
    if verdict is None:
        return Reply({})
    return judged({"directResponse": verdict.direct}, verdict)


def judged(payload: Tree, verdict: Verdict) -> Reply:
    """Return the reply: an error E00027 if the verdict has a problem."""
    if verdict.problem is None:
        return Reply(payload)
    return Reply(payload, "Error", "E00027", verdict.problem)
