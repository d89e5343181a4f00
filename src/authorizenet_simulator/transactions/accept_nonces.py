"""Accept nonces: valid once, for 15 minutes and one merchant."""

import secrets
from base64 import b64decode, b64encode
from binascii import Error
from typing import Any, Final

from authorizenet_simulator.state import events, payment_methods
from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.state.payment_methods import PaymentMethod
from authorizenet_simulator.wire.replies import ApiError, Reply

DESCRIPTOR: Final = "COMMON.ACCEPT.INAPP.PAYMENT"
LIFETIME_MS: Final = 15 * 60_000
_NUMBER_DIGITS: Final = 22
_PREFIXES: Final = tuple(b64encode(text).decode()[:8] for text in (b'{"code', b'{"token'))


def mint(ledger: Ledger, account: Account, body: dict[str, Any], now: int) -> Reply:
    """securePaymentContainerRequest: issue a nonce for a card or bank account."""
    data = body["data"]
    if (token := data.get("token")) is not None:
        method = payment_methods.read_card(token, ledger.salt)
    elif (bank := data.get("bankToken")) is not None:
        method = payment_methods.read_bank(bank, ledger.salt)
    else:
        raise ApiError("E00014", "Token is required.")
    return issue(ledger, account, method, now)


def issue(ledger: Ledger, account: Account, method: PaymentMethod, now: int) -> Reply:
    """Issue a nonce for `method`, in the format of Authorize.Net's."""
    code, token = secrets.token_hex(48).upper(), secrets.randbelow(10**_NUMBER_DIGITS)
    text = f'{{"code":"50_2_{code}","token":"{token:0{_NUMBER_DIGITS}d}","v":"1.1"}}'
    value = b64encode(text.encode()).decode()
    ledger.do(events.NonceMinted(value, account.login, now + LIFETIME_MS, method))
    return Reply({"opaqueData": {"dataDescriptor": DESCRIPTOR, "dataValue": value}})


def redeem(ledger: Ledger, account: Account, value: str, now: int) -> PaymentMethod:
    """Return a nonce's payment method and invalidate the nonce. Raises ApiError E00117 if it is no
    nonce, E00114 if it is used or expired, E00116 if it is another account's."""
    if not _is_nonce(value):
        raise ApiError("E00117")
    minted = ledger.nonces.get(value)
    if minted is None or minted.expires <= now:
        raise ApiError("E00114")
    if minted.login != account.login:
        raise ApiError("E00116")
    ledger.do(events.NonceUsed(value))
    return minted.method


def _is_nonce(value: str) -> bool:
    """Return whether `value` has a nonce's format or that of Authorize.Net's samples: preceded by
    three characters, or the 22 digits of an older nonce."""
    if len(value) == _NUMBER_DIGITS and value.isascii() and value.isdigit():
        return True
    start = 0 if value.startswith(_PREFIXES) else 3
    if not value.startswith(_PREFIXES, start):
        return False
    try:
        return bool(b64decode(value[start:], validate=True))
    except (Error, ValueError):
        return False
