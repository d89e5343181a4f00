"""Accept nonces: single use, fifteen minutes, one merchant."""

import secrets
from base64 import b64decode, b64encode
from binascii import Error
from typing import Any, Final

from authorizenet_simulator.state import events, payment_methods
from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.state.payment_methods import Instrument
from authorizenet_simulator.wire.replies import ApiError, Reply

DESCRIPTOR: Final = "COMMON.ACCEPT.INAPP.PAYMENT"
LIFETIME_MS: Final = 15 * 60_000
_NUMBER_DIGITS: Final = 22
_BEGINNINGS: Final = tuple(b64encode(text).decode()[:8] for text in (b'{"code', b'{"token'))


def mint(ledger: Ledger, account: Account, body: dict[str, Any], now: int) -> Reply:
    """securePaymentContainerRequest: a nonce in exchange for a card or bank account."""
    data = body["data"]
    if (token := data.get("token")) is not None:
        instrument = payment_methods.read_card(token, ledger.salt)
    elif (bank := data.get("bankToken")) is not None:
        instrument = payment_methods.read_bank(bank, ledger.salt)
    else:
        raise ApiError("E00014", "Token is required.")
    return issue(ledger, account, instrument, now)


def issue(ledger: Ledger, account: Account, instrument: Instrument, now: int) -> Reply:
    """A new nonce that stands for `instrument`, in the form of the original's."""
    code, token = secrets.token_hex(48).upper(), secrets.randbelow(10**_NUMBER_DIGITS)
    told = f'{{"code":"50_2_{code}","token":"{token:0{_NUMBER_DIGITS}d}","v":"1.1"}}'
    value = b64encode(told.encode()).decode()
    ledger.mint(events.NonceMinted(value, account.login, now + LIFETIME_MS, instrument))
    return Reply({"opaqueData": {"dataDescriptor": DESCRIPTOR, "dataValue": value}})


def redeem(ledger: Ledger, account: Account, value: str, now: int) -> Instrument:
    """What a nonce stands for; it is gone afterwards. Raises ApiError: E00117 for what is none,
    E00114 for one that is used or too old, E00116 for another account's."""
    if not _is_nonce(value):
        raise ApiError("E00117")
    minted = ledger.nonces.get(value)
    if minted is None or minted.expires <= now:
        raise ApiError("E00114")
    if minted.login != account.login:
        raise ApiError("E00116")
    ledger.use_nonce(value)
    return minted.instrument


def _is_nonce(value: str) -> bool:
    """Whether it has a nonce's form, or one of those in the processor's own samples: three
    characters before it, or the number that a nonce once was."""
    if len(value) == _NUMBER_DIGITS and value.isascii() and value.isdigit():
        return True
    start = 0 if value.startswith(_BEGINNINGS) else 3
    if not value.startswith(_BEGINNINGS, start):
        return False
    try:
        return bool(b64decode(value[start:], validate=True))
    except (Error, ValueError):
        return False
