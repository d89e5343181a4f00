"""Payment data of wallets: Apple Pay, Google Pay, Visa Checkout, and network tokens.

Nobody here can decrypt what a wallet's phone encrypted, so any well-formed payload stands for a
Visa test card that ends in 1111; the same payload is the same card.
"""

from base64 import b64decode
from binascii import Error
from collections.abc import Mapping
from typing import Any, Final

from authorizenet_simulator.state import payment_methods
from authorizenet_simulator.state.payment_methods import Instrument

_VISA_CHECKOUT: Final = "COMMON.VCO.ONLINE.PAYMENT"
DESCRIPTORS: Final = frozenset(
    {"COMMON.APPLE.INAPP.PAYMENT", "COMMON.GOOGLE.INAPP.PAYMENT", _VISA_CHECKOUT}
)


def read(opaque: Mapping[str, Any], salt: bytes) -> Instrument:
    """An `opaqueData` of a wallet; its reason is 153 for an unknown wallet or no Base64."""
    descriptor, value = opaque["dataDescriptor"], opaque["dataValue"]
    good = descriptor in DESCRIPTORS and is_base64(value)
    if descriptor == _VISA_CHECKOUT and not opaque.get("dataKey"):
        good = False
    if not good:
        return Instrument("", "", "", reason=153)
    return Instrument(payment_methods.fingerprint(value, salt), "1111", "Visa", "2099-12")


def token(card: Mapping[str, Any]) -> dict[str, Any] | None:
    """What reporting tells of a card number that is a network's token."""
    return {"isPaymentToken": True} if card.get("isPaymentToken") in ("true", "1") else None


def is_base64(text: str) -> bool:
    try:
        return bool(b64decode(text.strip(), validate=True))
    except (Error, ValueError):
        return False
