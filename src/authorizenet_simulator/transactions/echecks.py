"""Rules of bank accounts: which kinds of eCheck may draw on which accounts."""

from typing import Any, Final

from authorizenet_simulator.state import clock
from authorizenet_simulator.transactions.transaction_request import CAPTURE_ONLY, YES, Ask, Refused
from authorizenet_simulator.wire import amounts
from authorizenet_simulator.wire.codes import REASONS

LARGEST: Final = 100_00
"""More is declined."""
_PAPER: Final = frozenset({"ARC", "BOC"})
"""Checks of paper that a machine read; they have a number and are paid once."""
_ONCE: Final = _PAPER | {"TEL"}
_NOT_FROM: Final = {"savings": _PAPER, "businessChecking": frozenset({"PPD"})}


def check(ask: Ask, kind: str, amount: int) -> None:
    """Raises Refused for an eCheck that would not be sent to the bank."""
    settings = ask.settings
    if not settings.echeck:
        raise Refused(18)
    if kind == CAPTURE_ONLY:
        raise Refused(53)
    bank: dict[str, Any] | None = (ask.tree.get("payment") or {}).get("bankAccount")
    if bank is not None:
        _check_kind(ask, bank)
    month, taken = ask.account.echecks
    if month != clock.local_text(ask.now)[:7]:
        taken = 0
    if amount <= LARGEST and taken + amount > (amounts.parse(settings.echeck_monthly_limit) or 0):
        raise Refused(49)


def _check_kind(ask: Ask, bank: dict[str, Any]) -> None:
    if not bank["nameOnAccount"].strip():
        raise Refused(33, REASONS[33][1].replace("%s", "Name on Account"))
    said = bank.get("echeckType", "WEB")
    allowed = ask.settings.echeck_types
    if allowed is not None and said not in allowed:
        raise Refused(246)
    if said in _NOT_FROM.get(bank.get("accountType", "checking"), ()):
        raise Refused(244)
    if said in _ONCE and ask.options.get("recurringBilling") in YES:
        raise Refused(243)
    if said in _PAPER and not bank.get("checkNumber", "").strip().isdigit():
        raise Refused(248)
