"""Maps every API method to its handler and answers one request."""

from collections.abc import Mapping
from typing import Final

from authorizenet_simulator import create_transaction
from authorizenet_simulator.hosted import hosted_pages
from authorizenet_simulator.merchants import credentials, merchant_requests, permissions
from authorizenet_simulator.profiles import profile_requests
from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.subscriptions import subscription_requests
from authorizenet_simulator.subscriptions.subscription_queries import STATUS_NOTE
from authorizenet_simulator.transactions import accept_nonces, followups, prepaid_cards, reporting
from authorizenet_simulator.wire import schema
from authorizenet_simulator.wire.json_wire import JSON, Call, refusal
from authorizenet_simulator.wire.replies import ApiError, Handler, Reply, Tree

_ALIVE: Final = "isAliveRequest"


def answer(ledger: Ledger, rules: schema.Schema, call: Call) -> bytes:
    """Execute the request, flush its changes to the journal and return the reply's bytes."""
    now = ledger.tick()
    method, body = call.method, call.body
    account: Account | None = None
    try:
        if method not in rules.requests:
            raise ApiError("E00004")
        rules.check(method, body)
        if method == _ALIVE:
            reply = Reply({})
        else:
            account = credentials.authenticate(ledger, method, body, now)
            settings = ledger.settings_of(account)
            if settings.switched_off or settings.test_mode:
                permissions.check(settings, method)
            reply = METHODS[method](ledger, account, body, now)
        ref_id = body.get("refId")
    except schema.SchemaError as error:  # refId is not echoed: the request was not parsed
        reply, ref_id = refusal(ApiError("E00003", str(error))), None
    except ApiError as error:
        reply, ref_id = refusal(error, _left(ledger, account, call)), body.get("refId")
        if not isinstance(ref_id, str):
            ref_id = None
    finally:
        ledger.journal.flush()
    return call.form.render(rules, method, reply, ref_id)


_NO_PROFILE: Final[Tree] = {
    "customerPaymentProfileIdList": [],
    "customerShippingAddressIdList": [],
    "validationDirectResponseList": [],
}
_TRANSACTION: Final = "createTransactionRequest"
_NO_TRANSACTION: Final[Tree] = {
    "transactionResponse": {"SupplementalDataQualificationIndicator": 0}
}
_LEFT: Final[Mapping[str, Tree]] = {
    "createCustomerProfileRequest": _NO_PROFILE,
    "createCustomerProfileFromTransactionRequest": _NO_PROFILE,
    "getCustomerProfileIdsRequest": {"ids": []},
    "getCustomerPaymentProfileListRequest": {"totalNumInResultSet": 0},
    "ARBGetSubscriptionStatusRequest": {"note": STATUS_NOTE},
}
"""Method -> the payload of its errors: the lists that the schema requires, empty."""


def _left(ledger: Ledger, account: Account | None, call: Call) -> Tree:
    """Return the payload of an error; empty for a transaction of an unknown account."""
    if call.method != _TRANSACTION:
        return _LEFT.get(call.method, {})
    form = "json" if call.form is JSON else "xml"
    if account is None or form not in ledger.settings_of(account).empty_transaction_response:
        return {}
    return _NO_TRANSACTION


METHODS: Final[dict[str, Handler]] = (
    {
        "createTransactionRequest": create_transaction.create,
        "updateHeldTransactionRequest": followups.review,
        "updateSplitTenderGroupRequest": prepaid_cards.update_group,
        "updateMerchantDetailsRequest": merchant_requests.update_merchant,
        "securePaymentContainerRequest": accept_nonces.mint,
        "authenticateTestRequest": credentials.accept,
        "mobileDeviceRegistrationRequest": credentials.register_device,
        "mobileDeviceLoginRequest": credentials.log_in,
        "logoutRequest": credentials.log_out,
        "sendCustomerTransactionReceiptRequest": merchant_requests.send_receipt,
        "decryptPaymentDataRequest": merchant_requests.decrypt,
        "getAUJobSummaryRequest": merchant_requests.updater_summary,
        "getAUJobDetailsRequest": merchant_requests.updater_details,
    }
    | reporting.METHODS
    | profile_requests.METHODS
    | subscription_requests.METHODS
    | hosted_pages.METHODS
)
