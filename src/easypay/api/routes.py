"""The table of every API call: name, path, scope, request and replies.

Routing and documentation are both made from it, so the two cannot drift.
"""

from typing import Final

import msgspec

from easypay import errors
from easypay.api import (
    admin,
    batches,
    customer_bodies,
    customers,
    duplicates,
    events,
    exports,
    notifications,
    payment_filters,
    profiles,
    reading,
    reconciliation,
    settlements,
    statistics,
    webhooks,
)
from easypay.api.paging import Page
from easypay.batches.views import BatchView
from easypay.customers.views import ErasureView, StoredCustomerView, StoredMethodView
from easypay.errors import EasyPayError
from easypay.notifications.accounts import PATH as NOTIFICATIONS
from easypay.payments import requests
from easypay.payments.views import EventView, OperationView, PaymentView, RefundView
from easypay.reconciliation.views import BreakView, ReconciliationView


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
    errors.TooManyQueued,
    errors.Overloaded,
    errors.DatabaseUnavailable,
    errors.Internal,
)
_FOLLOW_UP: Final = (
    *_MONEY,
    errors.NotFound,
    errors.Archived,
    errors.InvalidState,
    errors.PreconditionFailed,
    errors.ProcessorInvalidState,
    errors.NotExecuted,
)
_READ: Final = (
    *_KEY,
    errors.NotFound,
    errors.ValidationFailed,
    errors.Overloaded,
    errors.DatabaseUnavailable,
)
_READ_ONE: Final = (*_READ, errors.Archived)
_LIST: Final = (*_KEY, errors.ValidationFailed, errors.Overloaded, errors.DatabaseUnavailable)
_ADMIN: Final = (errors.InvalidApiKey, errors.DatabaseUnavailable)
_ONE: Final = "/api/v1/payments/{id}"
_UNCHANGED: Final = ("If-None-Match",)
"""The request header of what has an ETag."""
_MAY_BE_OLD: Final = ("Cache-Control",)
"""The request header of what may come from the caches or from a read replica."""
_LISTED: Final = (*_MAY_BE_OLD, *_UNCHANGED)
_WEBHOOKS: Final = (*_KEY, errors.DatabaseUnavailable)
_BATCH: Final = f"{batches.PATH}/{{id}}"
_ENDPOINT: Final = "/api/v1/webhook-endpoints/{id}"
_CUSTOMER: Final = "/api/v1/customers/{id}"
_METHOD: Final = "/api/v1/payment_methods/{id}"
_CUSTOMERS: Final = (*_KEY, errors.DatabaseUnavailable)
_CREATES: Final = (
    *_BODY,
    errors.IdempotencyKeyMissing,
    errors.IdempotencyKeyInvalid,
    errors.IdempotencyKeyReused,
)
_ETAGGED: Final[dict[int, type | None]] = {200: None, 304: None}


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
        f"POST {_ONE}{path or f'/{handler}'}",
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


def _list_of(view: type, handler: str, summary: str, description: str) -> Route:
    """Return a list call for something that belongs to a payment."""
    return Route(
        f"GET {_ONE}/{handler}",
        f"payments_{handler}",
        summary,
        description,
        handlers="reading",
        replies={200: Page, 304: None},
        page_of=view,
        query=("limit", "cursor"),
        headers=_UNCHANGED,
        scope="payments:read",
        errors=_READ_ONE,
    )


def _of_batch(handler: str, summary: str, description: str) -> Route:
    """Return a call that changes the state of a batch."""
    return Route(
        f"POST {_BATCH}/{handler}",
        f"batches_{handler}",
        summary,
        f"{description} Repeating the call changes nothing.",
        body=batches.ChangeBatch,
        body_required=False,
        replies={200: BatchView},
        scope=batches.SCOPE,
        errors=(*_KEY, *_BODY, errors.NotFound, errors.InvalidState, errors.DatabaseUnavailable),
    )


def _lines_of_batch(handler: str, summary: str, description: str) -> Route:
    """Return a call that streams something of each line of a batch."""
    return Route(
        f"GET {_BATCH}/{handler}",
        f"batches_{handler}",
        summary,
        f"{description} CSV (`Accept: text/csv`) or a JSON object per line "
        "(`Accept: application/jsonl`). The last line says how many there are; without it the file "
        "was cut off.",
        streams=True,
        scope=batches.READ_SCOPE,
        errors=(
            *_KEY,
            errors.NotFound,
            errors.NotAcceptable,
            errors.ValidationFailed,
            errors.DatabaseUnavailable,
        ),
    )


