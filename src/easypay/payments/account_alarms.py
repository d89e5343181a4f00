"""The log line that tells the operator that a processor refuses a merchant's account."""

import logging
from typing import Final
from uuid import UUID

from easypay import ids
from easypay.clock import monotonic
from easypay.payments.model import Operation
from easypay.processors.base import AccountRefusal

log = logging.getLogger(__name__)

_EVERY_S: Final = 60.0


class AccountAlarm:
    """Logs at once, then once a minute for each account: a busy shop would flood the log."""

    def __init__(self) -> None:
        self._next_at: dict[tuple[UUID, str], float] = {}

    def refused(self, operation: Operation, refusal: AccountRefusal) -> None:
        """Report that the processor refused a call of this operation because of its account."""
        account, now = (operation.merchant_id, operation.mode), monotonic()
        if now < self._next_at.get(account, now):
            return
        self._next_at[account] = now + _EVERY_S
        log.critical(
            "the processor refuses the %s account of merchant %s: %s %s. Its payments wait until "
            "`easypay merchant account` sets credentials that work",
            operation.mode,
            ids.typed(ids.MERCHANT, operation.merchant_id),
            refusal.code,
            refusal.message.rstrip("."),
        )
