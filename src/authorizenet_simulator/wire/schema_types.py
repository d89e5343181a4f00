"""The schema's simple types: check a value, with the error texts of .NET."""

import re
from collections.abc import Callable
from typing import Any, Final

NAMESPACE: Final = "AnetApi/xml/v1/schema/AnetApiSchema.xsd"
Facets = dict[str, Any]
LeafCheck = Callable[[str], "str | None"]
"""Returns the end of .NET's message for an invalid value, None for a valid one."""

_DECIMAL = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)\Z", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d+\Z", re.ASCII)
_DATE = r"-?\d{4,}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
_ZONE = r"(?:Z|[+-]\d\d:\d\d)?\Z"
_DAY = re.compile(_DATE + _ZONE, re.ASCII)
_MOMENT = re.compile(_DATE + r"T(?:[01]\d|2[0-4]):[0-5]\d:[0-5]\d(?:\.\d+)?" + _ZONE, re.ASCII)


def _xsd(kind: str, clr: str, value: str) -> str:
    return (
        f"'http://www.w3.org/2001/XMLSchema:{kind}'"
        f" - The string &#39;{value}&#39; is not a valid {clr} value."
    )


def _decimal(value: str) -> str | None:
    text = value.strip()
    if _DECIMAL.match(text) and len(text) <= 29:
        return None
    return _xsd("decimal", "Decimal", value)


def _whole(kind: str, clr: str, bits: int) -> LeafCheck:
    limit = 1 << (bits - 1)

    def check_whole(value: str) -> str | None:
        text = value.strip()
        if len(text) < 21 and _INTEGER.match(text) and -limit <= int(text) < limit:
            return None
        return _xsd(kind, clr, value)

    return check_whole


def _boolean(value: str) -> str | None:
    if value.strip() in ("true", "false", "1", "0"):
        return None
    return _xsd("boolean", "Boolean", value)


def _moment(value: str) -> str | None:
    return None if _MOMENT.match(value.strip()) else _xsd("dateTime", "DateTime", value)


def _day(value: str) -> str | None:
    return None if _DAY.match(value.strip()) else _xsd("date", "Date", value)


def anything(value: str) -> str | None:
    return None


BASES: Final[dict[str, LeafCheck | None]] = {
    "string": None,
    "decimal": _decimal,
    "boolean": _boolean,
    "int": _whole("int", "Int32", 32),
    "long": _whole("long", "Int64", 64),
    "short": _whole("short", "Int16", 16),
    "dateTime": _moment,
    "date": _day,
    "any": anything,
}
_CLR: Final = {"string": "String", "decimal": "Decimal", "int": "Int", "short": "Short"}


def lengths(spec: str | Facets) -> tuple[int, int] | None:
    """Return the minimum and maximum length of a leaf with no other facet; None for others."""
    if isinstance(spec, str) or spec["base"] != "string":
        return None
    if not spec.keys() <= {"base", "minLength", "maxLength"}:
        return None
    return spec.get("minLength", 0), spec.get("maxLength", 1 << 30)


def units(value: str) -> int:
    """Return a text's length as .NET counts it: in UTF-16 code units, two for an emoji."""
    if value.isascii():
        return len(value)
    return len(value) + sum(character > "\uffff" for character in value)


def check(facets: Facets, simple: dict[str, Facets], name: str | None) -> LeafCheck | None:
    """Build one function that checks all facets of a type, in .NET's order."""
    base: str = facets["base"]
    inner = check(simple[base], simple, name) if base in simple else BASES[base]
    own = facets.keys() - {"base"}
    if not own:
        return inner
    shown = f"{NAMESPACE}:{name}" if name else _CLR.get(base, "String")
    tail = f"'{shown}' - The "
    pattern = re.compile(facets["pattern"] + r"\Z", re.ASCII) if "pattern" in facets else None
    enum = frozenset(facets["enum"]) if "enum" in facets else None
    length, shortest = facets.get("length"), facets.get("minLength", 0)
    longest = facets.get("maxLength")
    floor, ceiling = facets.get("minInclusive"), facets.get("maxInclusive")
    lowest = None if floor is None else float(floor)
    highest = None if ceiling is None else float(ceiling)
    fraction, total = facets.get("fractionDigits"), facets.get("totalDigits")

    def check_text(value: str) -> str | None:
        if inner is not None and (wrong := inner(value)) is not None:
            return wrong
        if pattern is not None and not pattern.match(value):
            return tail + "Pattern constraint failed."
        size = units(value)
        if length is not None and size != length:
            return tail + "actual length is not equal to the specified length."
        if size < shortest:
            return tail + "actual length is less than the MinLength value."
        if longest is not None and size > longest:
            return tail + "actual length is greater than the MaxLength value."
        if enum is not None and value not in enum:
            return tail + "Enumeration constraint failed."
        return None

    def check_number(value: str) -> str | None:
        wrong = inner(value) if inner is not None else None
        if wrong is not None:
            return wrong
        number = float(value)  # only compared with small whole limits
        if highest is not None and number > highest:
            return tail + "MaxInclusive constraint failed."
        if lowest is not None and number < lowest:
            return tail + "MinInclusive constraint failed."
        whole, _, decimals = value.strip().lstrip("+-").partition(".")
        decimals = decimals.rstrip("0")
        if total is not None and len(whole.lstrip("0") + decimals) > total:
            return tail + "TotalDigits constraint failed."
        if fraction is not None and len(decimals) > fraction:
            return tail + "FractionDigits constraint failed."
        return None

    return check_number if base in ("decimal", "int", "short", "long") else check_text
