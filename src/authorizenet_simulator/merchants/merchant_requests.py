"""Requests about the account itself: test mode, receipts, empty Account Updater reports."""

import re
from typing import Final

from msgspec.structs import replace

from authorizenet_simulator.state import transactions
from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.wire.replies import NOTHING_FOUND, ApiError, Reply, Tree

_MONTH: Final = re.compile(r"\d{4}-(?:0[1-9]|1[0-2])\Z", re.ASCII)


def update_merchant(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """updateMerchantDetailsRequest: switch the account's test mode on or off."""
    test_mode = body["isTestMode"].strip() in ("true", "1")
    settings = replace(ledger.settings_of(account), test_mode=test_mode)
    ledger.change_settings(account.login, settings)
    return Reply({})


def send_receipt(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """sendCustomerTransactionReceiptRequest: check it, send nothing. Raises E00013, E00040."""
    txn = ledger.txns.get(transactions.parse_id(body["transId"]) or 0)
    if txn is None or txn.login != account.login:
        raise ApiError("E00040")
    if "@" not in body["customerEmail"].strip()[1:-1]:
        raise ApiError("E00013", "Customer Email is invalid.")
    return Reply({})


def decrypt(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """decryptPaymentDataRequest: always raises E00013, as no account has encrypted data."""
    raise ApiError("E00013", "Opaque Data is invalid.")


def updater_summary(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """getAUJobSummaryRequest: answer that nothing was found. Raises ApiError E00013."""
    _check_month(body)
    return Reply({}, *NOTHING_FOUND)


def updater_details(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """getAUJobDetailsRequest: answer that nothing was found. Raises ApiError E00013."""
    _check_month(body)
    return Reply({"totalNumInResultSet": 0}, *NOTHING_FOUND)


def _check_month(body: Tree) -> None:
    if not _MONTH.match(body["month"].strip()):
        raise ApiError("E00013", "Month is invalid.")
