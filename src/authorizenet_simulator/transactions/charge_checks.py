"""Checks the optional parts of a charge, with one function for each part."""

from collections.abc import Callable
from typing import Any, Final

from authorizenet_simulator.state.payment_methods import PaymentMethod
from authorizenet_simulator.transactions import address_checks, wallets
from authorizenet_simulator.transactions.transaction_request import YES, Refused, TransactionRequest
from authorizenet_simulator.wire.codes import REASONS
from authorizenet_simulator.wire.replies import Tree

MAX_LINE_ITEMS: Final = 30


def check(request: TransactionRequest, method: PaymentMethod) -> None:
    """Check a charge against the account's settings, and its optional parts. Raises Refused, and
    ApiError E00082, E00085 if the account has countries and states checked."""
    settings = request.settings
    if settings.card_types is not None and method.brand not in ("eCheck", "PayPal"):
        if not settings.card_types:
            raise Refused(56)
        if method.brand not in settings.card_types:
            raise Refused(17)
    if settings.required_fields:
        _check_required(request)
    if settings.places_checked:
        address_checks.check(settings, request.tree)
    for name in request.tree.keys() & _CHECKS.keys():
        _CHECKS[name](request, request.tree[name])
    card = (request.tree.get("payment") or {}).get("creditCard")
    if card is not None and "cryptogram" in card:
        _check_cryptogram(request)


def _check_cryptogram(request: TransactionRequest) -> None:
    """Check that a cryptogram comes without 3-D Secure data. Like the sandbox, do not check its
    content, and accept one without `isPaymentToken`."""
    if _authentication_data(request.tree.get("cardholderAuthentication") or {}):
        raise Refused(156)  # the cryptogram is the authentication already


def _authentication_data(part: Tree) -> str:
    names = ("authenticationIndicator", "cardholderAuthenticationValue")
    return "".join(part.get(name, "") for name in names).strip()


def _line_items(request: TransactionRequest, part: Tree) -> None:
    if len(part.get("lineItem", ())) > MAX_LINE_ITEMS:
        raise Refused(271, REASONS[271][1].replace("%1", str(MAX_LINE_ITEMS)))


_INDICATORS: Final = frozenset({"0", "1", "2", "5", "6", "7"})


def _authentication(request: TransactionRequest, part: Tree) -> None:
    """Check 3-D Secure data: an indicator of the card schemes and a Base64 value. Clients without
    3-D Secure send both elements empty."""
    if not _authentication_data(part):
        return
    indicator = part["authenticationIndicator"].strip()
    if (indicator.lstrip("0") or "0") not in _INDICATORS or len(indicator) > 2:
        raise Refused(116)
    if not wallets.is_base64(part["cardholderAuthenticationValue"]):
        raise Refused(117)
    if request.options.get("recurringBilling") in YES:
        raise Refused(119)
    opaque = (request.tree.get("payment") or {}).get("opaqueData")
    if opaque is not None and opaque["dataDescriptor"] in wallets.DESCRIPTORS:
        raise Refused(156)


RETAIL: Final = "2"
MARKETS: Final = {"0": "eCommerce", "1": "MOTO", RETAIL: "Retail"}
_DEVICES: Final = frozenset(str(number) for number in range(1, 11))


def _retail(request: TransactionRequest, part: Tree) -> None:
    market = part.get("marketType")
    if market is not None and market not in MARKETS:
        raise Refused(85)
    device = part.get("deviceType")
    if (device is None and market == RETAIL) or (device is not None and device not in _DEVICES):
        raise Refused(84)


_CHECKS: Final[dict[str, Callable[[TransactionRequest, Tree], None]]] = {
    "lineItems": _line_items,
    "cardholderAuthentication": _authentication,
    "retail": _retail,
}
_REQUIRED: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "firstName": (("billTo", "firstName"), "First Name"),
    "lastName": (("billTo", "lastName"), "Last Name"),
    "company": (("billTo", "company"), "Company"),
    "address": (("billTo", "address"), "Address"),
    "city": (("billTo", "city"), "City"),
    "state": (("billTo", "state"), "State"),
    "zip": (("billTo", "zip"), "Zip Code"),
    "country": (("billTo", "country"), "Country"),
    "phoneNumber": (("billTo", "phoneNumber"), "Phone"),
    "email": (("customer", "email"), "Email"),
    "customerId": (("customer", "id"), "Customer ID"),
    "invoiceNumber": (("order", "invoiceNumber"), "Invoice Number"),
    "description": (("order", "description"), "Description"),
    "poNumber": (("poNumber",), "PO Number"),
    "cardCode": (("payment", "creditCard", "cardCode"), "Card Code"),
}


def _check_required(request: TransactionRequest) -> None:
    for name in request.settings.required_fields:
        if name == "cardCode" and "creditCard" not in (request.tree.get("payment") or {}):
            continue
        path, label = _REQUIRED[name]
        found: Any = request.tree
        for step in path:
            found = found.get(step) or {}
        if not found:
            raise Refused(33, REASONS[33][1].replace("%s", label))
