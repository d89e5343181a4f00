"""Tests processor credentials before they are saved: wrong ones would stop every payment."""

from collections.abc import Mapping
from typing import Final, Protocol

from easypay.clock import monotonic
from easypay.errors import FieldError, ProcessorUnavailable, ValidationFailed
from easypay.processors.base import (
    Account,
    AccountAccepted,
    AccountCheck,
    AccountRefusal,
    Deadline,
)

_DEADLINE_S: Final = 10.0
_BOTH: Final = ("login_id", "transaction_key")
_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "E00005": ("transaction_key",),
    "E00006": ("login_id",),
    "E00007": _BOTH,
}
"""The fields that a code is about. Every other code is about the whole account: login_id."""


class Checker(Protocol):
    """The part of a processor that checks credentials."""

    async def check_account(self, account: Account, deadline: Deadline) -> AccountCheck: ...


async def check(processor: Checker, account: Account) -> None:
    """Return once the processor has accepted the credentials.

    Raises ValidationFailed naming the fields that it refuses, ProcessorUnavailable if it cannot be
    asked.
    """
    result = await processor.check_account(account, Deadline(monotonic() + _DEADLINE_S))
    match result:
        case AccountAccepted():
            return
        case AccountRefusal():
            raise ValidationFailed.of(
                [
                    FieldError(f"#/{field}", "refused_by_processor", _refused(field, result))
                    for field in _FIELDS.get(result.code, ("login_id",))
                ]
            )
        case _:
            raise ProcessorUnavailable(
                f"The processor could not be asked whether the credentials are right "
                f"({result.reason}). Nothing was saved. Try again, or save them unchecked."
            )


def _refused(field: str, refusal: AccountRefusal) -> str:
    """Return why a field is refused. The processor's message contains no submitted values."""
    why = f"{refusal.message.rstrip('.')} ({refusal.code})" if refusal.message else refusal.code
    return f"{field} is refused by the processor: {why}. Nothing was saved."
