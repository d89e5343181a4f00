"""Money: an integer of minor units and an ISO 4217 currency. No float ever touches an amount."""

from decimal import Decimal, InvalidOperation
from typing import Final

import msgspec

# ISO 4217 lists the exponents.
_EXPONENTS: Final = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
    2: (
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD "
        "CDF CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD "
        "GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL "
        "MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN "
        "PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP "
        "SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VES WST XCD YER ZAR ZMW"
    ),
}

EXPONENT: Final[dict[str, int]] = {
    code: exponent for exponent, codes in _EXPONENTS.items() for code in codes.split()
}
"""The number of decimals of a currency, by its ISO 4217 code."""
WHOLE_CURRENCIES: Final = [code for code, exponent in EXPONENT.items() if exponent == 0]
THOUSANDTHS: Final = [code for code, exponent in EXPONENT.items() if exponent == 3]

MAX_MINOR: Final = 99_999_999_999
"""The largest amount the API takes, in minor units: far below bigint, above any card limit."""


class CurrencyMismatch(ValueError):
    """Two amounts of different currencies were to be added."""


class Money(msgspec.Struct, frozen=True, gc=False):
    """An amount in minor units and its ISO 4217 currency."""

    minor: int
    currency: str

    def __post_init__(self) -> None:
        if self.currency not in EXPONENT:
            raise ValueError(f"{self.currency!r} is not an ISO 4217 currency code")

    def __add__(self, other: "Money") -> "Money":
        if self.currency != other.currency:
            raise CurrencyMismatch(f"{self.currency} and {other.currency} cannot be added")
        return Money(self.minor + other.minor, self.currency)

    def decimal_string(self) -> str:
        """Return `12.50`, the form that a processor wants. Exact for every exponent."""
        exponent = EXPONENT[self.currency]
        if exponent == 0:
            return str(self.minor)
        sign = "-" if self.minor < 0 else ""
        digits = str(abs(self.minor)).rjust(exponent + 1, "0")
        return f"{sign}{digits[:-exponent]}.{digits[-exponent:]}"


def parse_decimal(text: str, currency: str) -> Money:
    """Return the amount of a decimal text: `12.50` and `12.5` of USD are 1250 minor units.

    Raises ValueError if the text is not a finite decimal that is exact in that currency.
    """
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text!r} is not an amount") from None
    if not value.is_finite():
        raise ValueError(f"{text!r} is not an amount")
    scaled = value.scaleb(EXPONENT[currency])
    if scaled != scaled.to_integral_value():
        raise ValueError(f"{text!r} has more decimals than {currency}")
    return Money(int(scaled), currency)
