"""A transactionRequest, and what all its types share: payment method, duplicates, details.

A check that fails raises `Refused`, which becomes a transaction error (response code 3).
"""

from hashlib import blake2b
from typing import Final

import msgspec

from authorizenet_simulator.state import payment_methods, transactions
from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.state.payment_methods import PaymentMethod
from authorizenet_simulator.state.settings import Settings
from authorizenet_simulator.state.transactions import Txn
from authorizenet_simulator.transactions import accept_nonces, wallets
from authorizenet_simulator.wire import amounts, replies
from authorizenet_simulator.wire.replies import Reply, Tree

SALE: Final = "authCaptureTransaction"
AUTH: Final = "authOnlyTransaction"
CAPTURE_ONLY: Final = "captureOnlyTransaction"
REFUND: Final = "refundTransaction"
YES: Final = ("true", "1")
"""Texts of a boolean that is true."""
_CURRENCY_FIELD: Final = "x_currency_code"
_DEFAULT_WINDOW_S: Final = 120
_LONGEST_WINDOW_S: Final = 28_800
_KEPT_NAMES: Final = (
    "authCode order lineItems tax duty shipping taxExempt poNumber customer billTo shipTo"
    " customerIP solution profile terminalNumber splitTenderId retail employeeId surcharge"
    " merchantDescriptor subMerchant tip processingOptions subsequentAuthInformation otherTax"
    " shipFrom authorizationIndicatorType"
)
_KEPT: Final = frozenset(_KEPT_NAMES.split())
"""Elements of a request that are stored, most of them to be shown in reports."""
CUSTOMER_KEPT: Final = ("type", "id", "email")
"""Fields of a customer that are stored; a licence or tax number never is."""

_encode = msgspec.json.Encoder().encode


