"""The merchant's texts about a payment: one type for the request, the row and the processor.

To add a text, change four places:

1. here: the field with its limits, its description and an example, and the name of INTENT_TYPE;
2. a migration: the column of the same name, and the new INTENT_TYPE;
3. what the processor is told (`processors/*/messages.py`);
4. what the API shows (`PaymentView` in `payments/views.py`).

Everything else is made from `PaymentDetails`: the statements, the documents, exports, seeds.
"""

from collections.abc import Mapping
from operator import attrgetter
from typing import Annotated, Any, Final, get_args

import msgspec
from msgspec import Meta

# `$` alone would allow a line break after the text.
NO_CONTROL: Final = r"^[^\x00-\x1f\x7f\ud800-\udfff]*(?!\n)$"


def free_text(longest: int, description: str, *, example: str | None = None) -> Meta:
    """Return the limits of free text of 1 to `longest` characters.

    Forbidden characters are searched for in all texts at once (`payments/requests.py`): a pattern
    for each text would take longer than reading the whole body.
    """
    return Meta(
        min_length=1,
        max_length=longest,
        description=description,
        extra_json_schema={"pattern": NO_CONTROL},
        extra={"example": example},
    )


def formatted_text(
    must_be: str,
    pattern: str,
    description: str | None = None,
    *,
    example: str | None = None,
    **more: Any,
) -> Meta:
    """Return the limits of text in a fixed format. `must_be` completes "<field> must be ..."."""
    extra = {"must_be": must_be, "example": example}
    return Meta(pattern=pattern, description=description, extra=extra, **more)


OrderReference = Annotated[str, free_text(64, "The merchant's order number.", example="order-1002")]
CustomerReference = Annotated[
    str,
    free_text(20, "The merchant's id of the customer: `customer.reference` of the request."),
]
Description = Annotated[str, free_text(255, "What the customer bought.", example="Two engines")]
StatementDescriptor = Annotated[
    str,
    formatted_text(
        "text of letters, digits, spaces and . * & ' -",
        r"^[A-Za-z0-9 .*&'-]+$",
        "What the cardholder sees on the statement.",
        example="EXAMPLE SHOP",
        min_length=1,
        max_length=22,
    ),
]


class PaymentDetails(msgspec.Struct, frozen=True, gc=False):
    """The merchant's own texts about a payment. Each field is a column of `payments`."""

    order_reference: OrderReference | None = None
    customer_reference: CustomerReference | None = None
    description: Description | None = None
    statement_descriptor: StatementDescriptor | None = None


INTENT_TYPE: Final = "payment_intent_3"
"""The row type of a payment that begins (`payments/statements.py`); it has all these fields. A new
text needs a new type, because the gateway of the version before goes on using the old one."""

NO_DETAILS: Final = PaymentDetails()
DETAIL_FIELDS: Final = PaymentDetails.__struct_fields__
detail_values = attrgetter(*DETAIL_FIELDS)
"""Returns the texts of anything that has them, in the order of DETAIL_FIELDS."""


def details_of(source: PaymentDetails) -> PaymentDetails:
    """Return only the details of a request that has other fields, too."""
    return PaymentDetails(*detail_values(source))


def _meta_of(field: msgspec.structs.FieldInfo) -> Meta:
    text, _none = get_args(field.type)
    _str, meta = get_args(text)
    assert isinstance(meta, Meta)
    return meta


_META: Final = {field.name: _meta_of(field) for field in msgspec.structs.fields(PaymentDetails)}
DETAIL_DESCRIPTIONS: Final[Mapping[str, str]] = {
    name: meta.description for name, meta in _META.items() if meta.description
}
DETAIL_EXAMPLES: Final[Mapping[str, str]] = {
    name: example for name, meta in _META.items() if (example := (meta.extra or {})["example"])
}
"""For people: what each text is, and an example of those that a request usually has."""
