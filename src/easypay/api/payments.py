"""Payments over HTTP: translate between requests, flows and responses."""

import re
from datetime import timedelta
from math import ceil
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from easypay import clock, ids
from easypay.api.auth import caller_of
from easypay.api.conditional import version_of
from easypay.api.http import Headers, Request, Response, decode
from easypay.api.idempotency import (
    canonical,
    canonical_payment,
    fingerprint,
    key_of,
)
from easypay.errors import FieldError, NotFound, PreconditionFailed, ValidationFailed
from easypay.hmac_sha256 import Digest
from easypay.merchants.directory import Directory
from easypay.payments.begin import Ask
from easypay.payments.flows import Payments, Reply, first_reply
from easypay.payments.model import CREATES, Kind
from easypay.payments.queueing import Queueing
from easypay.payments.requests import (
    CapturePayment,
    CreatePayment,
    RefundPayment,
    ReviewPayment,
    VoidPayment,
    check_payment,
    with_rules,
)

PATH: Final = "/api/v1/payments"
REFUNDS_PATH: Final = "/api/v1/refunds"
OPERATIONS_PATH: Final = "/api/v1/operations"
_APPLIED: Final = (b"preference-applied", b"respond-async")
_QUOTED: Final = re.compile(rb'"(?:[^"\\\\]|\\\\.)*"')
_DAY: Final = timedelta(days=1)
_create = msgspec.json.Decoder(CreatePayment)
_capture = msgspec.json.Decoder(CapturePayment)
_void = msgspec.json.Decoder(VoidPayment)
_refund = msgspec.json.Decoder(RefundPayment)
_review = msgspec.json.Decoder(ReviewPayment)


class PaymentsApi:
    """The handlers for payments."""

    def __init__(
        self,
        *,
        payments: Payments,
        queueing: Queueing,
        directory: Directory,
        pool: Any,
        fingerprinting: Digest,
        unknown_retry_s: float,
    ) -> None:
        """`unknown_retry_s`: the Retry-After of a 202; by then the resolver has inquired once."""
        self._payments = payments
        self._queueing = queueing
        self._directory = directory
        self._pool = pool
        self._fingerprinting = fingerprinting
        self._unknown_retry_s = b"%d" % max(1, ceil(unknown_retry_s))

    async def create(self, request: Request) -> Response:
        caller = await caller_of(self._directory, request, "payments:write")
        key = key_of(request)
        allow_duplicate = _allows_duplicate(request)
        rules: Any = {
            "currencies": caller.currencies,
            "raw_cards": caller.allow_raw_cards,
            "at": clock.now() - _DAY,
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
        if _responds_async(request):
            queued = await self._queueing.create(ask, body)
            if queued is not None:
                return self._answer(queued, applied=True)
        return self._answer(await self._payments.create(ask, body))

    async def capture(self, request: Request) -> Response:
        ask, payment_id, body = await self._money(
            request, "payments:write", _capture, may_be_empty=False
        )
        amount, version = _none_if_unset(body.amount), _expected_version(request)
        queued = await self._queued(request, ask, Kind.CAPTURE, payment_id, amount, version)
        if queued is not None:
            return queued
        return self._answer(await self._payments.capture(ask, payment_id, amount, version))

    async def void(self, request: Request) -> Response:
        ask, payment_id, _ = await self._money(request, "payments:write", _void)
        version = _expected_version(request)
        queued = await self._queued(request, ask, Kind.VOID, payment_id, None, version)
        if queued is not None:
            return queued
        return self._answer(await self._payments.void(ask, payment_id, version))

    async def approve(self, request: Request) -> Response:
        return await self._reviewed(request, approve=True)

    async def decline(self, request: Request) -> Response:
        return await self._reviewed(request, approve=False)

    async def _reviewed(self, request: Request, *, approve: bool) -> Response:
        ask, payment_id, _ = await self._money(request, "payments:write", _review)
        version = _expected_version(request)
        kind = Kind.APPROVE if approve else Kind.DECLINE
        queued = await self._queued(request, ask, kind, payment_id, None, version)
        if queued is not None:
            return queued
        return self._answer(await self._payments.review(ask, payment_id, version, approve=approve))

    async def refund(self, request: Request) -> Response:
        ask, payment_id, body = await self._money(
            request, "refunds:write", _refund, may_be_empty=False
        )
        ask = msgspec.structs.replace(ask, allow_duplicate=_allows_duplicate(request))
        amount, version = _none_if_unset(body.amount), _expected_version(request)
        queued = await self._queued(request, ask, Kind.REFUND, payment_id, amount, version)
        if queued is not None:
            return queued
        reply = await self._payments.refund(ask, payment_id, amount, version)
        return self._answer(reply, refund=True)

    async def _queued(
        self,
        request: Request,
        ask: Ask,
        kind: Kind,
        payment_id: UUID,
        amount: int | None,
        version: int | None,
    ) -> Response | None:
        """Queue an operation of a payment if the request prefers that. None if it runs at once."""
        if not _responds_async(request):
            return None
        reply = await self._queueing.follow(ask, kind, payment_id, amount, version)
        if reply is None:
            return None
        return self._answer(reply, refund=kind is Kind.REFUND, applied=True)

    def _answer(self, reply: Reply, *, refund: bool = False, applied: bool = False) -> Response:
        """`applied`: the request preferred to be answered before the outcome is known."""
        payment_id = ids.typed(ids.PAYMENT, reply.payment_id)
        headers: Headers = []
        if reply.status < 300:
            location = f"{PATH}/{payment_id}"
            if refund:
                location = f"{REFUNDS_PATH}/{ids.typed(ids.REFUND, reply.operation_id)}"
            elif reply.queued is not None and reply.queued not in CREATES:
                location = f"{OPERATIONS_PATH}/{ids.typed(ids.OPERATION, reply.operation_id)}"
            headers.append((b"location", location.encode()))
        if reply.status == 202:
            headers.append((b"retry-after", self._unknown_retry_s))
        if applied and reply.queued is not None:
            headers.append(_APPLIED)
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
        payment_id = payment_id_of(request)
        body = decode(request, decoder, may_be_empty=may_be_empty)
        ask = Ask(caller, key, fingerprint(self._fingerprinting, request, canonical(body)))
        return ask, payment_id, body


def payment_id_of(request: Request) -> UUID:
    """Return the payment that the path names. Raises NotFound if it can name none."""
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


def _responds_async(request: Request) -> bool:
    """Whether the request prefers an answer before its outcome is known (RFC 7240, 4.1). What else
    Prefer says is no business of these calls."""
    value = request.headers.get(b"prefer")
    if value is None:
        return False
    if b'"' in value:
        value = _QUOTED.sub(b'""', value)  # a comma in it ends nothing
    preferences = value.lower().split(b",")
    return any(each.partition(b";")[0].strip() == b"respond-async" for each in preferences)


def _none_if_unset(amount: int | UnsetType) -> int | None:
    return None if amount is UNSET else amount


def _expected_version(request: Request) -> int | None:
    """Return the version of If-Match. Raises PreconditionFailed if the tag cannot be ours."""
    tag = request.headers.get(b"if-match")
    if tag is None or tag == b"*":
        return None
    version = version_of(tag)
    if version is None:
        raise PreconditionFailed('Send the payment\'s ETag, such as "v2", as you received it.')
    return version
