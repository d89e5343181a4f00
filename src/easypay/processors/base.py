"""The interface of a processor: requests, the closed set of outcomes, and the `Processor` protocol.

Amounts are integers in minor units. A `reference` is ours, at most 20 characters, and unique to
one operation; a `transaction_id` is the processor's.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from operator import attrgetter
from typing import Literal, Protocol, assert_never

import msgspec

from easypay.payment_details import NO_DETAILS, PaymentDetails

Retry = Literal["never", "later", "fix_data"]
"""What a merchant may do after a refusal. `later`: the same request may work at another time.
`fix_data`: it may work with other data, such as another card. `never`: it will not work."""


class AvsMatch(StrEnum):
    """The issuer's check of the billing address."""

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
    """The issuer's check of the card code."""

    MATCH = "match"
    NO_MATCH = "no_match"
    NOT_PROCESSED = "not_processed"
    SHOULD_HAVE_BEEN_PRESENT = "should_have_been_present"
    UNAVAILABLE = "unavailable"


class ProcessorAnswer(msgspec.Struct, frozen=True, gc=False):
    """What a processor reports about a transaction, whatever the outcome; None: not reported.

    Outcomes extend this shape, and changes, rows and the API use it. `payments/model.py` names
    the columns.
    """

    transaction_id: str | None = None
    auth_code: str | None = None
    decline_code: str | None = None
    """Our code for a refusal, such as `expired_card`, if the reason is known."""
    code: str | None = None
    message: str | None = None
    """The processor's own code and text, verbatim."""
    retry: Retry | None = None
    avs_result: str | None = None
    cvv_result: str | None = None
    """The processor's letters for the address check and the card code check."""
    avs: AvsMatch | None = None
    cvv: CvvMatch | None = None
    """Their meaning."""
    network_transaction_id: str | None = None
    card_brand: str | None = None
    """visa, mastercard, amex, discover, jcb, diners or unionpay, if reported."""
    card_last4: str | None = None
    """The last four digits of the card, or of the bank account."""


_answer_fields = attrgetter(*ProcessorAnswer.__struct_fields__)


def answer_of(outcome: ProcessorAnswer) -> ProcessorAnswer:
    """Return only the answer of an outcome, which may have more fields."""
    return ProcessorAnswer(*_answer_fields(outcome))


class Approved(ProcessorAnswer, frozen=True, gc=False, kw_only=True, tag=True):
    """The processor approved the operation."""

    transaction_id: str
    amount_minor: int | None = None
    """The amount authorized, captured or refunded, if the processor reports it."""
    voided: bool = False
    """For a refund: the payment had not settled and was voided instead."""


class Declined(ProcessorAnswer, frozen=True, gc=False, kw_only=True, tag=True):
    """The issuer declined."""

    decline_code: str
    code: str
    message: str
    undecided: Literal["voided", "expired"] | None = None
    """For a review that ended although nobody declined it: how it ended."""


class Rejected(ProcessorAnswer, frozen=True, gc=False, kw_only=True, tag=True):
    """The processor refused the request: no money moved."""

    code: str
    message: str
    not_settled: bool = False
    """For a refund: refused only because the payment has not settled. Retry after settlement."""


class HeldForReview(ProcessorAnswer, frozen=True, gc=False, kw_only=True, tag=True):
    """Accepted, but waiting for a reviewer at the processor. Money may be held, none is paid."""

    transaction_id: str


