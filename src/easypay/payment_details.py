"""The merchant's texts about a payment: one type for the request, the row and the processor.

A field added to `PaymentDetails` is accepted by the API, stored in the column of the same name,
and passed to the processor. You must still add the column (a migration), the processor's field
(`processors/*/messages.py`), and the API's field if it is shown (`payments/views.py`).
"""

from operator import attrgetter
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

# `$` alone would allow a line break after the text.
NO_CONTROL: Final = r"^[^\x00-\x1f\x7f\ud800-\udfff]*(?!\n)$"


def free_text(longest: int, description: str) -> Meta:
    """Return the limits of free text of 1 to `longest` characters.

    Forbidden characters are searched for in all texts at once (`payments/requests.py`): a pattern
    for each text would take longer than reading the whole body.
    """
    return Meta(
        min_length=1,
        max_length=longest,
        description=description,
        extra_json_schema={"pattern": NO_CONTROL},
    )


def formatted_text(must_be: str, pattern: str, description: str | None = None, **more: Any) -> Meta:
    """Return the limits of text in a fixed format. `must_be` completes "<field> must be ..."."""
    return Meta(pattern=pattern, description=description, extra={"must_be": must_be}, **more)


StatementDescriptor = Annotated[
    str,
    formatted_text(
        "text of letters, digits, spaces and . * & ' -",
        r"^[A-Za-z0-9 .*&'-]+$",
        "What the cardholder sees on the statement.",
        min_length=1,
        max_length=22,
    ),
]


class PaymentDetails(msgspec.Struct, frozen=True, gc=False):
    """The merchant's own texts about a payment. Each field is a column of `payments`."""

    order_reference: Annotated[str, free_text(64, "The merchant's order number.")] | None = None
    customer_reference: Annotated[str, free_text(20, "Same as `customer.reference`.")] | None = None
    description: Annotated[str, free_text(255, "What was bought.")] | None = None
    statement_descriptor: StatementDescriptor | None = None


NO_DETAILS: Final = PaymentDetails()
DETAIL_FIELDS: Final = PaymentDetails.__struct_fields__
_fields_of = attrgetter(*DETAIL_FIELDS)


def details_of(source: PaymentDetails) -> PaymentDetails:
    """Return only the details of a request that has other fields, too."""
    return PaymentDetails(*_fields_of(source))
