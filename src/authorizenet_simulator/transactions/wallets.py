"""Payment data of wallets (Apple Pay, Google Pay, Visa Checkout) and network tokens.

The simulator cannot decrypt a wallet's payload, so any well-formed one stands for a Visa test
card that ends in 1111; equal payloads are the same card.
"""

from base64 import b64decode
from binascii import Error
from collections.abc import Mapping
from typing import Any, Final

from authorizenet_simulator.state import payment_methods
from authorizenet_simulator.state.payment_methods import PaymentMethod

_VISA_CHECKOUT: Final = "COMMON.VCO.ONLINE.PAYMENT"
DESCRIPTORS: Final = frozenset(
    {"COMMON.APPLE.INAPP.PAYMENT", "COMMON.GOOGLE.INAPP.PAYMENT", _VISA_CHECKOUT}
)


def read(opaque: Mapping[str, Any], salt: bytes) -> PaymentMethod:
    """Read a wallet's `opaqueData`; reason 153 if the wallet is unknown or it is not Base64."""
    descriptor, value = opaque["dataDescriptor"], opaque["dataValue"]
    valid = descriptor in DESCRIPTORS and is_base64(value)
    if descriptor == _VISA_CHECKOUT and not opaque.get("dataKey"):
        valid = False
    if not valid:
        return PaymentMethod("", "", "", reason=153)
    return PaymentMethod(payment_methods.fingerprint(value, salt), "1111", "Visa", "2099-12")


def token(card: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the reported fields of a card number that is a network token, else None."""
    return {"isPaymentToken": True} if card.get("isPaymentToken") in ("true", "1") else None


def is_base64(text: str) -> bool:
    try:
        return bool(b64decode(text.strip(), validate=True))
    except (Error, ValueError):
        return False
