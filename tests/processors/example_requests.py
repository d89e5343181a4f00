"""Example requests: a sale of 25.00 USD, its follow-up operations, and inquiries."""

from time import monotonic, time
from typing import Any, Final

from easypay.ids import new_id, reference
from easypay.processors.authorize_net.integration import AUTHORIZE_NET
from easypay.processors.base import (
    Account,
    AuthorizeRequest,
    CaptureRequest,
    Card,
    Deadline,
    InquiryRequest,
    RefundRequest,
    ReviewRequest,
    VoidRequest,
)

VISA: Final = "4111111111111111"


def authorize_net_account(url: str, login_id: str, transaction_key: str) -> Account:
    credentials = {"login_id": login_id, "transaction_key": transaction_key}
    return AUTHORIZE_NET.account("test", credentials, url)


def login_of(account: Account) -> str:
    return str(account.credentials["login_id"])


def soon() -> Deadline:
    return Deadline(monotonic() + 5)


def payment(account: Account, **over: Any) -> AuthorizeRequest:
    """Return a sale with a new reference."""
    fields: dict[str, Any] = {
        "account": account,
        "reference": reference(new_id()),
        "amount_minor": 25_00,
        "currency": "USD",
        "capture": True,
        "method": Card(number=VISA, exp_month=12, exp_year=2035),
    }
    return AuthorizeRequest(**{**fields, **over})


def _about(account: Account, parent: str, over: dict[str, Any]) -> dict[str, Any]:
    fields = {"account": account, "reference": reference(new_id()), "transaction_id": parent}
    return {**fields, **over}


def capture(account: Account, parent: str, **over: Any) -> CaptureRequest:
    money = {"amount_minor": 25_00, "currency": "USD"}
    return CaptureRequest(**_about(account, parent, {**money, **over}))


def void(account: Account, parent: str, **over: Any) -> VoidRequest:
    return VoidRequest(**_about(account, parent, over))


def refund(account: Account, parent: str, **over: Any) -> RefundRequest:
    usual = {"amount_minor": 25_00, "currency": "USD", "card_last4": "1111"}
    return RefundRequest(**_about(account, parent, {**usual, **over}))


def review(account: Account, held: str, approve: bool, **over: Any) -> ReviewRequest:
    return ReviewRequest(**_about(account, held, {"approve": approve, **over}))


def inquiry(account: Account, kind: str, name: str, **over: Any) -> InquiryRequest:
    """Return an inquiry about the operation with the reference `name`, sent just now."""
    fields: dict[str, Any] = {
        "account": account,
        "kind": kind,
        "reference": name,
        "amount_minor": 25_00,
        "currency": "USD",
        "transaction_id": None,
        "sent_at_ms": int(time() * 1000),
    }
    return InquiryRequest(**{**fields, **over})
