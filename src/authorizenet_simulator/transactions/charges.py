"""Sales, authorizations and captures of authorizations made elsewhere.

Checks run in this order: nonce, currency, amount, payment method, optional parts, duplicate
window; then the test triggers and the account's filters decide.
"""

from sys import intern
from typing import Any, Final

from authorizenet_simulator.state import payment_methods, statuses
from authorizenet_simulator.state.payment_methods import PaymentMethod
from authorizenet_simulator.state.transactions import Txn
from authorizenet_simulator.transactions import (
    charge_checks,
    echecks,
    paypal,
    prepaid_cards,
    transaction_notifications,
)
from authorizenet_simulator.transactions.transaction_request import (
    AUTH,
    CAPTURE_ONLY,
    SALE,
    YES,
    Refused,
    TransactionRequest,
    check_payment_method,
    details,
    duplicate_digest,
    duplicate_of,
    read_payment,
)
from authorizenet_simulator.wire import amounts, replies
from authorizenet_simulator.wire.codes import REASONS
from authorizenet_simulator.wire.replies import Reply

_AVS_BY_ZIP: Final = {
    "46201": "A",
    "46203": "E",
    "46204": "G",
    "46205": "N",
    "46206": "P",
    "46207": "R",
    "46208": "S",
    "46209": "U",
    "46211": "W",
    "46214": "X",
    "46217": "Z",
}
_DECLINED_ZIP: Final = "46282"
_ASKED_FOR_ADDRESS: Final = frozenset({"Visa", "MasterCard"})
"""Brands whose authorization of 0.00 needs street and ZIP."""


def charge(request: TransactionRequest) -> Reply:
    """Make a sale, an authorization, or a capture of an authorization made elsewhere."""
    kind = _KINDS[request.tree["transactionType"]]
    method = read_payment(request)
    currency = request.currency()
    amount = request.amount(least=0 if kind == AUTH else 1)
    if kind == CAPTURE_ONLY:
        _check_code(request.tree.get("authCode", ""))
    check_payment_method(method, request.now)
    charge_checks.check(request, method)
    if method.brand == "eCheck":
        echecks.check(request, kind, amount)
    if amount == 0:
        _check_nothing_asked(request, method.brand)
    digest = duplicate_digest(request, kind, amount, method)
    if (duplicate := duplicate_of(request, digest)) is not None:
        return duplicate
    group = prepaid_cards.group_of(request, amount) if "splitTenderId" in request.tree else None
    if request.settings.test_mode or request.options.get("testRequest", "") in YES:
        return _test_mode_reply(request, method)
    if method.brand == payment_methods.PAYPAL:
        return paypal.start(request, kind, amount, currency, digest)
    zip_code = (request.tree.get("billTo") or {}).get("zip", "")
    avs = avs_of(method, zip_code)
    decided = verdict(request, kind, amount, method, avs, zip_code)
    part = None
    if group is not None or zip_code in prepaid_cards.CARDS:
        part = prepaid_cards.part(request, amount, method, zip_code, group, decided)
        if part is not None:
            amount, decided = part.approved, part.verdict
    response_code, reason, status = decided
    txn = Txn(
        request.ledger.new_id(),
        request.account.login,
        kind,
        amount,
        response_code,
        reason,
        status,
        request.now,
        currency,
        0,
        request.invoice,
        intern(method.last4),
        method.brand,
        avs,
        method.cvv_result,
        details(request) if part is None else details(request, part.kept),
        amount if status == statuses.CAPTURED else 0,
        customer=request.customer,
    )
    request.ledger.record(txn, digest)
    also = _also(request) | ({} if part is None else prepaid_cards.join(request, part, txn))
    transaction_notifications.made(request, txn)
    return _answer(request, txn, method, also)


def _check_nothing_asked(request: TransactionRequest, brand: str) -> None:
    """Check an authorization of 0.00, which only verifies the address. Raises Refused."""
    if brand in payment_methods.NO_ZERO_AUTH:
        raise Refused(289)
    bill_to = request.tree.get("billTo") or {}
    if brand in _ASKED_FOR_ADDRESS and not (bill_to.get("address") and bill_to.get("zip")):
        raise Refused(290)


def _check_code(code: str) -> None:
    """Check the code of an authorization made elsewhere. Raises Refused 12 or 72."""
    if not code:
        raise Refused(12)
    if len(code) > 6:
        raise Refused(72)


