"""Replies before they are rendered as JSON or XML, and the error that rejects a request."""

import hmac
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.state.transactions import Txn
from authorizenet_simulator.wire import amounts
from authorizenet_simulator.wire.codes import MESSAGES, REASONS

Tree = dict[str, Any]
"""An element with children, by their names."""


class ApiError(Exception):
    """The whole request is rejected. `second` is the code and text of a second message."""

    def __init__(
        self, code: str, text: str | None = None, second: tuple[str, str] | None = None
    ) -> None:
        super().__init__(code)
        self.code = code
        self.text = MESSAGES[code] if text is None else text
        self.second = second


class Reply(NamedTuple):
    """The payload, in the order of the schema, and the message of the whole request."""

    payload: dict[str, Any]
    result: str = "Ok"
    code: str = "I00001"
    text: str = "Successful."
    second: tuple[str, str] | None = None
    """Code and text of a second message, if there is one."""


Handler = Callable[[Ledger, Account, Tree, int], Reply]
"""Answers a method: from the ledger, the account, the validated body and the time."""
NOTHING_FOUND: Final = ("Ok", "I00004", MESSAGES["I00004"])

_ORDER: Final = {
    name: place
    for place, name in enumerate(
        (
            "responseCode",
            "authCode",
            "avsResultCode",
            "cvvResultCode",
            "cavvResultCode",
            "transId",
            "refTransID",
            "transHash",
            "testRequest",
            "accountNumber",
            "entryMode",
            "accountType",
            "splitTenderId",
            "prePaidCard",
            "messages",
            "errors",
            "splitTenderPayments",
            "userFields",
            "shipTo",
            "secureAcceptance",
            "transHashSha2",
            "profile",
            "SupplementalDataQualificationIndicator",
            "networkTransId",
        )
    )
}


def _place(item: tuple[str, Any]) -> int:
    return _ORDER[item[0]]


_CAVV: Final = {"05": "2", "02": "2", "06": "8", "01": "8"}
"""CAVV result by electronic commerce indicator: 2 authenticated, 8 only attempted."""


def cavv(brand: str, eci: str | None) -> str:
    """Return an approved charge's CAVV result; without 3-D Secure a card shows 2 as well."""
    if brand in ("eCheck", "PayPal"):
        return ""
    indicator = (eci or "").strip()
    return _CAVV.get(indicator.zfill(2), "") if indicator else "2"


_ALPHABET: Final = bytes(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"[i % 36] for i in range(256))
_CHARGES: Final = frozenset({"authCaptureTransaction", "authOnlyTransaction"})
_NO_NETWORK: Final = frozenset({"eCheck", "PayPal"})
_AUTHORIZED: Final = frozenset({253, 295})
"""Reasons of a held charge that the bank has authorized."""


def auth_code(txn: Txn) -> str:
    """Return the bank's authorization code (six characters); '' if it did not authorize."""
    return bank_codes(txn)[0]


def bank_codes(txn: Txn) -> tuple[str, str]:
    """Compute authorization code and network transaction id from the id, so none is stored."""
    if txn.type not in _CHARGES or txn.brand in _NO_NETWORK:
        return "", ""
    if txn.response_code != 1 and txn.reason not in _AUTHORIZED:
        return "", ""
    digest = blake2b(b"%d" % txn.trans_id, digest_size=29).digest()
    letters = digest.translate(_ALPHABET).decode()
    return letters[:6], letters[6:]


def transaction(
    account: Account,
    response_code: int,
    reason: int,
    *,
    amount: int = 0,
    text: str | None = None,
    auth: str = "",
    avs: str = "P",
    cvv: str = "",
    cavv: str = "",
    trans_id: int = 0,
    ref: str = "",
    masked: str = "",
    brand: str = "",
    network: str = "",
    test: bool = False,
    user_fields: list[dict[str, str]] | None = None,
    also: dict[str, Any] | None = None,
) -> Reply:
    """Build a transactionResponse with its keys in the order of the schema; `also` has keys that
    only some payment methods have."""
    if text is None:
        text = REASONS[reason][1]
    body: dict[str, Any] = {
        "responseCode": str(response_code),
        "authCode": auth,
        "avsResultCode": avs,
        "cvvResultCode": cvv,
        "cavvResultCode": cavv,
        "transId": str(trans_id),
        "refTransID": ref,
        "transHash": "",
        "testRequest": "1" if test else "0",
        "accountNumber": masked,
        "accountType": brand,
    }
    if response_code in (2, 3):
        body["errors"] = [{"errorCode": str(reason), "errorText": text}]
    else:
        body["messages"] = [{"code": str(reason), "description": text}]
    if user_fields:
        body["userFields"] = user_fields
    body["transHashSha2"] = _signature(account, trans_id, amount) if account.signature_key else ""
    body["SupplementalDataQualificationIndicator"] = 0
    if network:
        body["networkTransId"] = network
    if also:
        body = dict(sorted((body | also).items(), key=_place))
    payload = {"transactionResponse": body}
    if response_code == 3:
        return Reply(payload, "Error", "E00027", MESSAGES["E00027"])
    return Reply(payload)


def _signature(account: Account, trans_id: int, amount: int) -> str:
    message = f"^{account.login}^{trans_id}^{amounts.text(amount)}^"
    key = bytes.fromhex(account.signature_key)
    return hmac.digest(key, message.encode("latin-1"), "sha512").hex().upper()
