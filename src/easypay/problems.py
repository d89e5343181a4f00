"""RFC 9457 problem details: every refusal of the API is rendered here."""

from typing import Any, Final

import msgspec

from easypay.errors import Archived, EasyPayError

MEDIA_TYPE: Final = "application/problem+json"


class BadField(msgspec.Struct, frozen=True):
    """One bad field: where it is in the request, a stable code, and what to do."""

    pointer: str
    code: str
    detail: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """A refusal. Programs should read `code`, which is stable."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str | None = None
    errors: list[BadField] = []
    payment_id: str | None = None
    operation_id: str | None = None
    processor_code: str | None = None
    processor_message: str | None = None
    decline_code: str | None = None
    archive: str | None = None


_json = msgspec.json.Encoder()


def problem(error: EasyPayError, **more: Any) -> Problem:
    """Return the problem of an error; `more` are any of the optional members."""
    return Problem(
        type=f"/problems/{error.code}",
        title=error.title,
        status=error.http_status,
        detail=error.detail,
        code=error.code,
        errors=[BadField(field.pointer, field.code, field.detail) for field in error.fields],
        archive=error.archive if isinstance(error, Archived) else None,
        **{"payment_id": error.payment_id, **more},
    )


def render(error: EasyPayError, **more: Any) -> bytes:
    """Return the problem as JSON."""
    return _json.encode(problem(error, **more))