class Refused(Exception):
    """A transaction error (response code 3) with a reason code; nothing is stored. `second` is a
    second reason code, or 0."""

    def __init__(self, reason: int, text: str | None = None, second: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.text = text
        self.second = second


class TransactionRequest:
    """A transactionRequest with its account, settings and payment method."""

    __slots__ = (
        "account",
        "client_id",
        "customer",
        "how",
        "ledger",
        "now",
        "options",
        "payment_method",
        "ref_id",
        "settings",
        "stored",
        "tree",
    )

    def __init__(self, ledger: Ledger, account: Account, body: Tree, now: int) -> None:
        self.ledger = ledger
        self.account = account
        self.tree: Tree = body["transactionRequest"]
        self.ref_id: str = body.get("refId", "")
        self.client_id: str = body.get("clientId", "")
        self.now = now
        self.settings: Settings = ledger.settings_of(account)
        self.payment_method: PaymentMethod | None = None
        """Set by `read_payment`."""
        self.stored: PaymentMethod | None = None
        """A stored payment method, used instead of `payment`."""
        self.customer = 0
        """The id of the request's customer profile; 0 for none."""
        self.how: Tree | None = None
        """Reported fields about a payment method that is not a plain card."""
        self.options: dict[str, str] = {}
        if (listed := self.tree.get("transactionSettings")) is not None:
            for setting in listed.get("setting", ()):
                self.options[setting.get("settingName", "")] = setting.get("settingValue", "")
        if "userFields" in self.tree:
            for field in self.user_fields or ():
                if field.get("name") == _CURRENCY_FIELD:
                    self.tree.setdefault("currencyCode", field.get("value", ""))

    @property
    def invoice(self) -> str:
        order = self.tree.get("order")
        if order is None:
            return ""
        return payment_methods.without_card_numbers(order.get("invoiceNumber", ""))

    @property
    def user_fields(self) -> list[dict[str, str]] | None:
        listed = self.tree.get("userFields")
        return None if listed is None else listed.get("userField")

    def currency(self) -> str:
        """Return the currency, by default the account's first. Raises Refused(39)."""
        named = self.tree.get("currencyCode")
        if not named:
            return self.account.currencies[0]
        for known in self.account.currencies:
            if known == named:
                return known
        raise Refused(39)

    def amount(self, *, least: int = 1) -> int:
        """Return hundredths. Raises Refused: 5 if invalid or too small, 49 if too large."""
        text = self.tree.get("amount")
        amount = None if text is None else amounts.parse(text)
        if amount is None or amount < least:
            raise Refused(5)
        if amount > (amounts.parse(self.settings.max_amount) or 0):
            raise Refused(49)
        return amount


def read_payment(request: TransactionRequest) -> PaymentMethod:
    """Read the request's payment method. Raises Refused, and ApiError for a bad nonce."""
    request.payment_method = _read_payment(request)
    return request.payment_method


def _read_payment(request: TransactionRequest) -> PaymentMethod:
    if request.stored is not None:
        return request.stored
    payment: Tree = request.tree.get("payment") or {}
    salt = request.ledger.salt
    if (card := payment.get("creditCard")) is not None:
        if "cryptogram" in card or "isPaymentToken" in card:
            request.how = wallets.token(card)
        return payment_methods.read_card(card, salt)
    if (opaque := payment.get("opaqueData")) is not None:
        if opaque["dataDescriptor"] == accept_nonces.DESCRIPTOR:
            return accept_nonces.redeem(
                request.ledger, request.account, opaque["dataValue"], request.now
            )
        request.how = {"isPaymentToken": True}
        return wallets.read(opaque, salt)
    if (bank := payment.get("bankAccount")) is not None:
        return payment_methods.read_bank(bank, salt)
    if (track := payment.get("trackData")) is not None:
        request.how = {"entryMode": "Swiped"}
        return payment_methods.read_track(track, salt)
    if "payPal" in payment and request.settings.paypal:
        fingerprint = payment_methods.fingerprint("paypal", salt)
        return PaymentMethod(fingerprint, "", payment_methods.PAYPAL)
    if "payPal" in payment:
        raise Refused(2001)
    if payment:
        raise Refused(155)
    raise Refused(33, "Credit card number is required.")


def check_payment_method(method: PaymentMethod, now: int) -> None:
    """Raise Refused if the number or expiry is invalid."""
    if method.reason == 6:
        past = payment_methods.expiry_reason(method.expiry, now) == 8
        raise Refused(6, second=8 if past else 0)
    if method.reason:
        raise Refused(method.reason)
    if method.brand not in payment_methods.WITHOUT_EXPIRY and not method.swiped:
        reason = payment_methods.expiry_reason(method.expiry, now)
        if reason:
            raise Refused(reason)


def duplicate_of(request: TransactionRequest, digest: int) -> Reply | None:
    """Return the reply to a duplicate; None if the request is not a duplicate."""
    window = request.options.get("duplicateWindow", "").strip()
    explicit = window.isascii() and window.isdigit()
    window_s = _DEFAULT_WINDOW_S
    if explicit:  # ten digits or more mean the longest window
        window_s = min(int(window), _LONGEST_WINDOW_S) if len(window) < 10 else _LONGEST_WINDOW_S
    original = request.ledger.find_duplicate(request.account, digest, request.now, window_s)
    if original is None:
        return None
    if not explicit:  # without the setting the original is not shown
        return replies.transaction(
            request.account, 3, 11, masked=original.masked, brand=original.brand
        )
    return replies.transaction(
        request.account,
        3,
        11,
        amount=original.amount,
        auth=replies.auth_code(original),
        avs=original.avs,
        cvv=original.cvv,
        trans_id=original.trans_id,
        masked=original.masked,
        brand=original.brand,
    )


def duplicate_digest(
    request: TransactionRequest, kind: str, amount: int, method: PaymentMethod
) -> int:
    """Return a keyed digest of the fields that duplicate detection compares."""
    tree = request.tree
    customer: Tree = tree.get("customer") or {}
    bill_to: Tree = tree.get("billTo") or {}
    get = bill_to.get
    order: Tree = tree.get("order") or {}
    compared = "\x1f".join(
        (
            request.account.login,
            method.fingerprint,
            method.expiry,
            kind,
            str(amount),
            tree.get("poNumber", ""),
            order.get("invoiceNumber", ""),
            customer.get("id", ""),
            get("firstName", ""),
            get("lastName", ""),
            get("company", ""),
            get("address", ""),
            get("city", ""),
            get("state", ""),
            get("zip", ""),
            get("country", ""),
        )
    )
    digest = blake2b(compared.encode(), key=request.ledger.salt, digest_size=8).digest()
    return int.from_bytes(digest, "big")


def details(request: TransactionRequest, more: Tree | None = None) -> str:
    """Return JSON of the fields for reports, without card numbers and personal numbers."""
    kept = {key: value for key, value in request.tree.items() if key in _KEPT}
    if (customer := kept.get("customer")) is not None:
        kept["customer"] = {key: customer[key] for key in CUSTOMER_KEPT if key in customer}
    if (secure := request.tree.get("cardholderAuthentication")) is not None:
        kept["eci"] = secure["authenticationIndicator"]  # never the authentication value
    if request.options.get("recurringBilling") in YES:
        kept["recurringBilling"] = True
    if request.ref_id:
        kept["refId"] = request.ref_id
    if request.client_id:
        kept["clientId"] = request.client_id
    method = request.payment_method
    if method is not None and method.brand == "eCheck":
        bank = (request.tree.get("payment") or {}).get("bankAccount")
        if bank is not None:
            kept["bank"] = payment_methods.shown_bank(bank)
    if request.how is not None:
        kept["how"] = request.how
    if more is not None:
        kept |= more
    if (
        method is not None
        and method.brand != payment_methods.PAYPAL
        and request.tree["transactionType"] != REFUND
    ):  # the fingerprint in halves: masking could take the whole for a card number
        whole, half = method.fingerprint, payment_methods.FINGERPRINT_CHARS // 2
        kept["i"] = [whole[:half], whole[half:], method.expiry.strip()]
    return payment_methods.without_card_numbers(_encode(kept).decode())


def original_of(request: TransactionRequest) -> Txn:
    """Return the account's transaction refTransId. Raises Refused: 15 for an invalid id, 33 for 0
    (in a refund 16), 16 for an unknown id."""
    ref = transactions.parse_id(request.tree.get("refTransId", ""))
    if ref is None:
        raise Refused(15)
    if ref == 0 and request.tree["transactionType"] != REFUND:
        raise Refused(33, "A valid referenced transaction ID is required.")
    txn = request.ledger.txns.get(ref)
    if txn is None or txn.login != request.account.login:
        raise Refused(16)
    return txn


def charged(kept: Tree) -> tuple[str, str]:
    """Return fingerprint and expiry of the charged payment method, from a transaction's details;
    '' if none were stored."""
    own = kept.get("i", "")
    if isinstance(own, list):  # older state files have one string
        return own[0] + own[1], own[2]
    return own[: payment_methods.FINGERPRINT_CHARS], own[payment_methods.FINGERPRINT_CHARS :]
