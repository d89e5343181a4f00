"""Payments over HTTP: translate between requests, flows and responses."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from math import ceil
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from easypay import clock, ids, inputs
from easypay.api.auth import caller_of
from easypay.api.duplicates import duplicates_page
from easypay.api.http import Headers, Request, Response, decode, encode
from easypay.api.idempotency import (
    canonical,
    canonical_payment,
    check_key,
    fingerprint,
    key_of,
)
from easypay.api.paging import Cursors, limit_of, moment_of, page_response
from easypay.clock import rfc3339
from easypay.db.partitions import month_start
from easypay.errors import FieldError, NotFound, PreconditionFailed, ValidationFailed
from easypay.hmac_sha256 import Digest
from easypay.merchants.directory import Directory
from easypay.merchants.model import Caller
from easypay.payments import store
from easypay.payments.begin import Ask
from easypay.payments.flows import Payments
from easypay.payments.idempotency import Reply, first_reply
from easypay.payments.model import Kind, Operation, Payment
from easypay.payments.requests import (
    CapturePayment,
    CreatePayment,
    RefundPayment,
    ReviewPayment,
    VoidPayment,
    check_payment,
    with_rules,
)
from easypay.payments.views import operation_view, payment_view, refund_view

PATH: Final = "/api/v1/payments"
_create = msgspec.json.Decoder(CreatePayment)
_capture = msgspec.json.Decoder(CapturePayment)
_void = msgspec.json.Decoder(VoidPayment)
_refund = msgspec.json.Decoder(RefundPayment)
_review = msgspec.json.Decoder(ReviewPayment)

NO_SUCH_KEY: Final = "This key was never used, or so long ago that it is no longer stored."
_LAST_ID: Final = UUID(int=(1 << 128) - 1)
_FIRST_ID: Final = UUID(int=0)


class EventView(msgspec.Struct, frozen=True):
    """An event of a payment, with the payment's status after it."""

    id: str
    type: str
    payment_id: str
    operation_id: str
    status: str
    amount: int
    currency: str
    created_at: str


class KeyView(msgspec.Struct, frozen=True):
    """The use of an idempotency key. `reply_status` is null until the request was answered."""

    key: str
    payment_id: str
    operation_id: str
    kind: str
    state: str
    reply_status: int | None
    created_at: str
    expires_at: str


