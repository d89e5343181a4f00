"""The calls of payments, and of what belongs to them."""

from typing import Final

from easypay import errors
from easypay.api import duplicates, exports, payment_filters, reading, statistics
from easypay.api.paging import Page
from easypay.api.route_types import (
    KEY,
    LIST,
    LISTED,
    MAY_BE_OLD,
    MONEY,
    PAYMENT,
    READ,
    READ_ONE,
    UNCHANGED,
    Route,
    list_of_payment,
)
from easypay.errors import EasyPayError
from easypay.payments import requests
from easypay.payments.views import OperationView, PaymentView, RefundView

_FOLLOW_UP: Final = (
    *MONEY,
    errors.NotFound,
    errors.Archived,
    errors.InvalidState,
    errors.PreconditionFailed,
    errors.ProcessorInvalidState,
    errors.NotExecuted,
)


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
    headers: tuple[str, ...] = ("Idempotency-Key", "If-Match", "Prefer"),
) -> Route:
    """Return a call that acts on a payment. `path` defaults to `/handler`."""
    return Route(
        f"POST {PAYMENT}{path or f'/{handler}'}",
        f"payments_{handler}",
        summary,
        description,
        body=body,
        body_required=body_required,
        replies={201: view, 202: view},
        headers=headers,
        scope=scope,
        errors=(*_FOLLOW_UP, *more),
    )


