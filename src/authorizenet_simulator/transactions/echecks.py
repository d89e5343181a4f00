"""Rules of eChecks: which kinds are allowed for which bank accounts."""

from typing import Any, Final

from authorizenet_simulator.state import clock
from authorizenet_simulator.transactions.transaction_request import (
    CAPTURE_ONLY,
    YES,
    Refused,
    TransactionRequest,
)
from authorizenet_simulator.wire import amounts
from authorizenet_simulator.wire.codes import REASONS

LARGEST: Final = 100_00
"""Maximum amount in hundredths; a larger eCheck is declined."""
_PAPER: Final = frozenset({"ARC", "BOC"})
"""Scanned paper checks, which have a check number and cannot recur."""
_ONCE: Final = _PAPER | {"TEL"}
_NOT_FROM: Final = {"savings": _PAPER, "businessChecking": frozenset({"PPD"})}


def check(request: TransactionRequest, kind: str, amount: int) -> None:
    """Check an eCheck against the rules. Raises Refused if it would not be sent to the bank."""
    settings = request.settings
    if not settings.echeck:
        raise Refused(18)
    if kind == CAPTURE_ONLY:
        raise Refused(53)
    bank: dict[str, Any] | None = (request.tree.get("payment") or {}).get("bankAccount")
    if bank is not None:
        _check_kind(request, bank)
    month, taken = request.account.echecks
    if month != clock.local_text(request.now)[:7]:
        taken = 0
    if amount <= LARGEST and taken + amount > (amounts.parse(settings.echeck_monthly_limit) or 0):
        raise Refused(49)


def _check_kind(request: TransactionRequest, bank: dict[str, Any]) -> None:
    if not bank["nameOnAccount"].strip():
        raise Refused(33, REASONS[33][1].replace("%s", "Name on Account"))
    kind = bank.get("echeckType", "WEB")
    allowed = request.settings.echeck_types
    if allowed is not None and kind not in allowed:
        raise Refused(246)
    if kind in _NOT_FROM.get(bank.get("accountType", "checking"), ()):
        raise Refused(244)
    if kind in _ONCE and request.options.get("recurringBilling") in YES:
        raise Refused(243)
    if kind in _PAPER and not bank.get("checkNumber", "").strip().isdigit():
        raise Refused(248)
