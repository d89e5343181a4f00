"""How the calls to a processor are timed and counted by outcome: payments and the vault alike."""

import re
from collections.abc import Awaitable
from functools import lru_cache
from typing import Final, TypeVar

from easypay.clock import stopwatch
from easypay.observability.metrics import Instruments
from easypay.processors.base import Finding, NotSent, Outcome, Passed
from easypay.processors.customer_vault import ChangeAnswer, FindAnswer, StoreAnswer, VaultNotSent

Result = TypeVar("Result", Outcome, Finding, Passed, StoreAnswer, ChangeAnswer, FindAnswer)
_NOT_SENT: Final = (NotSent, VaultNotSent)
_CAPITAL: Final = re.compile(r"(?<!^)(?=[A-Z])")


class MeasuredCalls:
    """What is counted of the processor `name`."""

    def __init__(self, name: str, instruments: Instruments) -> None:
        self._name = name
        self._calls = instruments.processor_calls
        self._operations = instruments.operations
        self._account_refused = instruments.account_refused

    async def _measured(self, operation: str, call: Awaitable[Result]) -> Result:
        begun = stopwatch()
        outcome = "cancelled"
        try:
            result = await call
            outcome = word(type(result))
            if isinstance(result, _NOT_SENT) and result.account_refusal is not None:
                self._account_refused.add(result.account_refusal.code)
            return result
        finally:
            self._calls.observe(stopwatch() - begun, self._name, operation)
            self._operations.add(operation, outcome)


@lru_cache(64)
def word(kind: type) -> str:
    """Return `held_for_review` for HeldForReview, `not_sent` for NotSent and VaultNotSent."""
    return _CAPITAL.sub("_", kind.__name__.removeprefix("Vault")).lower()
