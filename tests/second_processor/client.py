"""The second processor as the gateway calls it. It finds every operation by its reference."""

import asyncio
from time import monotonic
from typing import Any

import httpx

from easypay.processors.base import (
    Absent,
    Account,
    AccountAccepted,
    AccountCheck,
    AccountRefusal,
    AccountUnreachable,
    Approved,
    AuthorizeRequest,
    CaptureRequest,
    Card,
    Deadline,
    Declined,
    Finding,
    Found,
    Inconclusive,
    InquiryRequest,
    NotSent,
    OnFound,
    Outcome,
    Passed,
    PassRequest,
    RefundRequest,
    Rejected,
    ReviewRequest,
    Unknown,
    VoidRequest,
)
from easypay.processors.integration import ClientOptions, Integration


class SecondProcessor:
    """Sends every request at most once."""

    def __init__(self, options: ClientOptions) -> None:
        limits = httpx.Limits(max_connections=options.max_connections)
        timeout = httpx.Timeout(None, connect=options.connect_timeout_s)
        self._http = httpx.AsyncClient(limits=limits, timeout=timeout, trust_env=False)

    async def authorize(self, request: AuthorizeRequest, deadline: Deadline) -> Outcome:
        if not isinstance(request.method, Card):
            return Rejected(code="cards_only", message="Only cards are taken.")
        return await self._do(
            request,
            deadline,
            "pay",
            amount=request.amount_minor,
            take=request.capture,
            number=request.method.number,
            expires=f"{request.method.exp_year}-{request.method.exp_month:02}",
        )

    async def capture(self, request: CaptureRequest, deadline: Deadline) -> Outcome:
        return await self._follow_up(request, deadline, "capture", amount=request.amount_minor)

    async def void(self, request: VoidRequest, deadline: Deadline) -> Outcome:
        return await self._follow_up(request, deadline, "void")

    async def refund(self, request: RefundRequest, deadline: Deadline) -> Outcome:
        return await self._follow_up(request, deadline, "refund", amount=request.amount_minor)

    async def refund_or_void(self, request: RefundRequest, deadline: Deadline) -> Outcome:
        return await self.refund(request, deadline)  # the bank refunds before settlement, too

    async def review(self, request: ReviewRequest, deadline: Deadline) -> Outcome:
        return Rejected(code="no_reviews", message="Nothing is ever held for review.")

    async def inquire(self, request: InquiryRequest, deadline: Deadline) -> Finding:
        reply = await self._ask(request.account, deadline, "find", reference=request.reference)
        if isinstance(reply, NotSent | Unknown):
            return Inconclusive(reason=reply.reason)
        if reply["result"] == "absent":
            return Absent(searched="its operations by reference")
        outcome = _outcome(reply)
        if isinstance(outcome, NotSent | Unknown):
            return Inconclusive(reason=outcome.reason)
        return Found(outcome=outcome, evidence=f"{request.reference} is {reply['result']}")

    async def inquire_transaction(
        self, request: InquiryRequest, transaction_id: str, deadline: Deadline
    ) -> Finding:
        finding = await self.inquire(request, deadline)
        if isinstance(finding, Found) and finding.outcome.transaction_id != transaction_id:
            return Absent(searched=f"transaction {transaction_id}, which is another operation's")
        return finding

    async def look(
        self, request: PassRequest, deadline: Deadline, *, on_found: OnFound | None = None
    ) -> Passed:
        findings: dict[str, Finding] = {}
        for wanted in request.wanted:
            finding = findings[wanted.reference] = await self.inquire(wanted, deadline)
            if on_found is not None and isinstance(finding, Found):
                await on_found(wanted.reference, finding)
        newest = await self._ask(request.account, deadline, "newest")
        seen = newest.get("references", []) if isinstance(newest, dict) else []
        listed = [name for name in seen if name not in findings][:200]
        return Passed(findings=findings, listed=listed, batches=frozenset(), pages=0)

    async def closed_batches(
        self, account: Account, since_ms: int, now_ms: int, deadline: Deadline
    ) -> frozenset[str]:
        return frozenset()  # the bank has no batches

    async def check_account(self, account: Account, deadline: Deadline) -> AccountCheck:
        reply = await self._ask(account, deadline, "hello")
        if isinstance(reply, NotSent | Unknown):
            return AccountUnreachable(reason=reply.reason)
        if reply["result"] == "welcome":
            return AccountAccepted()
        return AccountRefusal(code=reply["code"], message=reply["words"])

    async def close(self) -> None:
        await self._http.aclose()

    async def _follow_up(
        self,
        request: CaptureRequest | VoidRequest | RefundRequest,
        deadline: Deadline,
        call: str,
        **fields: Any,
    ) -> Outcome:
        return await self._do(request, deadline, call, transaction=request.transaction_id, **fields)

    async def _do(
        self,
        request: AuthorizeRequest | CaptureRequest | VoidRequest | RefundRequest,
        deadline: Deadline,
        call: str,
        **fields: Any,
    ) -> Outcome:
        reply = await self._ask(
            request.account, deadline, call, reference=request.reference, **fields
        )
        return reply if isinstance(reply, NotSent | Unknown) else _outcome(reply)

    async def _ask(
        self, account: Account, deadline: Deadline, call: str, **fields: Any
    ) -> dict[str, Any] | NotSent | Unknown:
        left_s = deadline.left(monotonic())
        if left_s <= 0:
            return NotSent(reason="no time left to begin a call")
        try:
            async with asyncio.timeout(left_s):
                response = await self._http.post(
                    account.url, json={**account.credentials, "call": call, **fields}
                )
            reply: dict[str, Any] = response.raise_for_status().json()
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            return NotSent(reason=f"could not connect: {error}")
        except (httpx.HTTPError, TimeoutError, ValueError) as error:  # it may have arrived
            return Unknown(reason=f"no clear answer: {type(error).__name__}")
        return reply


def _outcome(reply: dict[str, Any]) -> Outcome:
    match reply["result"]:
        case "approved":
            return Approved(
                transaction_id=reply["transaction"],
                amount_minor=reply["amount"],
                code="A1",
                card_brand="visa",
                card_last4=reply["last4"],
            )
        case "declined":
            return Declined(
                decline_code="generic_decline", code=reply["code"], message=reply["words"]
            )
        case "refused":
            return Rejected(code=reply["code"], message=reply["words"])
        case "stranger":
            refusal = AccountRefusal(code=reply["code"], message=reply["words"])
            return NotSent(reason="the account was refused", account_refusal=refusal)
    return Unknown(reason=f"it answered {reply['result']!r}")


SECOND = Integration(
    name="second",
    urls={"test": "http://127.0.0.1:1/test", "live": "http://127.0.0.1:1/live"},
    credentials={"shop": 40, "secret": 40},
    make=SecondProcessor,
    refused_fields={"S1": ("secret",)},
)