TOPICS: Final = (
    "payments", "settlements", "reconciliation", "customers", "batches", "events", "webhooks",
    "idempotency", "errors", "conventions", "testing", "administration",
    "objects", "system",
)  # fmt: skip
"""The pages under /docs, in the order of their navigation."""

ROUTES: Final[tuple[Route, ...]] = (
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
        errors=(*_MONEY, errors.DuplicatePayment, errors.RepeatsRestoredPayment),
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
        headers=_LISTED,
        scope="payments:read",
        errors=_LIST,
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
        headers=_LISTED,
        scope="payments:read",
        errors=(
            *_KEY,
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
        headers=_LISTED,
        scope="payments:read",
        errors=_LIST,
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
        headers=_MAY_BE_OLD,
        streams=True,
        scope="payments:export",
        errors=(
            *_KEY,
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
        headers=_LISTED,
        scope="payments:read",
        errors=_READ_ONE,
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
    Route(
        f"GET {_ONE}/settlements",
        "settlements_of_payment",
        "List what has settled of a payment",
        "Its charge and its refunds, oldest first, each with the batch that it settled in and what "
        "became of it. Empty until the processor's books were read that have it.",
        replies={200: Page, 304: None},
        page_of=settlements.SettledView,
        headers=_LISTED,
        scope=settlements.SCOPE,
        errors=_READ,
    ),
    Route(
        f"GET {settlements.PATH}",
        "settlements_list_batches",
        "List settlements",
        "The processor's batches that settled from `from` until `to`, at most 93 days, newest "
        "first, each with the sums of what is the merchant's in it. All are on one page.",
        replies={200: Page, 304: None},
        page_of=settlements.SettlementView,
        query=settlements.QUERY,
        headers=_LISTED,
        scope=settlements.SCOPE,
        errors=_LIST,
    ),
    Route(
        f"GET {settlements.PATH}/{{batch_id}}",
        "settlements_get",
        "Read a settlement",
        "A batch, with the sums of what is the merchant's in it.",
        replies={200: settlements.SettlementView, 304: None},
        headers=_LISTED,
        scope=settlements.SCOPE,
        errors=(*_LIST, errors.NotFound),
    ),
    _list_of(
        EventView,
        "events",
        "List a payment's events",
        "Every change of the payment, oldest first.",
    ),
    Route(
        "GET /api/v1/events",
        "events_list",
        "List events",
        "All that happened to the payments of the key's merchant and mode, oldest first, each with "
        "the payment as it was then. The order never changes, and nothing is put before what was "
        "shown: ask again with `next_cursor` as `after` for what came later. An event may come "
        "twice, with the same id. `Prefer: wait=30` waits for an event if there is none.",
        replies={200: events.FeedEventPage},
        query=events.QUERY,
        headers=("Prefer",),
        scope="events:read",
        errors=_LIST,
    ),
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
        headers=_LISTED,
        scope="payments:read",
        errors=_LIST,
    ),
    Route(
        "GET /api/v1/refunds/{id}",
        "payments_get_refund",
        "Read a refund",
        "The refund as it is now. The Location of a new refund leads here.",
        handlers="reading",
        replies={200: RefundView, 304: None},
        headers=_UNCHANGED,
        scope="payments:read",
        errors=_READ,
    ),
    Route(
        "GET /api/v1/operations/{id}",
        "payments_get_operation",
        "Read an operation",
        "One call to the processor, with its outcome and evidence.",
        handlers="reading",
        replies={200: OperationView, 304: None},
        headers=_UNCHANGED,
        scope="payments:read",
        errors=_READ,
    ),
    Route(
        "GET /api/v1/idempotency-keys/{key:path}",
        "payments_key",
        "Look up an idempotency key",
        "The payment and operation that the key made, and the reply's status.",
        handlers="reading",
        replies={200: reading.KeyView},
        scope="payments:read",
        errors=(*_READ, errors.IdempotencyKeyInvalid),
    ),
    Route(
        "POST /api/v1/customers",
        "customers_create",
        "Create a customer",
        "A customer whose payment methods can be stored. `reference` is your own id of the "
        "customer, and belongs to one customer at a time. A repeat with the same Idempotency-Key "
        "gets the same customer.",
        body=customer_bodies.CreateCustomer,
        replies={201: StoredCustomerView},
        headers=("Idempotency-Key",),
        scope=customers.WRITE,
        errors=(*_CUSTOMERS, *_CREATES, errors.NotFound),
    ),
    Route(
        "GET /api/v1/customers",
        "customers_list",
        "List customers",
        "Newest first, without those that were deleted; all, or those with a `reference` or an "
        "`email`.",
        replies={200: Page, 304: None},
        page_of=StoredCustomerView,
        query=customers.CUSTOMERS_QUERY,
        headers=_UNCHANGED,
        scope=customers.READ,
        errors=(*_CUSTOMERS, errors.ValidationFailed),
    ),
    Route(
        f"GET {_CUSTOMER}",
        "customers_get",
        "Read a customer",
        "Returns the version as an ETag.",
        replies={200: StoredCustomerView, 304: None},
        headers=_UNCHANGED,
        scope=customers.READ,
        errors=(*_CUSTOMERS, errors.NotFound, errors.ValidationFailed),
    ),
    Route(
        f"PATCH {_CUSTOMER}",
        "customers_update",
        "Change a customer",
        "Changes the fields that are sent; null removes one. `default_payment_method` is one of "
        "the customer's stored payment methods.",
        body=customer_bodies.UpdateCustomer,
        replies={200: StoredCustomerView},
        headers=("If-Match",),
        scope=customers.WRITE,
        errors=(*_CUSTOMERS, *_BODY, errors.NotFound, errors.PreconditionFailed),
    ),
    Route(
        f"DELETE {_CUSTOMER}",
        "customers_delete",
        "Delete a customer",
        "With all stored payment methods, here and at the processor. Payments that were made stay. "
        "What the processor does not confirm at once is repeated until it does.",
        replies={204: None},
        headers=("If-Match",),
        scope=customers.WRITE,
        errors=(*_CUSTOMERS, errors.NotFound, errors.PreconditionFailed),
    ),
    Route(
        f"POST {_CUSTOMER}/erase",
        "customers_erase",
        "Erase a customer's personal data",
        "Deletes the customer with all stored payment methods, here and at the processor, and "
        "removes its personal data here, also from its payments. What bookkeeping needs stays. "
        "200: it is done. 202: it goes on; read the customer to see how far it is. You can ask "
        "for it again.",
        body=customer_bodies.EraseCustomer,
        body_required=False,
        replies={200: ErasureView, 202: ErasureView},
        scope=customers.ERASE,
        errors=(*_CUSTOMERS, *_BODY, errors.NotFound),
    ),
    Route(
        f"POST {_CUSTOMER}/payment_methods",
        "customers_store_method",
        "Store a payment method",
        "Stores a token, a card, a bank account, or what an earlier payment was made with, in the "
        "processor's vault. 202 means that the processor has not answered clearly: the method is "
        "`making`; read it at its Location. 200 means that the customer has this card already. "
        "`validate` lets the issuer be asked first.",
        body=customer_bodies.StorePaymentMethod,
        replies={200: StoredMethodView, 201: StoredMethodView, 202: StoredMethodView},
        headers=("Idempotency-Key",),
        scope=customers.WRITE,
        errors=(
            *_CUSTOMERS,
            *_CREATES,
            errors.NotFound,
            errors.NotExecuted,
            errors.ProcessorRejected,
            errors.ProcessorNotSetUp,
            errors.ProcessorAccountRefused,
            errors.ProcessorUnavailable,
        ),
    ),
    Route(
        f"GET {_CUSTOMER}/payment_methods",
        "customers_list_methods",
        "List a customer's payment methods",
        "Newest first: those that are stored, and those that are being stored.",
        replies={200: Page, 304: None},
        page_of=StoredMethodView,
        query=("limit", "cursor"),
        headers=_LISTED,
        scope=customers.READ,
        errors=(*_CUSTOMERS, errors.NotFound, errors.ValidationFailed),
    ),
    Route(
        f"GET {_METHOD}",
        "customers_get_method",
        "Read a stored payment method",
        "Returns the version in an ETag. Never more of a card than its last four digits.",
        replies={200: StoredMethodView, 304: None},
        headers=_UNCHANGED,
        scope=customers.READ,
        errors=(*_CUSTOMERS, errors.NotFound, errors.ValidationFailed),
    ),
    Route(
        f"PATCH {_METHOD}",
        "customers_update_method",
        "Change a stored payment method",
        "Changes the expiry date or the billing address at the processor, or makes it the "
        "customer's default. 202 means that the processor has not answered clearly: the change is "
        "repeated until it does.",
        body=customer_bodies.UpdatePaymentMethod,
        replies={200: StoredMethodView, 202: StoredMethodView},
        headers=("If-Match",),
        scope=customers.WRITE,
        errors=(
            *_CUSTOMERS,
            *_BODY,
            errors.NotFound,
            errors.PreconditionFailed,
            errors.RequestInProgress,
            errors.ProcessorRejected,
            errors.ProcessorNotSetUp,
            errors.ProcessorAccountRefused,
            errors.ProcessorUnavailable,
        ),
    ),
    Route(
        f"DELETE {_METHOD}",
        "customers_delete_method",
        "Delete a stored payment method",
        "Nothing can be charged to it any more. What the processor does not confirm at once is "
        "repeated until it does.",
        replies={204: None},
        headers=("If-Match",),
        scope=customers.WRITE,
        errors=(
            *_CUSTOMERS,
            errors.NotFound,
            errors.PreconditionFailed,
            errors.RequestInProgress,
            errors.ProcessorNotSetUp,
        ),
    ),
    Route(
        f"POST {_METHOD}/validate",
        "customers_validate_method",
        "Validate a stored payment method",
        "Lets the processor ask the issuer whether the card is good. No money moves. `valid` is "
        "null if nobody answered.",
        body=customer_bodies.ValidatePaymentMethod,
        body_required=False,
        replies={200: customer_bodies.ValidityView},
        scope=customers.WRITE,
        errors=(
            *_CUSTOMERS,
            *_BODY,
            errors.NotFound,
            errors.InvalidState,
            errors.ProcessorNotSetUp,
        ),
    ),
    Route(
        f"POST {batches.PATH}",
        "batches_upload",
        "Upload a batch",
        "A file of payments, captures, refunds and voids: JSON lines or CSV. Every line is "
        "checked. If one is wrong, the batch is `invalid` and nothing of it runs, unless "
        "`on_error=skip`. Otherwise it starts at once, unless `start=false`. The same file, or the "
        "same Idempotency-Key, is the same batch: 200. The key needs the scope `batches:write`, "
        "and the scopes of the calls that the lines stand for.",
        replies={200: BatchView, 201: BatchView},
        query=batches.QUERY,
        headers=("Idempotency-Key",),
        uploads=True,
        scope=batches.SCOPE,
        errors=(
            *_KEY,
            errors.ValidationFailed,
            errors.BodyTooLarge,
            errors.UnsupportedMediaType,
            errors.RequestTimeout,
            errors.IdempotencyKeyMissing,
            errors.IdempotencyKeyInvalid,
            errors.IdempotencyKeyReused,
            errors.RequestInProgress,
            errors.TooManyUploads,
            errors.Overloaded,
            errors.DatabaseUnavailable,
        ),
    ),
    Route(
        f"GET {batches.PATH}",
        "batches_list_batches",
        "List batches",
        "All batches of the key's merchant and mode, newest first.",
        replies={200: Page},
        page_of=BatchView,
        query=("limit", "cursor"),
        scope=batches.READ_SCOPE,
        errors=(*_KEY, errors.ValidationFailed, errors.DatabaseUnavailable),
    ),
    Route(
        f"GET {_BATCH}",
        "batches_get",
        "Read a batch",
        "Its state and how far it has come: lines by state, sums by outcome and currency, lines a "
        "second, and how long it will take.",
        replies={200: BatchView},
        scope=batches.READ_SCOPE,
        errors=(*_KEY, errors.NotFound, errors.ValidationFailed, errors.DatabaseUnavailable),
    ),
    _of_batch("start", "Start a batch", "Runs a batch that is `ready`."),
    _of_batch(
        "pause",
        "Pause a batch",
        "No more lines begin. Those that are under way end within seconds.",
    ),
    _of_batch("resume", "Resume a batch", "Runs a paused batch on from where it was."),
    _of_batch(
        "cancel",
        "Cancel a batch",
        "No more lines begin, ever. What is done stays done: to undo it, void or refund.",
    ),
    _lines_of_batch(
        "results",
        "Read the results of a batch",
        "Every line with its state and outcome, in the order of the file, also while the batch "
        "runs.",
    ),
    _lines_of_batch(
        "errors",
        "Read what is wrong with a batch",
        "What is wrong with each line that cannot be run, and where.",
    ),
    Route(
        f"GET {reconciliation.PATH}",
        "reconciliation_state",
        "Read the state of reconciliation",
        "When the processor's books of each account were read, how far, and what is open, by kind.",
        replies={200: ReconciliationView},
        scope=reconciliation.READ,
        errors=(*_WEBHOOKS, errors.ValidationFailed),
    ),
    Route(
        f"GET {reconciliation.PATH}/breaks",
        "reconciliation_list_breaks",
        "List differences",
        "What differs between the processor's books and EasyPay's, newest first, with both sides.",
        replies={200: Page},
        page_of=BreakView,
        query=("limit", "cursor", "state", "kind"),
        scope=reconciliation.READ,
        errors=(*_WEBHOOKS, errors.ValidationFailed),
    ),
    Route(
        f"GET {reconciliation.PATH}/breaks/{{id}}",
        "reconciliation_get",
        "Read a difference",
        "Both sides, who sees to it, and how it ended.",
        replies={200: BreakView},
        scope=reconciliation.READ,
        errors=(*_WEBHOOKS, errors.ValidationFailed, errors.NotFound),
    ),
    Route(
        f"POST {reconciliation.PATH}/breaks/{{id}}/match",
        "reconciliation_match",
        "Match a difference",
        "Closes an open difference that you can explain. The reason is kept in the audit entries. "
        "Repeating the call changes nothing.",
        body=reconciliation.MatchBreak,
        replies={200: BreakView},
        scope=reconciliation.WRITE,
        errors=(*_WEBHOOKS, *_BODY, errors.NotFound, errors.InvalidState),
    ),
    Route(
        "POST /api/v1/webhook-endpoints",
        "webhooks_create",
        "Create a webhook endpoint",
        "An address that is told of events from now on, of all types or of some. The reply shows "
        "the secret with which messages are signed. It cannot be shown again.",
        body=webhooks.CreateEndpoint,
        replies={201: webhooks.NewEndpointView},
        scope=webhooks.SCOPE,
        errors=(*_WEBHOOKS, *_BODY),
    ),
    Route(
        "GET /api/v1/webhook-endpoints",
        "webhooks_list_endpoints",
        "List webhook endpoints",
        "All endpoints of the key's merchant and mode, oldest first, without their secrets.",
        replies={200: Page},
        page_of=webhooks.EndpointView,
        scope=webhooks.SCOPE,
        errors=(*_WEBHOOKS, errors.ValidationFailed),
    ),
    Route(
        f"GET {_ENDPOINT}",
        "webhooks_get",
        "Read a webhook endpoint",
        "Its state, and since when it has been failing.",
        replies={200: webhooks.EndpointView},
        scope=webhooks.SCOPE,
        errors=(*_WEBHOOKS, errors.NotFound),
    ),
    Route(
        f"PATCH {_ENDPOINT}",
        "webhooks_update",
        "Change or pause a webhook endpoint",
        "Changes the fields that are sent. `paused: true` lets events wait; `paused: false` sends "
        "what has waited, and enables an endpoint that was disabled.",
        body=webhooks.UpdateEndpoint,
        replies={200: webhooks.EndpointView},
        scope=webhooks.SCOPE,
        errors=(*_WEBHOOKS, *_BODY, errors.NotFound),
    ),
    Route(
        f"DELETE {_ENDPOINT}",
        "webhooks_delete",
        "Delete a webhook endpoint",
        "Nothing more is sent to it, not even what was waiting.",
        replies={204: None},
        scope=webhooks.SCOPE,
        errors=(*_WEBHOOKS, errors.NotFound),
    ),
    Route(
        f"POST {_ENDPOINT}/rotate-secret",
        "webhooks_rotate_secret",
        "Rotate a webhook secret",
        "Creates a new secret. Until the overlap ends messages carry a signature of each secret. "
        "The newest three sign.",
        body=webhooks.RotateSecret,
        body_required=False,
        replies={201: webhooks.NewEndpointView},
        scope=webhooks.SCOPE,
        errors=(*_WEBHOOKS, *_BODY, errors.NotFound),
    ),
    Route(
        f"POST {_ENDPOINT}/test",
        "webhooks_send_test",
        "Send a test event",
        "Sends an event of type `webhook.test`, whatever types the endpoint wants. What became of "
        "it is in the list of deliveries.",
        body=webhooks.SendTest,
        body_required=False,
        replies={202: webhooks.TestSentView},
        scope=webhooks.SCOPE,
        errors=(*_WEBHOOKS, *_BODY, errors.NotFound),
    ),
    Route(
        f"GET {_ENDPOINT}/deliveries",
        "webhooks_deliveries",
        "List deliveries",
        "Every attempt of the last 30 days with what the endpoint answered, newest first.",
        replies={200: Page},
        page_of=webhooks.AttemptView,
        query=("limit", "cursor"),
        scope=webhooks.SCOPE,
        errors=(*_WEBHOOKS, errors.NotFound, errors.ValidationFailed),
    ),
    Route(
        f"GET {_ENDPOINT}/deliveries/{{attempt_id}}",
        "webhooks_delivery",
        "Read a delivery",
        "One attempt with what was sent and what the endpoint answered. The request is made again "
        "from the event, so it has no signature.",
        replies={200: webhooks.DeliveryView},
        scope=webhooks.SCOPE,
        errors=(*_WEBHOOKS, errors.NotFound),
    ),
    Route(
        f"POST {_ENDPOINT}/redeliver",
        "webhooks_redeliver",
        "Send events again",
        "One event by its `event_id`, or all of the endpoint's types from `since` until `until`. "
        "They keep their ids, so a receiver that remembers ids does nothing twice.",
        body=webhooks.Redeliver,
        replies={202: webhooks.RedeliveryView},
        scope=webhooks.SCOPE,
        errors=(*_WEBHOOKS, *_BODY, errors.NotFound),
    ),
    Route(
        "POST /api/v1/admin/merchants",
        "admin_create_merchant",
        "Create a merchant",
        "A new tenant. No other merchant can see its data.",
        body=admin.CreateMerchant,
        replies={201: admin.MerchantView},
        scope="admin",
        errors=(*_ADMIN, *_BODY),
    ),
    Route(
        "GET /api/v1/admin/merchants",
        "admin_list_merchants",
        "List merchants",
        "All merchants, oldest first.",
        replies={200: Page},
        page_of=admin.MerchantView,
        scope="admin",
        errors=_ADMIN,
    ),
    Route(
        "GET /api/v1/admin/merchants/{id}",
        "admin_get_merchant",
        "Read a merchant",
        "The merchant's settings.",
        replies={200: admin.MerchantView},
        scope="admin",
        errors=(*_ADMIN, errors.NotFound),
    ),
    Route(
        "PATCH /api/v1/admin/merchants/{id}",
        "admin_update_merchant",
        "Change a merchant",
        "Changes the fields that are sent, in every process within a second.",
        body=admin.UpdateMerchant,
        replies={200: admin.MerchantView},
        scope="admin",
        errors=(*_ADMIN, *_BODY, errors.NotFound),
    ),
    Route(
        "PUT /api/v1/admin/merchants/{id}/accounts/{mode}",
        "admin_set_account",
        "Set a processor account",
        "Saves the credentials of an account at a processor, for `test` or `live`, encrypted. "
        "EasyPay first asks the processor whether it accepts them. 422: it refuses them. 503: "
        "it cannot be asked. Nothing is saved in either case. `check: false` saves without "
        "asking.",
        body=admin.SetAccount,
        replies={204: None},
        scope="admin",
        errors=(*_ADMIN, *_BODY, errors.NotFound, errors.ProcessorUnavailable),
    ),
    Route(
        "POST /api/v1/admin/merchants/{id}/keys",
        "admin_create_key",
        "Create an API key",
        "The reply shows the secret. It cannot be shown again.",
        body=admin.CreateKey,
        replies={201: admin.NewKeyView},
        scope="admin",
        errors=(*_ADMIN, *_BODY, errors.NotFound),
    ),
    Route(
        "GET /api/v1/admin/merchants/{id}/keys",
        "admin_list_keys",
        "List a merchant's keys",
        "All keys, revoked ones too, without their secrets.",
        replies={200: Page},
        page_of=admin.KeyView,
        scope="admin",
        errors=(*_ADMIN, errors.NotFound),
    ),
    Route(
        "POST /api/v1/admin/merchants/{id}/keys/{key_id}/rotate",
        "admin_rotate_key",
        "Rotate a key",
        "Creates a new key with the same scopes. The old key works for the overlap.",
        body=admin.RotateKey,
        body_required=False,
        replies={201: admin.NewKeyView},
        scope="admin",
        errors=(*_ADMIN, *_BODY, errors.NotFound),
    ),
    Route(
        "POST /api/v1/admin/merchants/{id}/keys/{key_id}/revoke",
        "admin_revoke_key",
        "Revoke a key",
        "The key stops working in every process within a second. Idempotent.",
        replies={200: admin.KeyView},
        scope="admin",
        errors=(*_ADMIN, errors.NotFound),
    ),
    Route(
        "POST /api/v1/admin/profiles",
        "profiles_take",
        "Profile this process",
        "Looks at the process that answers, for so many seconds: its CPU time, where its tasks "
        "wait, or which lines took memory. The answer comes at the end; a proxy must allow that. "
        "One profile is taken at a time; if the client leaves, it ends. `easypay profile` makes a "
        "flame graph of it.",
        body=profiles.TakeProfile,
        body_required=False,
        replies={200: profiles.ProfileView},
        scope="admin",
        errors=(*_ADMIN, *_BODY, errors.Overloaded),
    ),
    Route(
        f"POST {NOTIFICATIONS}",
        "notifications_receive",
        "Receive a processor's notification",
        "The processor calls this address, which `easypay processor register-webhooks` gives to "
        "it. The body is in the processor's own form, and signed with the account's signature key. "
        "It is stored and answered with 200 at once; then the processor is asked. One that comes "
        "again changes nothing.",
        replies={200: notifications.Received},
        errors=(
            errors.InvalidSignature,
            errors.MalformedRequest,
            errors.BodyTooLarge,
            errors.Overloaded,
            errors.DatabaseUnavailable,
            errors.Internal,
        ),
    ),
    Route(
        "GET /livez",
        "system_livez",
        "Is the process alive?",
        "Does not check the database or the processor.",
    ),
    Route(
        "GET /readyz",
        "system_readyz",
        "Should it get traffic?",
        "503 while the database is unreachable or the process is stopping.",
        replies={200: None, 503: None},
    ),
    Route(
        "GET /metrics",
        "system_metrics",
        "Metrics",
        "In Prometheus' text format, for all processes of this host. The separate listener "
        "(EASYPAY_METRICS_LISTEN) needs no key.",
        scope="admin",
        errors=(errors.InvalidApiKey,),
    ),
    Route(
        "GET /openapi.json",
        "system_openapi",
        "This API as OpenAPI 3.1",
        "Generated from the code.",
        replies=_ETAGGED,
        headers=_UNCHANGED,
    ),
    Route(
        "GET /docs",
        "system_docs",
        "The documentation",
        "The start page. It loads nothing from elsewhere.",
        replies=_ETAGGED,
        headers=_UNCHANGED,
    ),
    Route(
        "GET /docs/{page}",
        "system_topic",
        "A page of the documentation",
        "The page of one topic.",
        replies=_ETAGGED,
        headers=_UNCHANGED,
        errors=(errors.NotFound,),
    ),
    Route(
        "GET /docs/assets/{file}",
        "system_asset",
        "The style or the script of the documentation",
        "Its name changes with its content, so it can be kept for ever.",
        replies=_ETAGGED,
        headers=_UNCHANGED,
        errors=(errors.NotFound,),
    ),
    Route(
        "GET /problems/{code}",
        "system_problem",
        "What a problem means",
        "The page behind a problem's `type`.",
        replies=_ETAGGED,
        headers=_UNCHANGED,
        errors=(errors.NotFound,),
    ),
)
