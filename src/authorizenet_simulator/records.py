"""What is remembered: transactions, batches, accounts, and the events of the state file.

Amounts are hundredths, moments Unix milliseconds. Nothing here holds a card number or card code.
"""

from typing import Annotated, Final, Literal

import msgspec

from authorizenet_simulator.instruments import Instrument

AUTHORIZED: Final = "authorizedPendingCapture"
CAPTURED: Final = "capturedPendingSettlement"
REFUND_PENDING: Final = "refundPendingSettlement"
SETTLED: Final = "settledSuccessfully"
REFUND_SETTLED: Final = "refundSettledSuccessfully"
DECLINED: Final = "declined"
VOIDED: Final = "voided"
EXPIRED: Final = "expired"
HELD: Final = "FDSPendingReview"
HELD_AUTHORIZED: Final = "FDSAuthorizedPendingReview"
UNDER_REVIEW: Final = "underReview"
PENDING_RELEASE: Final = "authorizedPendingRelease"
SETTLEMENT_ERROR: Final = "settlementError"
RETURNED: Final = "returnedItem"
CHARGEBACK: Final = "chargeback"
CHARGEBACK_REVERSAL: Final = "chargebackReversal"
FAILED_REVIEW: Final = "failedReview"
GENERAL_ERROR: Final = "generalError"
COMMUNICATION_ERROR: Final = "communicationError"

PENDING: Final = frozenset(
    {
        AUTHORIZED,
        CAPTURED,
        REFUND_PENDING,
        HELD,
        HELD_AUTHORIZED,
        UNDER_REVIEW,
        PENDING_RELEASE,
        "approvedReview",
        "couldNotVoid",
        "pendingSettlement",
        "pendingFinalSettlement",
        "updatingSettlement",
    }
)
"""What the unsettled list shows."""
AGING: Final = frozenset({AUTHORIZED, PENDING_RELEASE})
"""What expires when nobody captures it."""
IN_REVIEW: Final = frozenset({HELD, HELD_AUTHORIZED, UNDER_REVIEW})


class Txn(msgspec.Struct, gc=False, array_like=True):
    """One transaction with an id of its own: a sale, an authorization, a refund."""

    trans_id: int
    login: str
    type: str
    """The wire's transactionType, as it was asked for."""
    amount: int
    response_code: int
    reason: int
    status: str
    at: int
    currency: str
    ref: int
    """The transaction a refund returns, or 0."""
    invoice: str
    last4: str
    brand: str
    avs: str
    cvv: str
    details: str
    """JSON of what else was sent and reporting gives back."""
    captured: int = 0
    """What settles or has settled: less than `amount` after a partial capture."""
    refunded: int = 0
    batch: int = 0

    @property
    def masked(self) -> str:
        return f"XXXX{self.last4}" if self.last4 else ""


class Action(msgspec.Struct, gc=False):
    """A capture or void: it changes a transaction and has no id of its own."""

    txn: Txn
    type: str
    amount: int
    invoice: str
    at: int

    @property
    def login(self) -> str:
        return self.txn.login


class Batch(msgspec.Struct, gc=False):
    """What was settled together, for one account and payment method."""

    batch_id: int
    login: str
    method: str
    at: int
    txns: list[Txn]
    tallies: dict[str, list[int]] = {}
    """Voids, declines and errors since the batch before, by brand."""


