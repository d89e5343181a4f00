"""How an account behaves: what a test may set under /simulator/settings."""

from typing import Annotated, Literal

import msgspec

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
    payment_kind_told: bool = True
    """Whether a stored card tells its `cardType` to who did not ask for it, and a bank account
    that was stored without `accountType` that it is a checking account."""
    empty_transaction_response: list[Literal["json", "xml"]] = msgspec.field(
        default_factory=lambda: ["json"]
    )
    """The forms in which an error of a whole transaction request, such as E00040, has an empty
    transactionResponse."""
    issuer_numbers: bool = False
    """Whether the first six digits of every card are kept when a customer profile stores it."""
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
