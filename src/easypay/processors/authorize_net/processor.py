"""Authorize.Net as a `Processor`: which requests are sent, in which order. Decides nothing."""

import ssl
from collections.abc import Awaitable, Callable

import msgspec

from easypay import ids
from easypay.processors.authorize_net import (
    account_lists,
    messages,
    reason_meanings,
    refund_or_void,
    replies,
    reporting,
)
from easypay.processors.authorize_net.books import AuthorizeNetBooks
from easypay.processors.authorize_net.connection import Reply
from easypay.processors.authorize_net.customer_vault import AuthorizeNetVault
from easypay.processors.authorize_net.http_client import HttpClient
from easypay.processors.authorize_net.inquiry import inquire
from easypay.processors.authorize_net.transaction_inquiry import Transactions
from easypay.processors.authorize_net.webhooks import AuthorizeNetWebhooks
from easypay.processors.base import (
    Account,
    AccountCheck,
    Approved,
    AuthorizeRequest,
    CaptureRequest,
    Deadline,
    Finding,
    Found,
    InquiryRequest,
    NotSent,
    OnFound,
    Outcome,
    Passed,
    PassRequest,
    RefundRequest,
    ReviewRequest,
    Unknown,
    VoidRequest,
)
from easypay.processors.host_names import HostNames
from easypay.processors.integration import ConnectionFigures


class AuthorizeNet:
    """Calls the account and address that each request carries. Sends each request at most once:
    the processor refuses duplicates only within its window, and not reliably."""

    def __init__(
        self,
        *,
        connect_timeout_s: float = 1.0,
        max_connections: int = 1024,
        connection_age_s: float = 600.0,
        names: HostNames | None = None,
        after_write: Callable[[], None] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        more_headers: Callable[[], bytes] = bytes,
    ) -> None:
        self._client = HttpClient(
            connect_timeout_s=connect_timeout_s,
            connections=max_connections,
            age_s=connection_age_s,
            names=names,
            after_write=after_write,
            ssl_context=ssl_context,
            more_headers=more_headers,
        )
        self.vault = AuthorizeNetVault(self._client)
        """Customers' stored payment methods."""
        self.books = AuthorizeNetBooks(self._client)
        """What has settled, and what has not."""
        self.webhooks = AuthorizeNetWebhooks(self._client)
        """Where it sends its notifications."""

    async def authorize(self, request: AuthorizeRequest, deadline: Deadline) -> Outcome:
        reply = await self._post(request.account, messages.authorization(request), deadline)
        outcome = replies.outcome(reply, request.reference, currency=request.currency)
        if not isinstance(outcome, Approved) or not replies.falls_short(
            outcome, request.amount_minor
        ):
            return outcome
        void = VoidRequest(
            account=request.account,
            reference=request.reference,
            transaction_id=outcome.transaction_id,
        )
        return replies.after_partial_void(
            outcome, await self.void(void, deadline), request.currency
        )

    async def capture(self, request: CaptureRequest, deadline: Deadline) -> Outcome:
        reply = await self._post(request.account, messages.capture(request), deadline)
        outcome = replies.outcome(
            reply,
            request.reference,
            kind="capture",
            currency=request.currency,
            parent=request.transaction_id,
        )
        if isinstance(outcome, Unknown) and outcome.code == reason_meanings.ALREADY_CAPTURED:
            return await self._captured_before(request, outcome, deadline)
        return outcome

    async def void(self, request: VoidRequest, deadline: Deadline) -> Outcome:
        reply = await self._post(request.account, messages.void(request), deadline)
        return replies.outcome(reply, request.reference, kind="void", parent=request.transaction_id)

    async def refund(self, request: RefundRequest, deadline: Deadline) -> Outcome:
        reply = await self._post(request.account, messages.refund(request), deadline)
        return replies.outcome(reply, request.reference, kind="refund", currency=request.currency)

    async def refund_or_void(self, request: RefundRequest, deadline: Deadline) -> Outcome:
        refusal = await self.refund(request, deadline)
        if not refund_or_void.may_be_unsettled(request, refusal):
            return refusal
        question = reporting.transaction_details(
            request.account, request.reference, request.transaction_id
        )
        reply = await self._post(request.account, question, deadline)
        payment = reporting.read_details(reply, request.reference, request.transaction_id)
        step = refund_or_void.after_refusal(request, refusal, payment)
        if step != "void":
            return step
        void = VoidRequest(
            account=request.account,
            reference=request.reference,
            transaction_id=request.transaction_id,
        )
        after = refund_or_void.after_void(request, await self.void(void, deadline))
        if after != "refund":
            return after
        return refund_or_void.after_second_refusal(request, await self.refund(request, deadline))

    async def review(self, request: ReviewRequest, deadline: Deadline) -> Outcome:
        reply = await self._post(request.account, messages.review(request), deadline)
        return replies.outcome(
            reply,
            request.reference,
            kind="approve" if request.approve else "end",
            parent=request.transaction_id,
        )

    async def inquire(self, request: InquiryRequest, deadline: Deadline) -> Finding:
        return await inquire(self._client, request, deadline)

    async def inquire_transaction(
        self, request: InquiryRequest, transaction_id: str, deadline: Deadline
    ) -> Finding:
        transactions = Transactions(self._client, request.account, deadline)
        return await transactions.named(request, transaction_id)

    async def look(
        self, request: PassRequest, deadline: Deadline, *, on_found: OnFound | None = None
    ) -> Passed:
        return await account_lists.look(self._client, request, deadline, on_found=on_found)

    async def closed_batches(
        self, account: Account, since_ms: int, now_ms: int, deadline: Deadline
    ) -> frozenset[str] | None:
        return await account_lists.closed_batches(self._client, account, since_ms, now_ms, deadline)

    async def check_account(self, account: Account, deadline: Deadline) -> AccountCheck:
        reference = ids.reference(ids.new_id())
        reply = await self._post(account, messages.authenticate_test(account, reference), deadline)
        return replies.account_check(reply, reference)

    async def _captured_before(
        self, request: CaptureRequest, unclear: Unknown, deadline: Deadline
    ) -> Outcome:
        """Treat "already captured" as done if the amount is ours, else as unknown."""
        asked = InquiryRequest(
            account=request.account,
            kind="capture",
            reference=request.reference,
            amount_minor=request.amount_minor,
            currency=request.currency,
            transaction_id=request.transaction_id,
            sent_at_ms=0,
        )
        finding = await inquire(self._client, asked, deadline)
        if isinstance(finding, Found) and isinstance(finding.outcome, Approved):
            return msgspec.structs.replace(finding.outcome, code=reason_meanings.ALREADY_CAPTURED)
        return unclear

    def _post(
        self, account: Account, body: bytes, deadline: Deadline
    ) -> Awaitable[Reply | NotSent | Unknown]:
        return self._client.post(account.url, body, deadline)

    def connection_figures(self) -> ConnectionFigures:
        """Return what the metrics show of the connections."""
        return self._client.figures()

    async def close(self) -> None:
        await self._client.close()
