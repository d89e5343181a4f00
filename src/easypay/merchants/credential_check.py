"""Tests processor credentials before they are saved: wrong ones would stop every payment."""

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
from easypay.processors.integration import ClientOptions, Integration

_DEADLINE_S: Final = 10.0


class Checker(Protocol):
    """The part of a processor that checks credentials."""

    async def check_account(self, account: Account, deadline: Deadline) -> AccountCheck: ...


async def check(
    processor: Checker, integration: Integration, account: Account, *, within: str = "#"
) -> None:
    """Return once the processor has accepted the credentials, which are the fields of `within`.

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
                    FieldError(f"{within}/{field}", "refused_by_processor", _refused(field, result))
                    for field in integration.refused_fields.get(
                        result.code, (integration.account_field,)
                    )
                ]
            )
        case _:
            raise ProcessorUnavailable(
                f"The processor could not be asked whether the credentials are right "
                f"({result.reason}). Nothing was saved. Try again, or save them unchecked."
            )


async def check_alone(integration: Integration, account: Account) -> None:
    """Do the same with a client of its own, for programs that have none."""
    processor = integration.make(ClientOptions())
    try:
        await check(processor, integration, account)
    finally:
        await processor.close()


def _refused(field: str, refusal: AccountRefusal) -> str:
    """Return why a field is refused. The processor's message contains no submitted values."""
    why = f"{refusal.message.rstrip('.')} ({refusal.code})" if refusal.message else refusal.code
    return f"{field} is refused by the processor: {why}. Nothing was saved."
