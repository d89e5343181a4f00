"""The table of every API call: name, path, scope, request and replies.

Routing and documentation are both made from it, so the two cannot drift.
"""

from typing import Final

import msgspec

from easypay import errors
from easypay.api import admin, payments
from easypay.api.paging import Page
from easypay.errors import EasyPayError
from easypay.payments import requests
from easypay.payments.views import OperationView, PaymentView, RefundView


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One call. `handler` names a method of `api` ("payments", "admin" or "system")."""

    method: str
    path: str
    api: str
    handler: str
    summary: str
    description: str
    body: type | None = None
    body_required: bool = True
    """False if the request may come without a body, which counts as `{}`."""
    replies: dict[int, type | None]
    page_of: type | None = None
    """For lists: the type of the items in `data`."""
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    scope: str | None = None
    """A key's scope, "admin", or None if no key is needed."""
    errors: tuple[type[EasyPayError], ...] = ()

    @property
    def operation_id(self) -> str:
        """Unique and stable: the call's name in generated clients."""
        return f"{self.api}_{self.handler}"


_BODY: Final = (
    errors.MalformedBody,
    errors.BodyTooLarge,
    errors.UnsupportedMediaType,
    errors.ValidationFailed,
)
_KEY: Final = (errors.InvalidApiKey, errors.Forbidden)
_MONEY: Final = (
    *_KEY,
    *_BODY,
    errors.IdempotencyKeyMissing,
    errors.IdempotencyKeyInvalid,
    errors.IdempotencyKeyReused,
    errors.RequestInProgress,
    errors.ProcessorRejected,
    errors.ProcessorNotSetUp,
    errors.ProcessorNotReady,
    errors.ProcessorAccountRefused,
    errors.ProcessorUnavailable,
    errors.Overloaded,
    errors.DatabaseUnavailable,
    errors.Internal,
)
_FOLLOW_UP: Final = (
    *_MONEY,
    errors.NotFound,
    errors.InvalidState,
    errors.PreconditionFailed,
    errors.ProcessorInvalidState,
    errors.NotExecuted,
)
_READ: Final = (*_KEY, errors.NotFound, errors.DatabaseUnavailable)
_ADMIN: Final = (errors.InvalidApiKey, errors.DatabaseUnavailable)
_ONE: Final = "/api/v1/payments/{id}"
_MERCHANT: Final = "/api/v1/admin/merchants/{id}"


def _follow_up(
    handler: str,
    body: type,
    summary: str,
    description: str,
    *more: type[EasyPayError],
    path: str | None = None,
    view: type = PaymentView,
    scope: str = "payments:write",
    body_required: bool = False,
) -> Route:
    """Return a call that acts on a payment. `path` defaults to `/handler`."""
    return Route(
        method="POST",
        path=_ONE + (path or f"/{handler}"),
        api="payments",
        handler=handler,
        summary=summary,
        description=description,
        body=body,
        body_required=body_required,
        replies={201: view, 202: view},
        headers=("Idempotency-Key", "If-Match"),
        scope=scope,
        errors=(*_FOLLOW_UP, *more),
    )


def _list_of(view: type, handler: str, summary: str, description: str) -> Route:
    """Return a list call for something that belongs to a payment."""
    return Route(
        method="GET",
        path=f"{_ONE}/{handler}",
        api="payments",
        handler=handler,
        summary=summary,
        description=description,
        replies={200: Page},
        page_of=view,
        query=("limit", "cursor"),
        scope="payments:read",
        errors=(*_READ, errors.ValidationFailed),
    )