PAYMENTS: Final[tuple[Route, ...]] = (
    Route(
        "POST /api/v1/payments",
        "payments_create",
        "Take a payment",
        "Takes the money at once (`capture: automatic`) or holds it (`capture: manual`). A "
        "decline is 201 with `status: declined` and a `decline_code`. 202 means that the "
        "outcome is not known yet: the payment is `processing`. Read it at its Location. With "
        "`Prefer: respond-async` a payment by token is accepted at once with 202, and is `pending` "
        "until a worker sends it.",
        body=requests.CreatePayment,
        replies={201: PaymentView, 202: PaymentView},
        headers=("Idempotency-Key", "Allow-Duplicate", "Prefer"),
        scope="payments:write",
        errors=(*MONEY, errors.DuplicatePayment, errors.RepeatsRestoredPayment),
    ),
    Route(
        "GET /api/v1/payments",
        "payments_list",
        "List payments",
        "Newest first, or oldest first with `order=oldest`. Only payments of the key's merchant "
        "and mode. Follow `next_cursor`: newest first, no payment is skipped or repeated while "
        "others arrive; oldest first, one that is being made then can be missed at the end. "
        "With `page` or `size` the reply has page numbers and a total instead; such pages end at "
        "row 10000. Filters can be combined. A list with filters is a fraction of a second behind; "
        "one without, and each payment by its id, is exact. A reply with `Read-As-Of` comes from a "
        "read replica, and is complete up to that time.",
        handlers="reading",
        replies={200: Page, 304: None},
        page_of=PaymentView,
        numbered=True,
        query=(
            *("limit", "cursor", "created_from", "created_to", "order", "expand"),
            *("page", "size"),
            *payment_filters.NAMES,
        ),
        headers=LISTED,
        scope="payments:read",
        errors=LIST,
    ),
    Route(
        "GET /api/v1/payments/stats",
        "statistics_read",
        "Read statistics",
        "Counts, amounts and rates by currency, exact up to the last payment. Flows are what "
        "happened from `from` until `to`; statuses are what the payments created in that time are "
        "now. Days, weeks (from Monday) and months are those of the merchant's `time_zone`.",
        replies={200: statistics.StatisticsView, 304: None},
        query=("from", "to", "interval", "by", "currency"),
        headers=LISTED,
        scope="payments:read",
        errors=(
            *KEY,
            errors.ValidationFailed,
            errors.StatisticsNotReady,
            errors.DatabaseUnavailable,
        ),
    ),
    Route(
        "GET /api/v1/payments/duplicates",
        "payments_duplicates",
        "Find payments that look alike",
        "Groups of payments with the same card or bank account, amount, currency and order "
        "reference, each within the merchant's `duplicate_window_seconds` of the one before. "
        "Oldest first, over a range of at most 31 days: by default the day before "
        "`created_to`, or before now. Payments that took no money, and payments by token, are "
        "left out. A page may have fewer groups than `limit`, or none, although more pages "
        "follow: a request passes over at most 50,000 payments. A group that goes on after a "
        "page begins the next one with its last payment.",
        handlers="reading",
        replies={200: Page, 304: None},
        page_of=duplicates.DuplicateGroupView,
        query=duplicates.QUERY,
        headers=LISTED,
        scope="payments:read",
        errors=LIST,
    ),
    Route(
        "GET /api/v1/payments/export",
        "payments_export",
        "Export payments",
        "All payments that fit, from one snapshot, as CSV (`Accept: text/csv`) or as one JSON "
        "object per line (`Accept: application/jsonl`). It takes the filters and the order of the "
        "list of payments, and is exact. The last line says how many payments there are; without "
        "it the file was cut off. The key needs the scope `payments:export`, which no key has "
        "unless it was asked for. If too many exports of the merchant are running: 429.",
        handlers="exports",
        query=exports.QUERY,
        headers=MAY_BE_OLD,
        streams=True,
        scope="payments:export",
        errors=(
            *KEY,
            errors.NotAcceptable,
            errors.ValidationFailed,
            errors.TooManyExports,
            errors.Overloaded,
            errors.DatabaseUnavailable,
        ),
    ),
    Route(
        "GET /api/v1/payments/{id}",
        "payments_get",
        "Read a payment",
        "Returns the version as an ETag. 304 if `If-None-Match` has the same ETag. With "
        "`expand` the ETag also changes with what is shown beside the payment.",
        handlers="reading",
        replies={200: PaymentView, 304: None},
        query=("expand", "wait"),
        headers=LISTED,
        scope="payments:read",
        errors=READ_ONE,
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
        "Releases an authorization, or undoes a capture that has not settled; once EasyPay knows "
        "that it has, a void is 409 `already_settled`. "
        "202 means that the outcome is not known yet; the reply shows the payment unchanged.",
        errors.AlreadySettled,
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
        "before settlement is 409 `not_settled`; `settlement_state` shows when parts can be "
        "refunded. What a bank has taken back is not refunded (409 `invalid_state`).",
        errors.AmountExceedsCaptured,
        errors.NotSettled,
        errors.RepeatsRestoredPayment,
        path="/refunds",
        view=RefundView,
        scope="refunds:write",
        body_required=True,
        headers=("Idempotency-Key", "If-Match", "Prefer", "Allow-Duplicate"),
    ),
    list_of_payment(
        RefundView,
        "refunds",
        "List a payment's refunds",
        "Oldest first.",
    ),
    list_of_payment(
        OperationView,
        "operations",
        "List a payment's operations",
        "Every call to the processor, oldest first.",
    ),
)
BY_OTHER_IDS: Final[tuple[Route, ...]] = (
    Route(
        "GET /api/v1/refunds",
        "payments_list_refunds",
        "List refunds",
        "The refunds of all payments, newest first, or oldest first with `order=oldest`. Only "
        "refunds of the key's merchant and mode.",
        handlers="reading",
        replies={200: Page, 304: None},
        page_of=RefundView,
        query=("limit", "cursor", "created_from", "created_to", "order"),
        headers=LISTED,
        scope="payments:read",
        errors=LIST,
    ),
    Route(
        "GET /api/v1/refunds/{id}",
        "payments_get_refund",
        "Read a refund",
        "The refund as it is now. The Location of a new refund leads here.",
        handlers="reading",
        replies={200: RefundView, 304: None},
        headers=UNCHANGED,
        scope="payments:read",
        errors=READ,
    ),
    Route(
        "GET /api/v1/operations/{id}",
        "payments_get_operation",
        "Read an operation",
        "One call to the processor, with its outcome and evidence.",
        handlers="reading",
        replies={200: OperationView, 304: None},
        headers=UNCHANGED,
        scope="payments:read",
        errors=READ,
    ),
    Route(
        "GET /api/v1/idempotency-keys/{key:path}",
        "payments_key",
        "Look up an idempotency key",
        "The payment and operation that the key made, and the reply's status.",
        handlers="reading",
        replies={200: reading.KeyView},
        scope="payments:read",
        errors=(*READ, errors.IdempotencyKeyInvalid),
    ),
)
