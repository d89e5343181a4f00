"""What every processor offers, and the closed set of things that can come of a call.

Amounts are integers of minor units. A `reference` is ours, at most 20 characters, and unique to
one operation; a `transaction_id` is the processor's.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from operator import attrgetter
from typing import Literal, Protocol, assert_never

import msgspec

from easypay.payment_details import NO_DETAILS, PaymentDetails

Retry = Literal["never", "later", "fix_data"]
"""What a merchant may do after a no: `later` the same again may work another time, `fix_data` it
may work with other data (another card is other data), `never` it will not."""


class AvsMatch(StrEnum):
    """What the issuer says of the billing address."""

    FULL_MATCH = "full_match"
    ADDRESS_ONLY = "address_only"
    POSTAL_CODE_ONLY = "postal_code_only"
    NO_MATCH = "no_match"
    NOT_PROVIDED = "not_provided"
    INTERNATIONAL = "international"
    UNAVAILABLE = "unavailable"
    NOT_SUPPORTED = "not_supported"
    NOT_APPLICABLE = "not_applicable"
    RETRY = "retry"
    ERROR = "error"


class CvvMatch(StrEnum):
    """What the issuer says of the card code."""

    MATCH = "match"
    NO_MATCH = "no_match"
    NOT_PROCESSED = "not_processed"
    SHOULD_HAVE_BEEN_PRESENT = "should_have_been_present"
    UNAVAILABLE = "unavailable"


class ProcessorAnswer(msgspec.Struct, frozen=True, gc=False):
    """What a processor says of a transaction, whatever came of it; None where it is silent.

    The one shape for it: outcomes are answers, and so is what a change records, a row remembers
    and the API shows. `payments/model.py` names the columns.
    """

    transaction_id: str | None = None
    auth_code: str | None = None
    decline_code: str | None = None
    """Our word for a no, such as `expired_card`, where the reason is known."""
    code: str | None = None
    message: str | None = None
    """Its own code and words, verbatim."""
    retry: Retry | None = None
    avs_result: str | None = None
    cvv_result: str | None = None
    """Its own letters for the address check and the card code check."""
    avs: AvsMatch | None = None
    cvv: CvvMatch | None = None
    """What they mean."""
    network_transaction_id: str | None = None
    card_brand: str | None = None
    """visa, mastercard, amex, discover, jcb, diners, unionpay, where the answer names it."""
    card_last4: str | None = None
    """The last four digits of the card, or of the bank account."""


_answer_fields = attrgetter(*ProcessorAnswer.__struct_fields__)


def answer_of(outcome: ProcessorAnswer) -> ProcessorAnswer:
    """Return the answer alone, of an outcome that has more fields."""
    return ProcessorAnswer(*_answer_fields(outcome))


class Approved(ProcessorAnswer, frozen=True, gc=False, kw_only=True, tag=True):
    """The processor did it."""

    transaction_id: str
    amount_minor: int | None = None
    """The amount really authorized, captured or refunded, where the processor says so."""
    voided: bool = False
    """Of a refund: the money went back by undoing a payment that had not settled."""


class Declined(ProcessorAnswer, frozen=True, gc=False, kw_only=True, tag=True):
    """The issuer said no."""

    decline_code: str
    code: str
    message: str
    undecided: Literal["voided", "expired"] | None = None
    """Of a review: how it ended, where nobody declined what was held."""


class Rejected(ProcessorAnswer, frozen=True, gc=False, kw_only=True, tag=True):
    """The processor would not take the request, and says so: no money moved."""

    code: str
    message: str
    not_settled: bool = False
    """Of a refund: refused only because the payment has not settled yet; ask again afterwards."""


class HeldForReview(ProcessorAnswer, frozen=True, gc=False, kw_only=True, tag=True):
    """Accepted, and waiting for a person at the processor. Money may be held, none is paid."""

    transaction_id: str


class AccountRefusal(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """The processor refused the login, the key or the account, in its own code and words."""

    code: str
    message: str


class NotSent(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """Proven to have begun nothing, so it may be sent again. It never left (connection refused, no
    name, TLS failed, no time left to start), or our account was refused before anything else was
    looked at."""

    reason: str
    account_refusal: AccountRefusal | None = None


class Unknown(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """Bytes left and no clear answer came. Money may have moved; only an inquiry can tell."""

    reason: str
    code: str | None = None
    """The processor's reason code, where it named one."""


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


