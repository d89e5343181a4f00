"""Find the outcome of one operation in Authorize.Net's reporting.

A sale, an authorization and a refund are transactions of their own, found by their reference in
the processor's lists (`account_lists`). A capture and a void change their parent, so the parent's
details are requested; a review's transaction likewise.

Reporting may lag, so one "absent" soon after the call proves little: the caller decides when to
believe it.
"""

from easypay.processors.authorize_net import account_lists
from easypay.processors.authorize_net.http_client import HttpClient
from easypay.processors.authorize_net.transaction_inquiry import Transactions
from easypay.processors.base import Deadline, Finding, InquiryRequest, PassRequest


async def inquire(client: HttpClient, request: InquiryRequest, deadline: Deadline) -> Finding:
    """Find one operation. Raises ValueError for an unknown kind, and nothing for what the network
    or the processor does."""
    match request.kind:
        case "authorize" | "sale" | "refund":
            one = PassRequest(account=request.account, wanted=[request])
            passed = await account_lists.look(client, one, deadline)
            return passed.findings[request.reference]
        case "capture" | "void" | "review":
            return await Transactions(client, request.account, deadline).changed(request)
        case _:
            raise ValueError(f"{request.kind!r} is not a kind of operation")
