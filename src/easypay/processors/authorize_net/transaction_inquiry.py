"""Find what happened to one transaction: request its details, and have `evidence` judge them.

A pass uses this for what the lists name, an inquiry for the parent that a capture, a void or a
review changes. Raises nothing for what the network or the processor does.
"""

from time import monotonic
from typing import Final

from easypay.processors.authorize_net import (
    evidence,
    messages,
    replies,
    reporting,
    wire,
)
from easypay.processors.authorize_net.connection import Reply
from easypay.processors.authorize_net.evidence import ApprovedInPart
from easypay.processors.authorize_net.http_client import HttpClient
from easypay.processors.authorize_net.reporting import Details, Unreadable
from easypay.processors.base import (
    Absent,
    Account,
    Deadline,
    Finding,
    Found,
    Inconclusive,
    InquiryRequest,
    NotSent,
    Unknown,
    VoidRequest,
)

CALL_S: Final = 20.0
"""The limit of one call, so that one that hangs does not use up the time of the others."""


class Transactions:
    """Asks about one account's transactions, all under one deadline."""

    def __init__(self, client: HttpClient, account: Account, deadline: Deadline) -> None:
        self.account = account
        self._client = client
        self._deadline = deadline

    async def ask(self, question: bytes) -> Reply | NotSent | Unknown:
        deadline = Deadline(min(self._deadline.at, monotonic() + CALL_S))
        return await self._client.post(self.account.url, question, deadline)

    async def own(self, request: InquiryRequest, transaction_id: str, where: str) -> Finding:
        """Judge a sale, authorization or refund by the transaction that carries its reference."""
        details = await self._details(request, transaction_id)
        if isinstance(details, Unreadable):
            return Inconclusive(reason=f"found ({where}), but details: {details.reason}")
        finding = evidence.judge_own(request, details)
        if isinstance(finding, ApprovedInPart):
            return await self._void_part(request, finding)
        return finding

    async def named(self, request: InquiryRequest, transaction_id: str) -> Finding:
        """Judge a transaction that a person names. It must carry our reference, and a partial
        approval is not voided."""
        details = await self._details(request, transaction_id)
        if isinstance(details, Unreadable):
            return Inconclusive(reason=f"its details cannot be read: {details.reason}")
        if details.invoice_number != request.reference:
            carries = wire.printable(details.invoice_number, 40)
            return Inconclusive(reason=f"its invoice number is {carries}, not {request.reference}")
        finding = evidence.judge_own(request, details)
        if isinstance(finding, ApprovedInPart):
            return Inconclusive(reason=f"approved for less than was asked: {finding.evidence}")
        return finding

    async def changed(self, request: InquiryRequest) -> Finding:
        """Judge a capture, a void or a review by the transaction that it changes."""
        details = await self._parent(request)
        if isinstance(details, Inconclusive):
            return details
        return evidence.judge(request, details)

    async def voided_instead(self, request: InquiryRequest, absent: Absent) -> Finding:
        """Judge a full refund that is in no list: it may have been made as a void."""
        details = await self._parent(request)
        if isinstance(details, Inconclusive):
            return details
        return evidence.judge_voided_payment(request, details, absent)

    async def _parent(self, request: InquiryRequest) -> Details | Inconclusive:
        if request.transaction_id is None:
            return Inconclusive(reason="the operation names no parent to ask")
        details = await self._details(request, request.transaction_id)
        if isinstance(details, Unreadable):
            return Inconclusive(reason=f"details of the parent: {details.reason}")
        return details

    async def _details(self, request: InquiryRequest, transaction_id: str) -> Details | Unreadable:
        reference = request.reference
        question = reporting.transaction_details(self.account, reference, transaction_id)
        return reporting.read_details(await self.ask(question), reference, transaction_id)

    async def _void_part(self, request: InquiryRequest, part: ApprovedInPart) -> Finding:
        """Void a partial approval: the payment is all or nothing."""
        void = VoidRequest(
            account=self.account,
            reference=request.reference,
            transaction_id=part.approved.transaction_id,
        )
        voided = replies.outcome(
            await self.ask(messages.void(void)),
            void.reference,
            kind="void",
            parent=void.transaction_id,
        )
        outcome = replies.after_partial_void(part.approved, voided, request.currency)
        if isinstance(outcome, Unknown):
            return Inconclusive(reason=outcome.reason)
        return Found(outcome=outcome, evidence=f"{part.evidence}; voided")
