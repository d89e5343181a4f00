"""How the calls to a processor are timed and counted by outcome: payments and the vault alike."""

import re
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Final, TypeVar

from easypay.clock import stopwatch
from easypay.observability.metrics import Instruments
from easypay.processors.base import Finding, NotSent, Outcome, Passed
from easypay.processors.customer_vault import ChangeAnswer, FindAnswer, StoreAnswer, VaultNotSent

Result = TypeVar("Result", Outcome, Finding, Passed, StoreAnswer, ChangeAnswer, FindAnswer)
OnEnd = Callable[[float, float, str, str, str], None]
"""Told of the end of a call: when it began and ended (`clock.stopwatch`), the processor, the
operation and the outcome."""
_NOT_SENT: Final = (NotSent, VaultNotSent)
_CAPITAL: Final = re.compile(r"(?<!^)(?=[A-Z])")


class MeasuredCalls:
    """What is counted of the processor `name`."""

    def __init__(self, name: str, instruments: Instruments) -> None:
        self._name = name
        self._calls = instruments.processor_calls
        self._operations = instruments.operations
        self._account_refused = instruments.account_refused

    async def _measured(
        self, operation: str, call: Awaitable[Result], on_end: OnEnd | None = None
    ) -> Result:
        begun = stopwatch()
        outcome = "cancelled"
        try:
            result = await call
            outcome = word(type(result))
            if isinstance(result, _NOT_SENT) and result.account_refusal is not None:
                self._account_refused.add(result.account_refusal.code)
            return result
        finally:
            ended = stopwatch()
            self._calls.observe(ended - begun, self._name, operation)
            self._operations.add(operation, outcome)
            if on_end is not None:
                on_end(begun, ended, self._name, operation, outcome)


@lru_cache(64)
def word(kind: type) -> str:
    """Return `held_for_review` for HeldForReview, `not_sent` for NotSent and VaultNotSent."""
    return _CAPITAL.sub("_", kind.__name__.removeprefix("Vault")).lower()
