"""The settings of accounts, which tests change under /simulator/settings."""

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
    """The settings of one account, or of every account."""

    held_above: str | None = None
    """Charges above this amount trigger the fraud filter (AmountFilter)."""
    held_action: Literal["authAndHold", "hold", "decline", "report"] = "authAndHold"
    avs_reject: list[str] = []
    """AVS results that are declined (27)."""
    cvv_reject: list[str] = []
    """Card code results that are declined (65)."""
    blocked_ips: list[str] = []
    """Charges with one of these as `customerIP` are declined (250)."""
    max_amount: str = "99999999.99"
    unlinked_refunds: bool = True
    unsettled_refund_code: Literal[50, 54] = 54
    card_types: list[Brand] | None = None
    """The accepted brands; others get 17, an empty list 56. None: every brand."""
    echeck: bool = True
    """False: bank accounts get 18."""
    echeck_types: list[EcheckType] | None = None
    """The accepted kinds of eCheck; others get 246. None: every kind."""
    echeck_monthly_limit: str = "5000.00"
    """Maximum total of a month's eChecks; more gets 49."""
    paypal: bool = True
    """False: PayPal payments get 2001."""
    payment_kind_told: bool = True
    """Whether a reply has a stored card's `cardType` even if not requested, and `checking` for a
    bank account that was stored without `accountType`."""
    empty_transaction_response: list[Literal["json", "xml"]] = msgspec.field(
        default_factory=lambda: ["json"]
    )
    """The formats in which an error of a whole createTransactionRequest, such as E00040, has an
    empty transactionResponse."""
    issuer_numbers: bool = False
    """Whether a customer profile stores the first six digits of every card."""
    required_fields: list[RequiredField] = []
    """Fields that a charge must have; a missing one gets 33."""
    reporting: bool = True
    """False: every report gets E00011."""
    switched_off: list[Service] = []
    """Services switched off: the account (E00008), API (E00010), subscriptions (E00025), customer
    profiles (E00044)."""
    places_checked: bool = False
    """Whether countries (E00082) and American and Canadian states (E00085) must be valid."""
    test_mode: bool = False
    reporting_lag_ms: Annotated[int, msgspec.Meta(ge=0, le=366 * 86_400_000)] = 0
    """How long a new transaction is hidden from details and the unsettled list, and a new batch
    from all reports about batches."""
    profile_lag_ms: Annotated[int, msgspec.Meta(ge=0, le=366 * 86_400_000)] = 0
    """How long a new customer profile or payment profile is unknown (E00040) to every request but
    the check for duplicates."""
    duplicate_ids_told: bool = True
    """False: E00039 for a customer or payment profile names no id."""
    webhook_retry_s: list[Annotated[float, msgspec.Meta(ge=0, le=1e9)]] = msgspec.field(
        default_factory=lambda: [180.0] * 3 + [28_800.0] * 3 + [172_800.0] * 4
    )
    """Wait before each retry of a notification; after the last the webhook becomes inactive."""
    webhook_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=600)] = 10.0
    recorded_calls_per_s: Annotated[int, msgspec.Meta(ge=0, le=10**9)] = 50
    """How many calls of each second are kept, masked, for debugging; only read from the settings
    of every account."""
    auto_settle: bool = True
    """Settle at the daily cut-off; only read from the settings of every account."""