class AccountRefusal(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """The processor refused the login, key or account, with its own code and text."""

    code: str
    message: str


class NotSent(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """Proven to have started nothing, so it may be sent again. Either it never left (connection
    refused, no such host name, TLS failed, no time left to start), or our account was refused
    before anything else was checked."""

    reason: str
    account_refusal: AccountRefusal | None = None


class Unknown(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """Bytes left, but no clear answer came. Money may have moved; only an inquiry can tell."""

    reason: str
    code: str | None = None
    """The processor's reason code, if it gave one."""


Outcome = Approved | Declined | Rejected | HeldForReview | NotSent | Unknown


class Absent(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """An inquiry searched everywhere the operation could be and did not find it."""

    searched: str
    """Where it searched: evidence kept on the operation."""


class Found(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """An inquiry found the operation and its outcome."""

    outcome: Approved | Declined | Rejected | HeldForReview
    evidence: str
    """The processor's own words, without card data."""


class Inconclusive(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """An inquiry failed, or its answer proves nothing. Inquire again later."""

    reason: str


Finding = Found | Absent | Inconclusive


class AccountAccepted(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The processor accepts the credentials."""


class AccountUnreachable(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """The processor could not be asked, or its answer says nothing about the credentials."""

    reason: str


AccountCheck = AccountAccepted | AccountRefusal | AccountUnreachable


class Account(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A merchant's account at a processor. Never logged: its repr hides the credentials."""

    processor: str
    """The processor's name in the registry."""
    url: str
    credentials: Mapping[str, str]
    """By the fields that the processor's `Integration` names."""

    def __repr__(self) -> str:
        return f"Account(processor={self.processor!r}, url={self.url!r}, credentials=***)"


class Card(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A raw card, in memory only for one call. Its repr hides everything."""

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
    """A payment method stored at the processor. Its repr hides the card code."""

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
    """A raw bank account (eCheck), in memory only for one call. Its repr hides everything."""

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
    """Tells the card networks that a card is on file, and who initiates this payment.

    `first`: with this payment the customer agrees to storing the card. `network_transaction_id`
    and `original_amount_minor` are those of that first payment. `reason`: why a merchant pays.
    """

    initiator: Literal["customer", "merchant"]
    first: bool
    recurring: bool
    network_transaction_id: str | None = None
    original_amount_minor: int | None = None
    reason: Literal["resubmission", "delayed_charge", "reauthorization", "no_show"] | None = None


class Address(msgspec.Struct, frozen=True, gc=False):
    """A billing address. A field beyond the processor's limit is cut."""

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

    It is all or nothing: if less is approved (a prepaid card), that part is voided at once and
    the outcome is a decline.
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
    """Capture `amount_minor` of an authorization; the rest of the hold is released."""

    account: Account
    reference: str
    transaction_id: str
    amount_minor: int
    currency: str


class VoidRequest(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Void an authorization, or a capture that has not settled."""

    account: Account
    reference: str
    transaction_id: str


class RefundRequest(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Return `amount_minor` of a settled transaction to the card or bank account it came from.

    The request names it by its last four digits, or by its stored profiles if both ids are given.
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
    """For a bank account, if known."""
    captured_minor: int | None = None
    """The amount captured, if all of it may be voided instead: nothing was refunded."""


class ReviewRequest(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Approve a transaction that is held for review (`approve`), or end it."""

    account: Account
    reference: str
    transaction_id: str
    approve: bool


FollowUpRequest = CaptureRequest | VoidRequest | RefundRequest | ReviewRequest
"""A request about an earlier transaction."""


class InquiryRequest(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Find the outcome of one operation: authorize, sale, capture, void, refund or review.

    `transaction_id`: the parent's for a capture, void or refund, the held transaction's for a
    review, else None. `sent_at_ms`: when the call may first have left (Unix milliseconds);
    nothing older is ours. `captured_minor`: as in RefundRequest.
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
    """Find the outcomes of many operations of one account, reading each list only once.

    `wanted`: authorizations, sales and refunds, each reference once. `searched`: for a reference,
    the closed batches (`Passed.batches`) in which an earlier pass did not find it, and which need
    not be read for it again.
    """

    account: Account
    wanted: Sequence[InquiryRequest]
    now_ms: int | None = None
    """The present, by the clock that stamped `sent_at_ms`. None: by this machine's clock."""
    searched: Mapping[str, frozenset[str]] = {}


class Passed(msgspec.Struct, frozen=True, kw_only=True):
    """What a pass found: a finding for each wanted reference.

    `listed`: references in the lists that were not wanted, newest first, at most 200; they show
    how far the lists reach. `batches`: closed batches that were read for everything that could be
    in them, in this pass or the earlier ones of `searched`. `pages`: pages of transactions read.
    """

    findings: Mapping[str, Finding]
    listed: Sequence[str]
    batches: frozenset[str]
    pages: int


OnFound = Callable[[str, Finding], Awaitable[None]]
"""Awaited during a pass, with a reference and its `Found`."""


class Deadline(msgspec.Struct, frozen=True, gc=False):
    """A moment on the monotonic clock by which an answer is needed."""

    at: float

    def left(self, now: float) -> float:
        """Return the seconds left at `now` (same clock); negative once it has passed."""
        return self.at - now


class Processor(Protocol):
    """The calls to a processor. Whatever the processor or the network does, they return a value
    of the closed set. Only a programming error raises."""

    async def authorize(self, request: AuthorizeRequest, deadline: Deadline) -> Outcome: ...

    async def capture(self, request: CaptureRequest, deadline: Deadline) -> Outcome: ...

    async def void(self, request: VoidRequest, deadline: Deadline) -> Outcome: ...

    async def refund(self, request: RefundRequest, deadline: Deadline) -> Outcome: ...

    async def refund_or_void(self, request: RefundRequest, deadline: Deadline) -> Outcome:
        """Return the money by a refund; if all that was captured is to be returned and it has not
        settled, by a void (`Approved.voided`)."""
        ...

    async def review(self, request: ReviewRequest, deadline: Deadline) -> Outcome:
        """Approve or end a transaction held for review. One that was ended is Declined."""
        ...

    async def inquire(self, request: InquiryRequest, deadline: Deadline) -> Finding: ...

    async def inquire_transaction(
        self, request: InquiryRequest, transaction_id: str, deadline: Deadline
    ) -> Finding:
        """Check whether a transaction is the operation (authorize, sale or refund) of `request`.
        It must carry the reference. Changes nothing."""
        ...

    async def look(
        self, request: PassRequest, deadline: Deadline, *, on_found: OnFound | None = None
    ) -> Passed:
        """Find many operations at once. An exception from `on_found` ends the pass."""
        ...

    async def closed_batches(
        self, account: Account, since_ms: int, now_ms: int, deadline: Deadline
    ) -> frozenset[str] | None:
        """Return the batches closed since a call (Unix milliseconds); None if unknown."""
        ...

    async def check_account(self, account: Account, deadline: Deadline) -> AccountCheck:
        """Check whether the processor accepts these credentials. Moves no money."""
        ...

    async def close(self) -> None: ...


Processors = Mapping[str, Processor]
"""Every processor by its name. An account's own is `processors[account.processor]`: the directory
of accounts opens none whose processor is not here."""


def follow_up(
    processor: Processor, request: FollowUpRequest, deadline: Deadline
) -> Awaitable[Outcome]:
    """Send `request` by the call that belongs to its type."""
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