TOPICS: Final = (
    "payments", "idempotency", "errors", "conventions", "testing", "administration", "objects",
    "system",
)  # fmt: skip
"""The pages under /docs, in the order of their navigation."""

ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="POST",
        path="/api/v1/payments",
        api="payments",
        handler="create",
        summary="Take a payment",
        description=(
            "Takes the money at once (`capture: automatic`) or holds it (`capture: manual`). A "
            "decline is 201 with `status: declined` and a `decline_code`. 202 means that the "
            "outcome is not known yet: the payment is `processing`. Read it at its Location."
        ),
        body=requests.CreatePayment,
        replies={201: PaymentView, 202: PaymentView},
        headers=("Idempotency-Key",),
        scope="payments:write",
        errors=_MONEY,
    ),
    Route(
        method="GET",
        path="/api/v1/payments",
        api="payments",
        handler="list",
        summary="List payments",
        description="Newest first. Only payments of the key's merchant and mode.",
        replies={200: Page},
        page_of=PaymentView,
        query=("limit", "cursor", "created_from", "created_to"),
        scope="payments:read",
        errors=(*_KEY, errors.ValidationFailed, errors.DatabaseUnavailable),
    ),
    Route(
        method="GET",
        path=_ONE,
        api="payments",
        handler="get",
        summary="Read a payment",
        description="Returns the version as an ETag. 304 if `If-None-Match` has the same ETag.",
        replies={200: PaymentView, 304: None},
        headers=("If-None-Match",),
        scope="payments:read",
        errors=_READ,
    ),
    _follow_up(
        "capture",
        requests.CapturePayment,
        "Capture an authorization",
        "Captures `amount`, or all of it with the body `{}`, once per payment. A partial capture "
        "releases the rest. A body is required. "
        "202 means that the outcome is not known yet; the reply shows the payment unchanged.",
        errors.AmountExceedsAuthorized,
        body_required=True,
    ),
    _follow_up(
        "void",
        requests.VoidPayment,
        "Void a payment",
        "Releases an authorization, or undoes a capture that has not settled. "
        "202 means that the outcome is not known yet; the reply shows the payment unchanged.",
    ),
    _follow_up(
        "approve",
        requests.ReviewPayment,
        "Approve a payment in review",
        "Approves a payment that a fraud filter holds. It becomes `captured`, or `authorized` if "
        "it was made with `capture: manual`, or `declined` if the processor still refuses it.",
    ),
    _follow_up(
        "decline",
        requests.ReviewPayment,
        "Decline a payment in review",
        "Declines a payment that a fraud filter holds, and releases its money. The reply shows "
        "the payment's status: somebody else may have approved it first.",
    ),
    _follow_up(
        "refund",
        requests.RefundPayment,
        "Refund a payment",
        "Refunds `amount`, or the rest with the body `{}`. A body is required. All refunds "
        "together cannot exceed the captured amount. A full refund is possible at any time: "
        "before settlement the processor voids the payment (`method: void`). A partial refund "
        "before settlement is 409 `not_settled`.",
        errors.AmountExceedsCaptured,
        errors.NotSettled,
        path="/refunds",
        view=RefundView,
        scope="refunds:write",
        body_required=True,
    ),
    _list_of(
        RefundView,
        "refunds",
        "List a payment's refunds",
        "Oldest first.",
    ),
    _list_of(
        OperationView,
        "operations",
        "List a payment's operations",
        "Every call to the processor, oldest first.",
    ),
    _list_of(
        payments.EventView,
        "events",
        "List a payment's events",
        "Every change of the payment, oldest first.",
    ),
    Route(
        method="GET",
        path="/api/v1/idempotency-keys/{key:path}",
        api="payments",
        handler="key",
        summary="Look up an idempotency key",
        description="The payment and operation that the key made, and the reply's status.",
        replies={200: payments.KeyView},
        scope="payments:read",
        errors=(*_READ, errors.IdempotencyKeyInvalid),
    ),
    Route(
        method="POST",
        path="/api/v1/admin/merchants",
        api="admin",
        handler="create_merchant",
        summary="Create a merchant",
        description="A new tenant. No other merchant can see its data.",
        body=admin.CreateMerchant,
        replies={201: admin.MerchantView},
        scope="admin",
        errors=(*_ADMIN, *_BODY),
    ),
    Route(
        method="GET",
        path="/api/v1/admin/merchants",
        api="admin",
        handler="list_merchants",
        summary="List merchants",
        description="All merchants, oldest first.",
        replies={200: Page},
        page_of=admin.MerchantView,
        scope="admin",
        errors=_ADMIN,
    ),
    Route(
        method="GET",
        path=_MERCHANT,
        api="admin",
        handler="get_merchant",
        summary="Read a merchant",
        description="The merchant's settings.",
        replies={200: admin.MerchantView},
        scope="admin",
        errors=(*_ADMIN, errors.NotFound),
    ),
    Route(
        method="PATCH",
        path=_MERCHANT,
        api="admin",
        handler="update_merchant",
        summary="Change a merchant",
        description="Changes the fields that are sent, in every process within a second.",
        body=admin.UpdateMerchant,
        replies={200: admin.MerchantView},
        scope="admin",
        errors=(*_ADMIN, *_BODY, errors.NotFound),
    ),
    Route(
        method="PUT",
        path=_MERCHANT + "/accounts/{mode}",
        api="admin",
        handler="set_account",
        summary="Set a processor account",
        description=(
            "Saves the credentials of an account at a processor, for `test` or `live`, encrypted. "
            "EasyPay first asks the processor whether it accepts them. 422: it refuses them. 503: "
            "it cannot be asked. Nothing is saved in either case. `check: false` saves without "
            "asking."
        ),
        body=admin.SetAccount,
        replies={204: None},
        scope="admin",
        errors=(*_ADMIN, *_BODY, errors.NotFound, errors.ProcessorUnavailable),
    ),
    Route(
        method="POST",
        path=_MERCHANT + "/keys",
        api="admin",
        handler="create_key",
        summary="Create an API key",
        description="The reply shows the secret. It cannot be shown again.",
        body=admin.CreateKey,
        replies={201: admin.NewKeyView},
        scope="admin",
        errors=(*_ADMIN, *_BODY, errors.NotFound),
    ),
    Route(
        method="GET",
        path=_MERCHANT + "/keys",
        api="admin",
        handler="list_keys",
        summary="List a merchant's keys",
        description="All keys, revoked ones too, without their secrets.",
        replies={200: Page},
        page_of=admin.KeyView,
        scope="admin",
        errors=(*_ADMIN, errors.NotFound),
    ),
    Route(
        method="POST",
        path=_MERCHANT + "/keys/{key_id}/rotate",
        api="admin",
        handler="rotate_key",
        summary="Rotate a key",
        description="Creates a new key with the same scopes. The old key works for the overlap.",
        body=admin.RotateKey,
        body_required=False,
        replies={201: admin.NewKeyView},
        scope="admin",
        errors=(*_ADMIN, *_BODY, errors.NotFound),
    ),
    Route(
        method="POST",
        path=_MERCHANT + "/keys/{key_id}/revoke",
        api="admin",
        handler="revoke_key",
        summary="Revoke a key",
        description="The key stops working in every process within a second. Idempotent.",
        replies={200: admin.KeyView},
        scope="admin",
        errors=(*_ADMIN, errors.NotFound),
    ),
    Route(
        method="GET",
        path="/livez",
        api="system",
        handler="livez",
        summary="Is the process alive?",
        description="Does not check the database or the processor.",
        replies={200: None},
    ),
    Route(
        method="GET",
        path="/readyz",
        api="system",
        handler="readyz",
        summary="Should it get traffic?",
        description="503 while the database is unreachable or the process is stopping.",
        replies={200: None, 503: None},
    ),
    Route(
        method="GET",
        path="/metrics",
        api="system",
        handler="metrics",
        summary="Metrics",
        description=(
            "In Prometheus' text format, for all processes of this host. The separate listener "
            "(EASYPAY_METRICS_LISTEN) needs no key."
        ),
        replies={200: None},
        scope="admin",
        errors=(errors.InvalidApiKey,),
    ),
    Route(
        method="GET",
        path="/openapi.json",
        api="system",
        handler="openapi",
        summary="This API as OpenAPI 3.1",
        description="Generated from the code.",
        replies={200: None},
    ),
    Route(
        method="GET",
        path="/docs",
        api="system",
        handler="docs",
        summary="The documentation",
        description="The start page. It loads nothing from elsewhere.",
        replies={200: None},
    ),
    Route(
        method="GET",
        path="/docs/{page}",
        api="system",
        handler="topic",
        summary="A page of the documentation",
        description="The page of one topic.",
        replies={200: None},
        errors=(errors.NotFound,),
    ),
    Route(
        method="GET",
        path="/problems/{code}",
        api="system",
        handler="problem",
        summary="What a problem means",
        description="The page behind a problem's `type`.",
        replies={200: None},
        errors=(errors.NotFound,),
    ),
)
