"""Authorize.Net as a `Processor`: one call out, one outcome back."""

import ssl
from collections.abc import Callable

from easypay.processors.authorize_net import messages
from easypay.processors.authorize_net.http_client import HttpClient
from easypay.processors.authorize_net.inquiry import inquire
from easypay.processors.base import (
    AuthorizeRequest,
    CaptureRequest,
    Deadline,
    Finding,
    InquiryRequest,
    Outcome,
    RefundRequest,
    ReviewRequest,
    VoidRequest,
)


class AuthorizeNet:
    """Speaks to the account and address that each request carries. Sends every request at most
    once: a duplicate is refused by the processor only within its window, and not surely."""

    name = "authorize_net"

    def __init__(
        self,
        *,
        connect_timeout_s: float = 1.0,
        max_connections: int = 1024,
        after_write: Callable[[], None] | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._client = HttpClient(
            connect_timeout_s=connect_timeout_s,
            connections=max_connections,
            after_write=after_write,
            ssl_context=ssl_context,
        )

    async def authorize(self, request: AuthorizeRequest, deadline: Deadline) -> Outcome:
        body = messages.authorization(request)
        reply = await self._client.post(request.account.url, body, deadline)
        return messages.outcome(reply, request.reference, currency=request.currency)

    async def capture(self, request: CaptureRequest, deadline: Deadline) -> Outcome:
        body = messages.capture(request)
        reply = await self._client.post(request.account.url, body, deadline)
        return messages.outcome(
            reply, request.reference, currency=request.currency, parent=request.transaction_id
        )

    async def void(self, request: VoidRequest, deadline: Deadline) -> Outcome:
        body = messages.void(request)
        reply = await self._client.post(request.account.url, body, deadline)
        return messages.outcome(reply, request.reference, parent=request.transaction_id)

    async def refund(self, request: RefundRequest, deadline: Deadline) -> Outcome:
        body = messages.refund(request)
        reply = await self._client.post(request.account.url, body, deadline)
        return messages.outcome(reply, request.reference, currency=request.currency)

    async def refund_or_void(self, request: RefundRequest, deadline: Deadline) -> Outcome:
        return await self.refund(request, deadline)

    async def review(self, request: ReviewRequest, deadline: Deadline) -> Outcome:
        body = messages.review(request)
        reply = await self._client.post(request.account.url, body, deadline)
        return messages.outcome(reply, request.reference, parent=request.transaction_id)

    async def inquire(self, request: InquiryRequest, deadline: Deadline) -> Finding:
        return await inquire(self._client, request, deadline)

    async def close(self) -> None:
        await self._client.close()
