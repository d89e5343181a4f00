"""Validates payment methods: testMode checks the format, liveMode authorizes and voids."""

from typing import Final, NamedTuple

import msgspec

from authorizenet_simulator.profiles.profile_charges import NOT_FOUND, without_contact
from authorizenet_simulator.profiles.profile_creation import Identity
from authorizenet_simulator.profiles.profile_reader import number, tree
from authorizenet_simulator.state import payment_methods
from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.customer_profiles import PaymentProfile
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.state.payment_methods import Instrument
from authorizenet_simulator.transactions import followups, transaction_types
from authorizenet_simulator.transactions.transaction_request import (
    AUTH,
    Ask,
    Refused,
    check_instrument,
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
    request: Tree = {"transactionType": AUTH, "amount": "1.00", "order": _ORDER}
    named = {"id": customer.merchant_customer_id, "email": customer.email}
    request["customer"] = {key: value for key, value in named.items() if value}
    if payment.bill_to:
        request["billTo"] = tree(payment.bill_to)
    if ship_to:
        request["shipTo"] = without_contact(ship_to)
    instrument = msgspec.structs.replace(
        payment.instrument, cvv_result=payment_methods.cvv_result(code)
    )
    if mode == "testMode":
        response = _check_format(account, instrument, now)
    else:
        no_zero = mode == "oldLiveMode" or instrument.brand in payment_methods.NO_ZERO_AUTH
        request["amount"] = "0.01" if no_zero else "0.00"
        response = _authorize_and_void(ledger, account, instrument, request, now)
    direct = direct_response.render(response, {**request, **_ALSO_SHOWN}, "auth_only")
    valid = response["responseCode"] in ("1", "4")
    return Verdict(direct, None if valid else direct_response.reason(response)[1])


def _check_format(account: Account, instrument: Instrument, now: int) -> Tree:
    """Return the transactionResponse of testMode, which only checks number and expiry."""
    response_code, reason = 1, 1
    try:
        check_instrument(instrument, now)
    except Refused as refused:
        response_code, reason = 3, refused.reason
    found: Tree = replies.transaction(
        account,
        response_code,
        reason,
        text=f"(TESTMODE) {REASONS[reason][1]}",
        auth="000000",
        masked=instrument.masked,
        brand=instrument.brand,
        test=True,
    ).payload["transactionResponse"]
    return found


def _authorize_and_void(
    ledger: Ledger, account: Account, instrument: Instrument, request: Tree, now: int
) -> Tree:
    """Authorize at most one cent and void it. Validations are never duplicates."""
    ask = Ask(ledger, account, {"transactionRequest": request}, now)
    ask.stored = instrument
    ask.options["duplicateWindow"] = "0"
    response: Tree = transaction_types.run(ask).payload["transactionResponse"]
    if response["responseCode"] in ("1", "4") and response["transId"] != "0":
        void = {"transactionType": "voidTransaction", "refTransId": response["transId"]}
        followups.void(Ask(ledger, account, {"transactionRequest": void}, now))
    return response


def validate_request(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """validateCustomerPaymentProfileRequest. Raises ApiError E00040 for unknown ids."""
    profile = ledger.profiles.find(account.login, number(body["customerProfileId"]))
    payment = None if profile is None else profile.payment(number(body["customerPaymentProfileId"]))
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