def _answer(
    request: TransactionRequest, txn: Txn, method: PaymentMethod, also: dict[str, Any]
) -> Reply:
    auth, network = replies.bank_codes(txn)
    cavv = ""
    if txn.response_code == 1:
        if txn.type == CAPTURE_ONLY:
            auth = request.tree["authCode"]
        secure = request.tree.get("cardholderAuthentication")
        cavv = replies.cavv(method.brand, secure and secure["authenticationIndicator"])
    return replies.transaction(
        request.account,
        txn.response_code,
        txn.reason,
        amount=txn.amount,
        auth=auth,
        avs=txn.avs,
        cvv=method.cvv_result,
        cavv=cavv,
        trans_id=txn.trans_id,
        masked=method.masked,
        brand=method.brand,
        network=network,
        user_fields=request.user_fields,
        also=also,
    )


_NOTHING: Final[dict[str, Any]] = {}


def _also(request: TransactionRequest) -> dict[str, Any]:
    """Return the entry mode of a card that was not keyed in."""
    if request.how is None or "entryMode" not in request.how:
        return _NOTHING
    return {"entryMode": request.how["entryMode"]}


_KINDS: Final = {kind: kind for kind in (SALE, AUTH, CAPTURE_ONLY)}
"""All transactions share these strings, which saves memory."""
_FILTERED: Final = {
    "authAndHold": (4, 253, statuses.HELD_AUTHORIZED),
    "hold": (4, 252, statuses.HELD),
    "decline": (2, 251, statuses.DECLINED),
}


_EXAMPLES: Final = {
    33: REASONS[33][1].replace("%s", "Invoice Number"),
    270: REASONS[270][1].replace("%1", "1"),
    271: REASONS[271][1].replace("%1", str(charge_checks.MAX_LINE_ITEMS)),
    351: REASONS[351][1].replace("%x", "4"),
}
"""Completed texts of the reasons whose text has a placeholder, for the legacy test card."""


def avs_of(method: PaymentMethod, zip_code: str) -> str:
    """Return the address check's result, by ZIP."""
    return "P" if method.brand == "eCheck" else _AVS_BY_ZIP.get(zip_code, "Y")


def verdict(
    request: TransactionRequest,
    kind: str,
    amount: int,
    method: PaymentMethod,
    avs: str,
    zip_code: str,
) -> tuple[int, int, str]:
    """Return response code, reason and status, by the test triggers and the account's filters.

    Raises Refused for the reasons that card 4222222222222 selects.
    """
    settings = request.settings
    if method.legacy:
        reason, cents = divmod(amount, 100)
        response_code = REASONS.get(reason, (1, ""))[0] if cents == 0 else 1
        if response_code == 2:
            return 2, reason, statuses.DECLINED
        if response_code == 4:
            held = statuses.HELD_AUTHORIZED if reason == 253 else statuses.HELD
            return 4, reason, held
        if response_code != 1:
            raise Refused(reason, _EXAMPLES.get(reason))
    elif zip_code == _DECLINED_ZIP:
        return 2, 2, statuses.DECLINED
    elif method.brand == "eCheck":
        if amount > echecks.LARGEST:
            return 2, 2, statuses.DECLINED
    else:
        bad_avs = avs in settings.avs_reject
        bad_cvv = method.cvv_result in settings.cvv_reject
        if bad_avs or bad_cvv:
            return 2, 45 if bad_avs and bad_cvv else 27 if bad_avs else 65, statuses.DECLINED
    if settings.blocked_ips and request.tree.get("customerIP") in settings.blocked_ips:
        return 2, 250, statuses.DECLINED
    if settings.held_above is not None and amount > (amounts.parse(settings.held_above) or 0):
        filtered = _FILTERED.get(settings.held_action)
        if filtered is not None:
            return filtered
    return 1, 1, statuses.AUTHORIZED if kind == AUTH else statuses.CAPTURED


def _test_mode_reply(request: TransactionRequest, method: PaymentMethod) -> Reply:
    """Answer as approved in test mode, without recording anything."""
    return replies.transaction(
        request.account,
        1,
        1,
        text="(TESTMODE) This transaction has been approved.",
        auth="000000",
        masked=method.masked,
        brand=method.brand,
        test=True,
    )
