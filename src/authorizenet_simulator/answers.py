"""What a request is answered with, before it becomes JSON (or XML)."""

import hmac
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from authorizenet_simulator import amounts
from authorizenet_simulator.codes import MESSAGES, REASONS
from authorizenet_simulator.ledger import Account
from authorizenet_simulator.records import Txn


class ApiError(Exception):
    """The request as a whole is refused; no transaction response."""

    def __init__(self, code: str, text: str | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.text = MESSAGES[code] if text is None else text


class Reply(NamedTuple):
    """The payload in wire order, and the message of the whole request."""

    payload: dict[str, Any]
    result: str = "Ok"
    code: str = "I00001"
    text: str = "Successful."


NOTHING_FOUND: Final = ("Ok", "I00004", MESSAGES["I00004"])

_ALPHABET: Final = bytes(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"[i % 36] for i in range(256))
_CHARGES: Final = frozenset({"authCaptureTransaction", "authOnlyTransaction"})


def auth_code(txn: Txn) -> str:
    """The bank's six characters; '' where it did not authorize."""
    return bank_codes(txn)[0]


def bank_codes(txn: Txn) -> tuple[str, str]:
    """Authorization code and network transaction id: functions of the id, so nothing is kept."""
    if txn.type not in _CHARGES or txn.brand == "eCheck":
        return "", ""
    if txn.response_code != 1 and txn.reason != 253:
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
) -> Reply:
    """A transactionResponse with its keys in the order of the wire."""
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
    payload = {"transactionResponse": body}
    if response_code == 3:
        return Reply(payload, "Error", "E00027", MESSAGES["E00027"])
    return Reply(payload)


def _signature(account: Account, trans_id: int, amount: int) -> str:
    message = f"^{account.login}^{trans_id}^{amounts.text(amount)}^"
    key = bytes.fromhex(account.signature_key)
    return hmac.digest(key, message.encode("latin-1"), "sha512").hex().upper()
