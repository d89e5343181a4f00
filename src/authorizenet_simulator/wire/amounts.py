"""Converts decimal amounts to integer hundredths, and back."""

from functools import lru_cache

import msgspec


@lru_cache(4096)
def parse(text: str) -> int | None:
    """Hundredths of `text` (a decimal as the schema allows it); None when finer than that."""
    whole, _, decimals = text.strip().partition(".")
    negative = whole[:1] == "-"
    decimals = decimals.rstrip("0")
    if len(decimals) > 2:
        return None
    hundredths = int(whole.lstrip("+-") or "0") * 100 + int(decimals.ljust(2, "0"))
    return -hundredths if negative else hundredths


def text(hundredths: int) -> str:
    """'12.50': two decimals, always."""
    sign = "-" if hundredths < 0 else ""
    whole, rest = divmod(abs(hundredths), 100)
    return f"{sign}{whole}.{rest:02d}"


def number(hundredths: int) -> msgspec.Raw:
    """12.50 as a JSON number that keeps its two decimals, as reporting writes it."""
    return msgspec.Raw(text(hundredths).encode())


def as_number(said: str) -> msgspec.Raw:
    """`two_decimals` as a JSON number."""
    return msgspec.Raw(two_decimals(said).encode())


def two_decimals(said: str) -> str:
    """Whatever the wire takes for a decimal, with two decimals; a finer one keeps what it has."""
    hundredths = parse(said)
    if hundredths is not None:
        return text(hundredths)
    whole, _, decimals = said.strip().partition(".")  # '+.125' is 0.125
    sign = "-" if whole[:1] == "-" else ""
    return f"{sign}{int(whole.lstrip('+-') or '0')}.{decimals or '0'}"
