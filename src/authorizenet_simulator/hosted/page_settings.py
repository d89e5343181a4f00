"""The settings of hosted pages: their names and allowed values."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from authorizenet_simulator.wire.replies import ApiError

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_COLOR = re.compile(r"#?(?:[0-9A-Fa-f]{3}|[0-9A-Fa-f]{6})\Z")
_HOST = re.compile(r"[A-Za-z0-9.\-_]+(?::\d{1,5})?\Z|\[[0-9A-Fa-f:.]+\](?::\d{1,5})?\Z")


def origin_of(url: str) -> str | None:
    """Return the origin of an http(s) address ('https://shop.example'); None for others."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not _HOST.match(parts.netloc):
        return None
    if any(ord(each) <= 32 or ord(each) == 127 for each in url):
        return None
    return f"{parts.scheme}://{parts.netloc}"


def options(settings: Mapping[str, str], name: str) -> dict[str, Any]:
    """Return a setting's JSON object; {} if the setting is absent."""
    return _decode(settings[name]) if name in settings else {}


def _web(text: str) -> bool:
    return origin_of(text) is not None


def _flag(text: str) -> bool:
    return text.lower() in ("true", "false")


def _any(text: str) -> bool:
    return True


def _color(text: str) -> bool:
    return _COLOR.match(text) is not None


def _one_of(*values: str) -> Callable[[str], bool]:
    return lambda text: text in values


def _json(*addresses: str) -> Callable[[str], bool]:
    """Accept a JSON object in which these keys hold http(s) addresses."""

    def check(text: str) -> bool:
        try:
            value = _decode(text)
        except msgspec.MsgspecError:
            return False
        return all(
            isinstance(value[key], str) and _web(value[key]) for key in addresses if value.get(key)
        )

    return check


Checks = Mapping[str, Callable[[str], bool]]
PAYMENT: Final[Checks] = {
    "hostedPaymentIFrameCommunicatorUrl": _json("url"),
    "hostedPaymentButtonOptions": _json(),
    "hostedPaymentReturnOptions": _json("url", "cancelUrl"),
    "hostedPaymentOrderOptions": _json(),
    "hostedPaymentPaymentOptions": _json(),
    "hostedPaymentBillingAddressOptions": _json(),
    "hostedPaymentShippingAddressOptions": _json(),
    "hostedPaymentSecurityOptions": _json(),
    "hostedPaymentCustomerOptions": _json(),
    "hostedPaymentStyleOptions": _json(),
    "hostedPaymentVisaCheckoutOptions": _json(),
}
PROFILE: Final[Checks] = {
    "hostedProfileReturnUrl": _web,
    "hostedProfileReturnUrlText": _any,
    "hostedProfilePageBorderVisible": _flag,
    "hostedProfileIFrameCommunicatorUrl": _web,
    "hostedProfileHeadingBgColor": _color,
    "hostedProfileValidationMode": _one_of("none", "testMode", "liveMode"),
    "hostedProfileBillingAddressRequired": _flag,
    "hostedProfileCardCodeRequired": _flag,
    "hostedProfileBillingAddressOptions": _one_of("showBillingAddress", "showNone"),
    "hostedProfileManageOptions": _one_of("showAll", "showPayment", "showShipping"),
    "hostedProfilePaymentOptions": _one_of("showAll", "showCreditCard", "showBankAccount"),
    "hostedProfileSaveButtonText": _any,
}


def read(given: Mapping[str, Any] | None, checks: Checks) -> dict[str, str]:
    """Return a request's settings. Raises ApiError E00013 for an invalid name or value."""
    found: dict[str, str] = {}
    for setting in (given or {}).get("setting", ()):
        name, value = setting.get("settingName", ""), setting.get("settingValue", "")
        check = checks.get(name)
        if check is None:
            raise ApiError("E00013", "Setting Name is invalid.")
        if not check(value):
            raise ApiError("E00013", f"Setting Value of {name} is invalid.")
        found[name] = value
    return found
