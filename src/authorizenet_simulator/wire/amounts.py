"""Converts decimal amounts to integer hundredths, and back."""

from functools import lru_cache

import msgspec


@lru_cache(4096)
def parse(text: str) -> int | None:
    """Convert a decimal of the schema to hundredths; None if it has more than two decimals."""
    whole, _, decimals = text.strip().partition(".")
    negative = whole[:1] == "-"
    decimals = decimals.rstrip("0")
    if len(decimals) > 2:
        return None
    hundredths = int(whole.lstrip("+-") or "0") * 100 + int(decimals.ljust(2, "0"))
    return -hundredths if negative else hundredths


def text(hundredths: int) -> str:
    """Format hundredths with two decimals: '12.50'."""
    sign = "-" if hundredths < 0 else ""
    whole, rest = divmod(abs(hundredths), 100)
    return f"{sign}{whole}.{rest:02d}"


def number(hundredths: int) -> msgspec.Raw:
    """Format hundredths as a JSON number with two decimals (12.50), as reports show it."""
    return msgspec.Raw(text(hundredths).encode())


def as_number(decimal: str) -> msgspec.Raw:
    """Convert a decimal of a request to a JSON number, as `two_decimals` does."""
    return msgspec.Raw(two_decimals(decimal).encode())


def two_decimals(decimal: str) -> str:
    """Format a decimal of a request with two decimals, or with more if it has more."""
    hundredths = parse(decimal)
    if hundredths is not None:
        return text(hundredths)
    whole, _, decimals = decimal.strip().partition(".")  # '+.125' becomes 0.125
    sign = "-" if whole[:1] == "-" else ""
    return f"{sign}{int(whole.lstrip('+-') or '0')}.{decimals or '0'}"