Brand = Literal["Visa", "MasterCard", "AmericanExpress", "Discover", "JCB", "DinersClub"]
EcheckType = Literal["PPD", "WEB", "CCD", "TEL", "ARC", "BOC"]
Service = Literal["account", "api", "arb", "cim"]
RequiredField = Literal[
    "firstName",
    "lastName",
    "company",
    "address",
    "city",
    "state",
    "zip",
    "country",
    "phoneNumber",
    "email",
    "customerId",
    "invoiceNumber",
    "description",
    "poNumber",
    "cardCode",
]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an account, or every account, behaves."""

    held_above: str | None = None
    """Charges above this amount meet the fraud filter (AmountFilter)."""
    held_action: Literal["authAndHold", "hold", "decline", "report"] = "authAndHold"
    avs_reject: list[str] = []
    """AVS results that the account's filter declines (27)."""
    cvv_reject: list[str] = []
    """Card code results that the account's filter declines (65)."""
    blocked_ips: list[str] = []
    """Charges with one of these as `customerIP` are declined (250)."""
    max_amount: str = "99999999.99"
    unlinked_refunds: bool = True
    unsettled_refund_code: Literal[50, 54] = 54
    card_types: list[Brand] | None = None
    """The brands that the account takes, others get 17; none at all: 56. None: every brand."""
    echeck: bool = True
    """False: bank accounts get 18."""
    echeck_types: list[EcheckType] | None = None
    """The kinds of eCheck allowed, others get 246; None: every kind."""
    echeck_monthly_limit: str = "5000.00"
    """More in one month than this: 49."""
    paypal: bool = True
    """False: 2001."""
    required_fields: list[RequiredField] = []
    """What the account's form demands of a charge: 33."""
    reporting: bool = True
    """False: every report is E00011."""
    switched_off: list[Service] = []
    """The account itself (E00008), its use of the API (E00010), subscriptions (E00025), customer
    profiles (E00044)."""
    places_checked: bool = False
    """Whether a country must be one (E00082), and an American or Canadian state (E00085)."""
    test_mode: bool = False
    reporting_lag_ms: Annotated[int, msgspec.Meta(ge=0, le=366 * 86_400_000)] = 0
    """How long a new transaction stays hidden from details and the unsettled list, and a new batch
    from everything that is asked about batches."""
    webhook_retry_s: list[Annotated[float, msgspec.Meta(ge=0, le=1e9)]] = msgspec.field(
        default_factory=lambda: [180.0] * 3 + [28_800.0] * 3 + [172_800.0] * 4
    )
    """Waits before each retry of a notification; after the last the webhook turns inactive."""
    webhook_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=600)] = 10.0
    recorded_calls_per_s: Annotated[int, msgspec.Meta(ge=0, le=10**9)] = 50
    """How many calls of each second are kept, masked, for whoever debugs; read from the settings
    of every account only."""
    auto_settle: bool = True
    """Settle at the daily cut-off; read from the settings of every account only."""


class Header(msgspec.Struct, array_like=True, tag="header"):
    """The first line: the key of the fingerprints and where the ids go on."""

    salt: str
    next_id: int
    next_batch: int


class AccountAdded(msgspec.Struct, array_like=True, tag="account"):
    login: str
    transaction_key: str
    currencies: list[str]
    signature_key: str


class SettingsChanged(msgspec.Struct, array_like=True, tag="settings"):
    login: str
    """'' for every account."""
    settings: Settings


class ClockSet(msgspec.Struct, array_like=True, tag="clock"):
    offset_ms: int
    stopped_ms: int | None


class Recorded(msgspec.Struct, array_like=True, tag="transaction"):
    txn: Txn
    digest: int
    """Of the fields that make a duplicate."""


class Captured(msgspec.Struct, array_like=True, tag="capture"):
    trans_id: int
    amount: int
    invoice: str
    at: int


class Voided(msgspec.Struct, array_like=True, tag="void"):
    trans_id: int
    invoice: str
    at: int


class Moved(msgspec.Struct, array_like=True, tag="move"):
    """It has another status now, with all that this implies."""

    trans_id: int
    status: str
    response_code: int
    reason: int
    at: int


class Reviewed(msgspec.Struct, array_like=True, tag="review"):
    trans_id: int
    approved: bool


class Settled(msgspec.Struct, array_like=True, tag="settle"):
    at: int


class Expired(msgspec.Struct, array_like=True, tag="expire"):
    at: int


class NonceMinted(msgspec.Struct, array_like=True, tag="nonce"):
    value: str
    login: str
    expires: int
    instrument: Instrument


class NonceUsed(msgspec.Struct, array_like=True, tag="nonce_used"):
    value: str


class Reset(msgspec.Struct, array_like=True, tag="reset"):
    login: str


Event = (
    Header
    | AccountAdded
    | SettingsChanged
    | ClockSet
    | Recorded
    | Captured
    | Voided
    | Moved
    | Reviewed
    | Settled
    | Expired
    | NonceMinted
    | NonceUsed
    | Reset
)


def parse_id(text: str) -> int | None:
    """A transaction or batch id of the wire; None for what cannot be one."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None