class PaymentsApi:
    """The handlers for payments."""

    def __init__(
        self,
        *,
        payments: Payments,
        directory: Directory,
        pool: Any,
        cursors: Cursors,
        fingerprinting: Digest,
        key_days: int,
        unknown_retry_s: float,
    ) -> None:
        """`unknown_retry_s`: the Retry-After of a 202; by then the resolver has inquired once."""
        self._payments = payments
        self._directory = directory
        self._pool = pool
        self._cursors = cursors
        self._fingerprinting = fingerprinting
        self._key_days = key_days
        self._unknown_retry_s = b"%d" % max(1, ceil(unknown_retry_s))

    async def create(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, "payments:write")
        key = key_of(request)
        allow_duplicate = _allows_duplicate(request)
        rules: Any = {
            "currencies": caller.currencies,
            "raw_cards": caller.allow_raw_cards,
            "at": clock.now() - timedelta(days=1),
        }
        try:
            body = decode(request, _create, check_repeated_keys=False)
        except ValidationFailed as refused:
            raise with_rules(refused, **rules) from None
        form = canonical_payment(request, body)
        ask = Ask(caller, key, fingerprint(self._fingerprinting, request, form), allow_duplicate)
        try:
            check_payment(body, **rules)
        except ValidationFailed:
            # The body may have been valid when it was first sent: then that reply stands.
            first = await first_reply(self._pool, ask)
            if first is None:
                raise
            return self._answer(first)
        return self._answer(await self._payments.create(ask, body))

    async def capture(self, request: Request) -> Response:
        ask, payment_id, body = await self._money(
            request, "payments:write", _capture, may_be_empty=False
        )
        reply = await self._payments.capture(
            ask, payment_id, _none_if_unset(body.amount), _expected_version(request)
        )
        return self._answer(reply)

    async def void(self, request: Request) -> Response:
        ask, payment_id, _ = await self._money(request, "payments:write", _void)
        return self._answer(await self._payments.void(ask, payment_id, _expected_version(request)))

    async def approve(self, request: Request) -> Response:
        return await self._reviewed(request, approve=True)

    async def decline(self, request: Request) -> Response:
        return await self._reviewed(request, approve=False)

    async def _reviewed(self, request: Request, *, approve: bool) -> Response:
        ask, payment_id, _ = await self._money(request, "payments:write", _review)
        version = _expected_version(request)
        return self._answer(await self._payments.review(ask, payment_id, version, approve=approve))

    async def refund(self, request: Request) -> Response:
        ask, payment_id, body = await self._money(
            request, "refunds:write", _refund, may_be_empty=False
        )
        reply = await self._payments.refund(
            ask, payment_id, _none_if_unset(body.amount), _expected_version(request)
        )
        return self._answer(reply, suffix="/refunds")

    async def get(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, "payments:read")
        payment = await self._payments.get(caller, _payment_id(request))
        tag = f'"v{payment.version}"'.encode()
        if _matches(request.headers.get(b"if-none-match"), tag):
            return Response(304, headers=[(b"etag", tag)], cache_control=b"private, no-cache")
        return Response(
            200,
            encode(payment_view(payment)),
            headers=[(b"etag", tag)],
            cache_control=b"private, no-cache",
        )

    async def list(self, request: Request) -> Response:
        """List payments, newest first: the newest two months, then older ones if needed."""
        caller = await caller_of(self._directory, request, "payments:read")
        query = request.query("limit", "cursor", "created_from", "created_to")
        limit = limit_of(query)
        since, until = moment_of(query, "created_from"), moment_of(query, "created_to")
        scope = f"payments {query.get('created_from')} {query.get('created_to')}"
        floor = _FIRST_ID if since is None else ids.lowest_id_at(since)
        below = _LAST_ID if until is None else ids.lowest_id_at(until)
        if "cursor" in query:
            below = min(below, self._cursors.read(query["cursor"], caller, scope))

        newest = min(below, ids.lowest_id_at(clock.now() + timedelta(days=1)))
        near = max(floor, ids.lowest_id_at(month_start(ids.moment_of(newest), -1)))
        rows = await store.list_payments(
            self._pool, caller.merchant_id, caller.mode, below=below, floor=near, limit=limit + 1
        )
        if len(rows) <= limit and near > floor:
            rows += await store.list_payments(
                self._pool,
                caller.merchant_id,
                caller.mode,
                below=near,
                floor=floor,
                limit=limit + 1 - len(rows),
            )
        return self._page(request, rows, limit, payment_view, caller, scope)

    async def duplicates(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, "payments:read")
        return await duplicates_page(request, caller, self._pool, self._cursors)

    async def refunds(self, request: Request) -> Response:
        return await self._operations(request, Kind.REFUND, refund_view)

    async def operations(self, request: Request) -> Response:
        return await self._operations(request, None, operation_view)

    async def events(self, request: Request) -> Response:
        caller, payment, limit, after, scope = await self._child_page(request, "events")
        rows = await store.list_events(
            self._pool, caller.merchant_id, payment.id, after=after, limit=limit + 1
        )
        return self._page(request, rows, limit, event_view, caller, scope)

    async def key(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, "payments:read")
        key = check_key(request.params["key"])
        use = await store.find_key(self._pool, caller.merchant_id, caller.mode, key)
        if use is None:
            raise NotFound(NO_SUCH_KEY)
        operation = use.operation
        view = KeyView(
            key=key,
            payment_id=ids.typed(ids.PAYMENT, operation.payment_id),
            operation_id=ids.typed(ids.OPERATION, operation.id),
            kind=operation.kind,
            state=operation.state,
            reply_status=operation.reply_status,
            created_at=rfc3339(use.created_at),
            expires_at=rfc3339(use.created_at + timedelta(days=self._key_days)),
        )
        return Response(200, encode(view))

    def _answer(self, reply: Reply, *, suffix: str = "") -> Response:
        payment_id = ids.typed(ids.PAYMENT, reply.payment_id)
        location = f"{PATH}/{payment_id}{suffix}".encode()
        headers: Headers = []
        if reply.status < 300:
            headers.append((b"location", location))
        if reply.status == 202:
            headers.append((b"retry-after", self._unknown_retry_s))
        if reply.replayed:
            headers.append((b"idempotency-replayed", b"true"))
        problem = reply.status >= 400
        return Response(
            status=reply.status,
            body=reply.body,
            content_type=b"application/problem+json" if problem else b"application/json",
            headers=headers,
            spent=reply.spent,
            payment_id=payment_id,
            replayed=reply.replayed,
        )

    async def _money(
        self,
        request: Request,
        scope: str,
        decoder: "msgspec.json.Decoder[Any]",
        *,
        may_be_empty: bool = True,
    ) -> tuple[Ask, UUID, Any]:
        """Read the request of a capture, void, refund or review.

        `may_be_empty` only if the body has no amount: no body at all would mean the full amount.
        """
        caller = await caller_of(self._directory, request, scope)
        key = key_of(request)
        payment_id = _payment_id(request)
        body = decode(request, decoder, may_be_empty=may_be_empty)
        ask = Ask(caller, key, fingerprint(self._fingerprinting, request, canonical(body)))
        return ask, payment_id, body

    async def _operations(
        self, request: Request, kind: Kind | None, view: Callable[[Operation, str], Any]
    ) -> Response:
        caller, payment, limit, after, scope = await self._child_page(request, kind or "operations")
        rows = await store.list_operations(
            self._pool, caller.merchant_id, payment.id, kind=kind, after=after, limit=limit + 1
        )

        def render(operation: Operation) -> Any:
            return view(operation, payment.processor)

        return self._page(request, rows, limit, render, caller, scope)

    def _page(
        self,
        request: Request,
        rows: Sequence[Any],
        limit: int,
        view: Callable[[Any], Any],
        caller: Caller,
        scope: str,
    ) -> Response:
        """Return a page. `rows` has one more than `limit` if there is another page."""
        more = len(rows) > limit
        last = self._cursors.write(rows[limit - 1].id, caller, scope) if more else None
        return page_response(request, [view(row) for row in rows[:limit]], last)

    async def _child_page(
        self, request: Request, name: str
    ) -> tuple[Caller, Payment, int, UUID, str]:
        caller = await caller_of(self._directory, request, "payments:read")
        payment_id = _payment_id(request)
        query = request.query("limit", "cursor")
        limit = limit_of(query)
        payment = await self._payments.get(caller, payment_id)
        scope = f"{name} {payment_id.hex}"
        after = _FIRST_ID
        if "cursor" in query:
            after = self._cursors.read(query["cursor"], caller, scope)
        return caller, payment, limit, after, scope


