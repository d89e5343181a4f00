"""Checks a line of a batch by the rules of the call that it stands for, in the API's words."""

from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Any, Final

import msgspec

from easypay import clock
from easypay.api.repeated_fields import is_accounted_for, refuse_repeated_keys
from easypay.api.validation import not_json, refusal
from easypay.batches import lines
from easypay.batches.lines import Line, PaymentLine, PaymentLines
from easypay.batches.staging import Check, Checked
from easypay.card_numbers import contains_card_number
from easypay.errors import EasyPayError, FieldError, ValidationFailed
from easypay.merchants.model import Caller
from easypay.payments.requests import check_payment, with_rules

_DAY: Final = timedelta(days=1)
_SCOPES: Final = {"refund": "refunds:write"}
_CARD: Final = FieldError(
    "#",
    "card_number_in_text",
    "The line has a card number in it. Card numbers may stand in no batch: nothing of the line was "
    "kept.",
)


def check_for(caller: Caller) -> Check:
    """Return the check of the lines of a caller's file."""
    rules: dict[str, Any] = {
        "currencies": caller.currencies,
        "raw_cards": True,
        "at": clock.now() - _DAY,
    }

    def check(raw: bytes, number: int, payments: PaymentLines) -> Checked | list[FieldError]:
        try:
            line = _line_of(raw, lambda refused: with_rules(refused, **rules))
            errors = lines.broken_rules(line, number, payments)
            errors += _missing_scope(lines.operation_of(line), caller.scopes)
            if isinstance(line, PaymentLine) and not errors:
                check_payment(line, **rules)
        except ValidationFailed as refused:
            return list(refused.fields)
        except EasyPayError as refused:  # not JSON
            return [FieldError("#", refused.code, refused.detail)]
        if errors:
            return errors
        form = lines.canonical(line)
        if not is_accounted_for(raw, form, 0):
            try:
                refuse_repeated_keys(raw)
            except ValidationFailed as refused:
                return list(refused.fields)
        if contains_card_number(form.decode()):
            return [_CARD]
        return Checked(line, form)

    return check


def _missing_scope(operation: str, scopes: Collection[str]) -> list[FieldError]:
    """Return the refusal of a line that the caller's key could not send as a call of its own."""
    needed = _SCOPES.get(operation, "payments:write")
    if needed in scopes:
        return []
    why = f"operation {operation} needs a key with the scope {needed}."
    return [FieldError("#/operation", "forbidden", why)]


def _line_of(raw: bytes, explain: Callable[[ValidationFailed], ValidationFailed]) -> Line:
    """Return a line. Raises ValidationFailed or MalformedBody."""
    try:
        return lines.decode(raw)
    except (msgspec.ValidationError, RecursionError):
        refused = refusal(raw, Line)
        if not isinstance(refused, ValidationFailed):
            raise refused from None
        refuse_repeated_keys(raw)
        raise explain(refused) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise not_json(error) from None
