"""Processor credentials are tried before they are saved: a wrong one would stop every payment."""

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
"""Which of the two a code is about, where it is not the account as a whole, which has its login."""


class Checker(Protocol):
    """The part of a processor that tells whether it accepts credentials."""

    async def check_account(self, account: Account, deadline: Deadline) -> AccountCheck: ...


async def check(processor: Checker, account: Account) -> None:
    """Return once the processor has accepted the credentials.

    Raises ValidationFailed naming the field that it refuses, ProcessorUnavailable where it cannot
    be asked.
    """
    said = await processor.check_account(account, Deadline(monotonic() + _DEADLINE_S))
    match said:
        case AccountAccepted():
            return
        case AccountRefusal():
            raise ValidationFailed.of(
                [
                    FieldError(f"#/{field}", "refused_by_processor", _refused(field, said))
                    for field in _FIELDS.get(said.code, ("login_id",))
                ]
            )
        case _:
            raise ProcessorUnavailable(
                f"The processor could not be asked whether the credentials are right "
                f"({said.reason}). Nothing was saved. Try again, or save them unchecked."
            )


def _refused(field: str, said: AccountRefusal) -> str:
    """`said.message` is the processor's, and free of values that it may quote."""
    why = f"{said.message.rstrip('.')} ({said.code})" if said.message else said.code
    return f"{field} is refused by the processor: {why}. Nothing was saved."