def event_view(row: store.Happened) -> EventView:
    """Return an event as the API shows it."""
    return EventView(
        id=ids.typed(ids.EVENT, row.id),
        type=row.type,
        payment_id=ids.typed(ids.PAYMENT, row.payment_id),
        operation_id=ids.typed(ids.OPERATION, row.operation_id),
        status=row.status,
        amount=row.amount_minor,
        currency=row.currency,
        created_at=rfc3339(row.created_at),
    )


def _payment_id(request: Request) -> UUID:
    payment_id = ids.parse(ids.PAYMENT, request.params["id"])
    if payment_id is None:
        raise NotFound("there is no such payment")
    return payment_id


def _allows_duplicate(request: Request) -> bool:
    """Return whether the shop wants the payment even if it looks like another one.

    Raises ValidationFailed if the header has another value: a typing error must not decide that.
    """
    value = request.headers.get(b"allow-duplicate")
    if value is None:
        return False
    if value != b"true":
        why = "Allow-Duplicate must be true. Leave the header out if a duplicate is not wanted."
        raise ValidationFailed.of([FieldError("Allow-Duplicate", "invalid", why)])
    return True


def _none_if_unset(amount: int | UnsetType) -> int | None:
    return None if amount is UNSET else amount


def _expected_version(request: Request) -> int | None:
    """Return the version of If-Match. Raises PreconditionFailed if the tag cannot be ours."""
    tag = request.headers.get(b"if-match")
    if tag is None or tag == b"*":
        return None
    version = inputs.whole_number(tag[2:-1].decode("latin-1"), 0, 999_999_999)
    if tag[:2] != b'"v' or tag[-1:] != b'"' or version is None:
        raise PreconditionFailed('Send the payment\'s ETag, such as "v2", as you received it.')
    return version


def _matches(header: bytes | None, tag: bytes) -> bool:
    if header is None:
        return False
    return header.strip() == b"*" or tag in (
        part.strip().removeprefix(b"W/") for part in header.split(b",")
    )