class AccountAccepted(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The processor accepts the credentials."""


class AccountUnreachable(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """The processor could not be asked, or its answer says nothing of the credentials."""

    reason: str


AccountCheck = AccountAccepted | AccountRefusal | AccountUnreachable


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


class StoredMethod(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A way of paying that the processor keeps for a customer. Its repr hides the card code."""

    customer_profile_id: str
    payment_profile_id: str
    cvc: str | None = None
    shipping_profile_id: str | None = None

    def __repr__(self) -> str:
        return (
            f"StoredMethod(customer_profile_id={self.customer_profile_id!r}, "
            f"payment_profile_id={self.payment_profile_id!r}, cvc=***, "
            f"shipping_profile_id={self.shipping_profile_id!r})"
        )


class BankAccount(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A raw bank account (eCheck), in memory for the length of one call. Its repr hides all."""

    account_type: Literal["checking", "savings", "business_checking"]
    routing_number: str
    account_number: str
    name_on_account: str
    echeck_type: str | None = "WEB"
    bank_name: str | None = None

    def __repr__(self) -> str:
        return "BankAccount(***)"


Method = Card | AcceptToken | StoredMethod | BankAccount


class StoredCredential(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """That a card is kept on file, and who asks now: the card networks want to know.

    `first`: the payment with which the customer agrees to have it kept. `network_transaction_id`
    and `original_amount_minor` are those of that payment, `reason` says why a merchant asks.
    """

    initiator: Literal["customer", "merchant"]
    first: bool
    recurring: bool
    network_transaction_id: str | None = None
    original_amount_minor: int | None = None
    reason: Literal["resubmission", "delayedCharge", "reauthorization", "noShow"] | None = None


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
    """Hold money (`capture=False`: authorize) or take it at once (`capture=True`: sale).

    It is all or nothing: where less is approved (a prepaid card), that part is released at once
    and the outcome is a decline.
    """

    account: Account
    reference: str
    amount_minor: int
    currency: str
    capture: bool
    method: Method
    details: PaymentDetails = NO_DETAILS
    customer_email: str | None = None
    customer_ip: str | None = None
    billing_address: Address | None = None
    stored_credential: StoredCredential | None = None


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
    """Return `amount_minor` of a settled transaction to where it came from.

    That is named by the last four digits of the card or bank account, or by its stored profiles
    where both ids are given.
    """

    account: Account
    reference: str
    transaction_id: str
    amount_minor: int
    currency: str
    card_last4: str
    method_type: Literal["card", "bank_account"] = "card"
    customer_profile_id: str | None = None
    payment_profile_id: str | None = None
    routing_last4: str | None = None
    name_on_account: str | None = None
    """Of a bank account, where known."""
    captured_minor: int | None = None
    """The amount captured, when the whole of it may be voided instead: nothing was refunded."""


class ReviewRequest(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Let a transaction that is held for review go ahead (`approve`), or end it."""

    account: Account
    reference: str
    transaction_id: str
    approve: bool


FollowUpRequest = CaptureRequest | VoidRequest | RefundRequest | ReviewRequest
"""What can be asked of a transaction that was made before."""


class InquiryRequest(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What became of one operation? `kind` is authorize, sale, capture, void, refund or review.

    `transaction_id` is the parent's for a capture, void or refund, the held one's for a review,
    and None for the others. `sent_at_ms` is when the call may first have left (Unix
    milliseconds): nothing older is ours. `captured_minor` is as in the refund's request.
    """

    account: Account
    kind: str
    reference: str
    amount_minor: int
    currency: str
    transaction_id: str | None
    sent_at_ms: int
    captured_minor: int | None = None


class PassRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What became of all these operations of one account? Every list is read once for them all.

    `wanted` are of the kinds authorize, sale and refund; no reference comes twice. `searched`
    names, by reference, the closed batches (`Passed.batches`) in which an earlier pass has not
    found it: they need not be read for it again.
    """

    account: Account
    wanted: Sequence[InquiryRequest]
    now_ms: int | None = None
    """The present by the clock that stamped `sent_at_ms`; None: by this machine's."""
    searched: Mapping[str, frozenset[str]] = {}


class Passed(msgspec.Struct, frozen=True, kw_only=True):
    """What a pass found, by reference: each one wanted has a finding.

    `listed`: references of operations that were not wanted and were seen in the lists, newest
    first, at most 200: they witness how far the lists reach. `batches`: the closed batches that
    were read for everything that could be in them, now or by the earlier passes of `searched`.
    `pages`: how many pages of transactions were read.
    """

    findings: Mapping[str, Finding]
    listed: Sequence[str]
    batches: frozenset[str]
    pages: int


OnFound = Callable[[str, Finding], Awaitable[None]]
"""Awaited with a reference and its `Found` while a pass goes on."""


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

    async def refund_or_void(self, request: RefundRequest, deadline: Deadline) -> Outcome:
        """Returns the money however the settlement allows: a refund, or, when the whole of what
        was captured is asked for and it has not settled, a void (`Approved.voided`)."""
        ...

    async def review(self, request: ReviewRequest, deadline: Deadline) -> Outcome:
        """Decides on a transaction held for review. One that was ended is Declined."""
        ...

    async def inquire(self, request: InquiryRequest, deadline: Deadline) -> Finding: ...

    async def inquire_transaction(
        self, request: InquiryRequest, transaction_id: str, deadline: Deadline
    ) -> Finding:
        """Is this transaction the operation that is asked after (authorize, sale or refund)? It
        must carry the reference. Looks only: whatever it finds, it changes nothing."""
        ...

    async def look(
        self, request: PassRequest, deadline: Deadline, *, on_found: OnFound | None = None
    ) -> Passed:
        """Looks for many operations at once. What `on_found` raises ends the pass and is raised."""
        ...

    async def closed_batches(
        self, account: Account, since_ms: int, now_ms: int, deadline: Deadline
    ) -> frozenset[str] | None:
        """The batches closed since a call (Unix milliseconds); None where it cannot be learned."""
        ...

    async def check_account(self, account: Account, deadline: Deadline) -> AccountCheck:
        """Whether the processor accepts these credentials. Moves no money."""
        ...

    async def close(self) -> None: ...


def follow_up(
    processor: Processor, request: FollowUpRequest, deadline: Deadline
) -> Awaitable[Outcome]:
    """Ask a processor for what `request` says, by the call that belongs to it."""
    match request:
        case CaptureRequest():
            return processor.capture(request, deadline)
        case VoidRequest():
            return processor.void(request, deadline)
        case RefundRequest():
            return processor.refund_or_void(request, deadline)
        case ReviewRequest():
            return processor.review(request, deadline)
        case _:
            assert_never(request)
