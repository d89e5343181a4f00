"""Answers createCustomerProfileTransactionRequest, the older way to charge a profile.

Each is converted to a transactionRequest; only the reply has the older, delimited format.
"""

from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from authorizenet_simulator.profiles import profile_charges, visibility
from authorizenet_simulator.profiles.profile_reader import number
from authorizenet_simulator.profiles.profile_validation import NO_ADDRESS
from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.transactions import transaction_types
from authorizenet_simulator.transactions.transaction_request import (
    AUTH,
    CAPTURE_ONLY,
    REFUND,
    SALE,
    TransactionRequest,
)
from authorizenet_simulator.wire import direct_response
from authorizenet_simulator.wire.direct_response import Form
from authorizenet_simulator.wire.replies import ApiError, Reply, Tree


class _Kind(NamedTuple):
    type: str
    shown: str
    """Its name in the direct response."""


_KINDS: Final = {
    "profileTransAuthCapture": _Kind(SALE, "auth_capture"),
    "profileTransAuthOnly": _Kind(AUTH, "auth_only"),
    "profileTransCaptureOnly": _Kind(CAPTURE_ONLY, "capture_only"),
    "profileTransPriorAuthCapture": _Kind("priorAuthCaptureTransaction", "prior_auth_capture"),
    "profileTransRefund": _Kind(REFUND, "credit"),
    "profileTransVoid": _Kind("voidTransaction", "void"),
}
_SAME: Final = {
    "amount": "amount",
    "transId": "refTransId",
    "approvalCode": "authCode",
    "tax": "tax",
    "shipping": "shipping",
    "duty": "duty",
    "taxExempt": "taxExempt",
    "splitTenderId": "splitTenderId",
}
"""Elements of both requests: the older name and the current one."""
_SETTINGS: Final = {
    "x_duplicate_window": "duplicateWindow",
    "x_test_request": "testRequest",
    "x_allow_partial_auth": "allowPartialAuth",
}
_FIELDS: Final = {
    "x_customer_ip": "customerIP",
    "x_currency_code": "currencyCode",
    "x_split_tender_id": "splitTenderId",
}
"""Extra options, and the elements of the current request for them."""
_GATEWAY_PREFIX: Final = "x_"
"""Prefix of the gateway's own options; all others are the merchant's fields."""


def create(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """Make the transaction. Raises ApiError E00040, E00051. A declined or rejected one is answered
    with E00027 and the reason's text."""
    ((name, sent),) = body["transaction"].items()
    kind = _KINDS[name]
    extra = dict(parse_qsl(body.get("extraOptions", "").strip(), keep_blank_values=True))
    element = _transaction(kind, sent, extra)
    request = TransactionRequest(ledger, account, {**body, "transactionRequest": element}, now)
    for option, setting in _SETTINGS.items():
        if option in extra:
            request.options[setting] = extra[option].lower()
    _use_profile(request, sent)
    if kind.type == REFUND:
        _check_original(request, sent)
    response = transaction_types.run(request).payload["transactionResponse"]
    form = Form(extra.get("x_delim_char") or ",", extra.get("x_encap_char", ""))
    own = [value for name, value in extra.items() if not name.startswith(_GATEWAY_PREFIX)]
    payload = {"directResponse": direct_response.render(response, element, kind.shown, form, own)}
    if response["responseCode"] in ("1", "4"):
        return Reply(payload)
    return Reply(payload, "Error", "E00027", direct_response.reason(response)[1])


def _check_original(request: TransactionRequest, sent: Tree) -> None:
    """Raise E00040 for an unknown transId, for which the current request has a reason code."""
    named = sent.get("transId", "").strip()
    original = request.ledger.txns.get(number(named)) if named else None
    if named and (original is None or original.login != request.account.login):
        raise ApiError("E00040")


def _transaction(kind: _Kind, sent: Tree, extra: dict[str, str]) -> Tree:
    element: Tree = {"transactionType": kind.type}
    element |= {new: sent[old] for old, new in _SAME.items() if old in sent}
    element |= {new: extra[option] for option, new in _FIELDS.items() if extra.get(option)}
    if (order := sent.get("order")) is not None:
        order = dict(order)
        if purchase := order.pop("purchaseOrderNumber", ""):
            element["poNumber"] = purchase
        element["order"] = order
    if "lineItems" in sent:
        element["lineItems"] = {"lineItem": sent["lineItems"]}
    if kind.type == REFUND and "customerPaymentProfileId" not in sent:
        element["payment"] = _masked_payment(sent)
    return element


def _masked_payment(sent: Tree) -> Tree:
    """Return the masked payment method of a refund without a payment profile."""
    if "creditCardNumberMasked" in sent:
        return {
            "creditCard": {"cardNumber": sent["creditCardNumberMasked"], "expirationDate": "XXXX"}
        }
    if "bankAccountNumberMasked" in sent:
        return {
            "bankAccount": {
                "routingNumber": sent.get("bankRoutingNumberMasked", "XXXX"),
                "accountNumber": sent["bankAccountNumberMasked"],
            }
        }
    return {}


def _use_profile(request: TransactionRequest, sent: Tree) -> None:
    if "customerProfileId" not in sent:
        return
    named: Tree = {"customerProfileId": sent["customerProfileId"]}
    profile_id = number(sent["customerProfileId"])
    profile = visibility.profile(request.ledger, request.account, profile_id)
    if profile is None:
        raise ApiError("E00040", profile_charges.NOT_FOUND)
    if address_id := sent.get("customerShippingAddressId"):
        if profile.address(number(address_id)) is None:
            raise ApiError("E00040", NO_ADDRESS)
        named["shippingProfileId"] = address_id
    if "customerPaymentProfileId" not in sent:
        return
    named["paymentProfile"] = {"paymentProfileId": sent["customerPaymentProfileId"]}
    if "cardCode" in sent:
        named["paymentProfile"]["cardCode"] = sent["cardCode"]
    profile_charges.use(request, named)
