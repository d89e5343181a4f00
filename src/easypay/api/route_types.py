"""What a call of the API is, and what several calls have in common."""

from typing import Final

import msgspec

from easypay import errors
from easypay.api.paging import Page
from easypay.errors import EasyPayError


class Route(msgspec.Struct, frozen=True):
    """One call."""

    call: str
    """Its method and its path."""
    operation_id: str
    """Unique and stable: the call's name in generated clients. `admin_create_key` is the method
    `create_key` of the handlers named "admin"; the others are "payments" and "system"."""
    summary: str
    description: str
    body: type | None = None
    body_required: bool = True
    """False if the request may come without a body, which counts as `{}`."""
    replies: dict[int, type | None] = msgspec.field(default_factory=lambda: {200: None})
    page_of: type | None = None
    """For lists: the type of the items in `data`."""
    numbered: bool = False
    """For lists: whether a page can be asked for by its number."""
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    handlers: str | None = None
    """The handlers that have the method, if the operation id does not begin with their name."""
    streams: bool = False
    """Whether the answer leaves in pieces, in one of the formats of `exports.MEDIA_TYPES`."""
    uploads: bool = False
    """Whether the body is a file that the handler reads as it comes, in one of the same formats."""
    scope: str | None = None
    """A key's scope, "admin", or None if no key is needed."""
    errors: tuple[type[EasyPayError], ...] = ()

    @property
    def method(self) -> str:
        return self.call.partition(" ")[0]

    @property
    def path(self) -> str:
        return self.call.partition(" ")[2]

    @property
    def api(self) -> str:
        return self.handlers or self.operation_id.partition("_")[0]

    @property
    def handler(self) -> str:
        return self.operation_id.partition("_")[2]


KEY: Final = (errors.InvalidApiKey, errors.Forbidden)
BODY: Final = (
    errors.MalformedBody,
    errors.BodyTooLarge,
    errors.UnsupportedMediaType,
    errors.ValidationFailed,
)
KEYED: Final = (*KEY, errors.DatabaseUnavailable)
MONEY: Final = (
    *KEY,
    *BODY,
    errors.IdempotencyKeyMissing,
    errors.IdempotencyKeyInvalid,
    errors.IdempotencyKeyReused,
    errors.RequestInProgress,
    errors.ProcessorRejected,
    errors.ProcessorNotSetUp,
    errors.ProcessorNotReady,
    errors.ProcessorAccountRefused,
    errors.ProcessorUnavailable,
    errors.TooManyQueued,
    errors.Overloaded,
    errors.DatabaseUnavailable,
    errors.Internal,
)
READ: Final = (
    *KEY,
    errors.NotFound,
    errors.ValidationFailed,
    errors.Overloaded,
    errors.DatabaseUnavailable,
)
READ_ONE: Final = (*READ, errors.Archived)
LIST: Final = (*KEY, errors.ValidationFailed, errors.Overloaded, errors.DatabaseUnavailable)
UNCHANGED: Final = ("If-None-Match",)
"""The request header of what has an ETag."""
MAY_BE_OLD: Final = ("Cache-Control",)
"""The request header of what may come from the caches or from a read replica."""
LISTED: Final = (*MAY_BE_OLD, *UNCHANGED)
PAYMENT: Final = "/api/v1/payments/{id}"


def list_of_payment(view: type, handler: str, summary: str, description: str) -> Route:
    """Return a list call for something that belongs to a payment."""
    return Route(
        f"GET {PAYMENT}/{handler}",
        f"payments_{handler}",
        summary,
        description,
        handlers="reading",
        replies={200: Page, 304: None},
        page_of=view,
        query=("limit", "cursor"),
        headers=UNCHANGED,
        scope="payments:read",
        errors=READ_ONE,
    )
