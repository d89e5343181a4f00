"""What every processor offers, and the closed set of things that can come of a call.

Amounts are integers of minor units. A `reference` is ours, at most 20 characters, and unique to
one operation; a `transaction_id` is the processor's.
"""

from typing import Protocol

import msgspec


class Approved(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """The processor did it."""

    transaction_id: str
    amount_minor: int | None = None
    """What was really authorized, captured or refunded, where the processor says so."""
    auth_code: str | None = None
    avs_result: str | None = None
    cvv_result: str | None = None
    code: str | None = None
    message: str | None = None
    network_transaction_id: str | None = None
    card_brand: str | None = None
    """visa, mastercard, amex, discover, jcb, diners, unionpay, where the reply names it."""
    card_last4: str | None = None


class Declined(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """The issuer said no. `decline_code` is our normalized word, `code` theirs, verbatim."""

    decline_code: str
    code: str
    message: str
    transaction_id: str | None = None
    avs_result: str | None = None
    cvv_result: str | None = None
    card_brand: str | None = None
    card_last4: str | None = None


class Rejected(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """The processor would not take the request, and says so: no money moved."""

    code: str
    message: str
    decline_code: str | None = None
    """Our word for the reason, as on a decline (`expired_card`), where the reason is known."""


class HeldForReview(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """Accepted, and waiting for a person at the processor. Money may be held, none is paid."""

    transaction_id: str
    auth_code: str | None = None
    avs_result: str | None = None
    cvv_result: str | None = None
    code: str | None = None
    message: str | None = None
    card_brand: str | None = None
    card_last4: str | None = None


class NotSent(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """Proven never to have left: connection refused, no name, TLS failed, no time left to start."""

    reason: str


class Unknown(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """Bytes left and no clear answer came. Money may have moved; only an inquiry can tell."""

    reason: str


Outcome = Approved | Declined | Rejected | HeldForReview | NotSent | Unknown


class Absent(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """An inquiry looked everywhere the operation could be and did not find it."""

    searched: str
    """Where it looked, for the evidence kept on the operation."""


class Found(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """An inquiry found the operation, and what became of it."""

    outcome: Approved | Declined | Rejected | HeldForReview
    evidence: str
    """What the processor said, in its own words, without card data."""


class Inconclusive(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """An inquiry could not be made, or its answer does not settle the matter. Ask again later."""

    reason: str


Finding = Found | Absent | Inconclusive


class Account(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A merchant's credentials at a processor. Never logged: its repr hides the key."""

    url: str
    login_id: str
    transaction_key: str

    def __repr__(self) -> str:
        return f"Account(url={self.url!r}, login_id={self.login_id!r}, transaction_key=***)"


class Card(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A raw card, in memory for the length of one call. Its repr hides everything."""

    number: str
    exp_month: int
    exp_year: int
    cvc: str | None = None

    def __repr__(self) -> str:
        return "Card(***)"


class AcceptToken(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A single-use Accept.js nonce. Its repr hides the value."""

    descriptor: str
    value: str

    def __repr__(self) -> str:
        return "AcceptToken(***)"


class Address(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A billing address; each field is already within the processor's limits or is cut to them."""

    first_name: str | None = None
    last_name: str | None = None
    company: str | None = None
    line1: str | None = None
    city: str | None = None
    state: str | None = None
    postal_code: str | None = None
    country: str | None = None
    phone: str | None = None


class AuthorizeRequest(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Hold money (`capture=False`: authorize) or take it at once (`capture=True`: sale)."""

    account: Account
    reference: str
    amount_minor: int
    currency: str
    capture: bool
    method: Card | AcceptToken
    description: str | None = None
    statement_descriptor: str | None = None
    customer_reference: str | None = None
    customer_email: str | None = None
    customer_ip: str | None = None
    order_reference: str | None = None
    billing_address: Address | None = None


class CaptureRequest(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Take `amount_minor` of an authorization; the rest of the hold is released."""

    account: Account
    reference: str
    transaction_id: str
    amount_minor: int
    currency: str


class VoidRequest(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Undo an authorization, or a capture that has not settled."""

    account: Account
    reference: str
    transaction_id: str


class RefundRequest(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Return `amount_minor` of a settled transaction to the card it came from."""

    account: Account
    reference: str
    transaction_id: str
    amount_minor: int
    currency: str
    card_last4: str


class InquiryRequest(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What became of one operation? `kind` is authorize, sale, capture, void or refund.

    `transaction_id` is the parent's for a capture, void or refund, and None for the others.
    `sent_at_ms` is when the call may first have left (Unix milliseconds): nothing older is ours.
    """

    account: Account
    kind: str
    reference: str
    amount_minor: int
    currency: str
    transaction_id: str | None
    sent_at_ms: int


class Deadline:
    """A moment on the monotonic clock by which an answer is wanted."""

    __slots__ = ("at",)

    def __init__(self, at: float) -> None:
        self.at = at

    def left(self, now: float) -> float:
        """Seconds left at `now` (same clock); negative when it has passed."""
        return self.at - now


class Processor(Protocol):
    """The calls a processor answers. None of them raises for what the processor or the network
    does: each gives one of the closed set. Only a programming error escapes."""

    name: str

    async def authorize(self, request: AuthorizeRequest, deadline: Deadline) -> Outcome: ...

    async def capture(self, request: CaptureRequest, deadline: Deadline) -> Outcome: ...

    async def void(self, request: VoidRequest, deadline: Deadline) -> Outcome: ...

    async def refund(self, request: RefundRequest, deadline: Deadline) -> Outcome: ...

    async def inquire(self, request: InquiryRequest, deadline: Deadline) -> Finding: ...

    async def close(self) -> None: ...
