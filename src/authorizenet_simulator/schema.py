"""Checks a request against the element order, occurrence and facets of `data/schema.json`.

The processor maps JSON to its XML schema and validates that, so JSON keys out of order fail with
the texts of .NET's XML validator. What is checked here is a tree of dicts, lists and scalars,
whichever wire it came from. In passing it is brought into one shape, in place: every leaf becomes
the text that the XML would hold, and every repeatable element a list.
"""

import re
from collections.abc import Callable
from importlib.resources import files
from typing import Any, Final

import msgspec

NAMESPACE: Final = "AnetApi/xml/v1/schema/AnetApiSchema.xsd"
_IN_NAMESPACE: Final = f" in namespace '{NAMESPACE}'"
SECRET: Final = frozenset(
    {
        "cardNumber",
        "cardCode",
        "accountNumber",
        "routingNumber",
        "track1",
        "track2",
        "transactionKey",
        "password",
        "cryptogram",
        "dataValue",
    }
)
"""Leaves whose value no error text may repeat."""

Facets = dict[str, Any]
LeafCheck = Callable[[str], "str | None"]
"""Gives the tail of the .NET message for a bad value, None for a good one."""


class SchemaError(Exception):
    """The request does not fit the schema; the text is the processor's (E00003)."""


class Field:
    """One child element of a complex type."""

    __slots__ = ("check", "child", "longest", "max", "name", "rank", "shortest")

    def __init__(self, name: str, rank: int, most: int | None) -> None:
        self.name = name
        self.rank = rank
        self.max = most
        """How often it may come; None: any number of times."""
        self.child: Complex | None = None
        self.check: LeafCheck | None = None
        # Where length is all that `check` looks at, what lies within these needs no call.
        self.shortest, self.longest = 1, 0

    def set_leaf(self, check: LeafCheck | None, lengths: tuple[int, int] | None) -> None:
        self.check = check
        if lengths is not None:
            self.shortest, self.longest = lengths


class Complex:
    """A complex type: its children in order. Members of one choice share a rank."""

    __slots__ = ("fields", "ranks", "reach")

    def __init__(self) -> None:
        self.fields: dict[str, Field] = {}
        self.ranks: list[list[Field]] = []
        self.reach: list[int] = []
        """reach[r]: the first required rank at or after r; the number of ranks if there is none."""

    def expected(self, start: int, last: Field | None, seen: int) -> str:
        """The validator's list of what could have come: up to the first required element."""
        names = []
        if last is not None and (last.max is None or seen < last.max):
            names.append(last.name)
        for rank in self.ranks[start : self.reach[start] + 1]:
            names.extend(field.name for field in rank)
        if not names:
            return ""
        return f" List of possible elements expected: '{', '.join(names)}'{_IN_NAMESPACE}."


class Schema:
    """Every request's root type, compiled once."""

    def __init__(self, source: dict[str, Any]) -> None:
        self._types: dict[str, Any] = source["types"]
        self._simple: dict[str, Facets] = source["simple"]
        self._compiled: dict[str, Complex] = {}
        self._checks: dict[str, LeafCheck | None] = {}
        self.requests: dict[str, Complex] = {
            name: self._complex(*definition)
            for name, definition in source["elements"].items()
            if name.endswith("Request") and isinstance(definition, list)
        }

    def _named(self, name: str) -> Complex:
        found = self._compiled.get(name)
        if found is None:
            found = self._compiled[name] = Complex()  # before its fields: types may nest
            self._fill(found, self._inherited(*self._types[name]))
        return found

    def _complex(self, extends: str | None, fields: list[Any]) -> Complex:
        made = Complex()
        self._fill(made, self._inherited(extends, fields))
        return made

    def _inherited(self, extends: str | None, fields: list[Any]) -> list[Any]:
        if extends is None:
            return fields
        return self._inherited(*self._types[extends]) + fields

    def _fill(self, made: Complex, definitions: list[Any]) -> None:
        required: list[bool] = []
        in_choice = False
        for name, least, most, spec, *choice in definitions:
            if choice and in_choice:
                required[-1] = required[-1] and least > 0  # an optional member frees the choice
            else:
                required.append(least > 0)
                made.ranks.append([])
            in_choice = bool(choice)
            field = Field(name, len(made.ranks) - 1, None if most < 0 else most)
            if isinstance(spec, list):
                field.child = self._complex(None, spec)
            elif isinstance(spec, str) and spec in self._types:
                field.child = self._named(spec)
            else:
                field.set_leaf(self._leaf(spec), _lengths(spec))
            made.ranks[-1].append(field)
            made.fields[name] = field
        made.reach = [0] * (len(required) + 1)
        made.reach[-1] = len(required)
        for rank in range(len(required) - 1, -1, -1):
            made.reach[rank] = rank if required[rank] else made.reach[rank + 1]

    def _leaf(self, spec: str | Facets) -> LeafCheck | None:
        if not isinstance(spec, str):
            return _facet_check(spec, self._simple, None)
        if spec not in self._checks:
            if spec in self._simple:
                self._checks[spec] = _facet_check(self._simple[spec], self._simple, spec)
            else:
                self._checks[spec] = BASES[spec]
        return self._checks[spec]

    def check(self, method: str, body: dict[str, Any]) -> None:
        """Check one request and bring it into shape. Raises SchemaError."""
        _check(self.requests[method], method, body)


def load() -> Schema:
    """The schema that comes with the program."""
    return Schema(msgspec.json.decode(files(__package__).joinpath("data/schema.json").read_bytes()))


def _check(kind: Complex, name: str, body: dict[str, Any]) -> None:
    fields, reach, start = kind.fields, kind.reach, 0
    last: Field | None = None
    seen = 0
    for key, value in body.items():
        field = fields.get(key)
        if field is None or not start <= field.rank <= reach[start]:
            if key[:1] == "@":  # an attribute, such as a namespace
                continue
            raise _misplaced(kind, name, key, start, last, seen)
        start = field.rank + 1
        last, seen = field, 1
        if field.max != 1:
            seen = _check_many(kind, name, field, key, body)
        elif field.child is not None:
            body[key] = _check_child(field, key, value, name, kind)
        elif type(value) is not str:
            body[key] = _check_leaf(field, key, value, name, kind)
        elif not field.shortest <= len(value) <= field.longest and field.check is not None:
            wrong = field.check(value)
            if wrong is not None:
                raise _bad_value(key, value, wrong)
    if reach[start] < len(kind.ranks):
        raise SchemaError(
            f"The element '{name}'{_IN_NAMESPACE} has incomplete content."
            f"{kind.expected(start, last, seen)}"
        )


def _check_many(kind: Complex, name: str, field: Field, key: str, body: dict[str, Any]) -> int:
    """Check a repeatable element, which becomes a list; gives how often it came."""
    value = body[key]
    items = value if type(value) is list else [value]
    if field.max is not None and len(items) > field.max:
        raise _misplaced(kind, name, key, field.rank + 1, field, field.max)
    if field.child is not None:
        body[key] = [_check_child(field, key, item, name, kind) for item in items]
    else:
        body[key] = [_check_leaf(field, key, item, name, kind) for item in items]
    return len(items)


def _check_child(field: Field, key: str, value: Any, name: str, kind: Complex) -> dict[str, Any]:
    assert field.child is not None
    if type(value) is not dict:
        if type(value) is list:
            value = _single(field, key, value, name, kind)
            return _check_child(field, key, value, name, kind)
        if value is not None and value != "":
            raise SchemaError(
                f"The element '{key}'{_IN_NAMESPACE} cannot contain text."
                f"{field.child.expected(0, None, 0)}"
            )
        value = {}
    _check(field.child, key, value)
    return value  # type: ignore[no-any-return]


def _check_leaf(field: Field, key: str, value: Any, name: str, kind: Complex) -> Any:
    if type(value) is str:
        text = value
    elif value is None:
        text = ""
    elif type(value) is bool:
        text = "true" if value else "false"
    elif type(value) is int:
        text = str(value)
    elif type(value) is list:
        return _check_leaf(field, key, _single(field, key, value, name, kind), name, kind)
    elif field.check is _anything:
        return value
    else:
        child = next(iter(value), "")
        raise SchemaError(
            f"The element '{key}'{_IN_NAMESPACE} cannot contain child element '{child}'"
            f"{_IN_NAMESPACE} because the parent element's content model is text only."
        )
    if field.check is not None and (wrong := field.check(text)) is not None:
        raise _bad_value(key, text, wrong)
    return text


def _single(field: Field, key: str, items: list[Any], name: str, kind: Complex) -> Any:
    """A JSON list where one element is allowed: fine while it holds one."""
    if len(items) > 1:
        raise _misplaced(kind, name, key, field.rank + 1, field, 1)
    return items[0] if items else None


def _misplaced(
    kind: Complex, name: str, key: str, start: int, last: Field | None, seen: int
) -> SchemaError:
    return SchemaError(
        f"The element '{name}'{_IN_NAMESPACE} has invalid child element '{key}'{_IN_NAMESPACE}."
        f"{kind.expected(start, last, seen)}"
    )


def _bad_value(key: str, value: str, wrong: str) -> SchemaError:
    # The processor covers a secret together with its quotes.
    shown = "X" * (len(value) + 2) if key in SECRET else f"&#39;{value}&#39;"
    if key in SECRET:
        wrong = wrong.replace(f"&#39;{value}&#39;", shown)
    return SchemaError(
        f"The '{NAMESPACE}:{key}' element is invalid - The value {shown} is invalid according to"
        f" its datatype {wrong}"
    )


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

    def check(value: str) -> str | None:
        text = value.strip()
        if len(text) < 21 and _INTEGER.match(text) and -limit <= int(text) < limit:
            return None
        return _xsd(kind, clr, value)

    return check


def _boolean(value: str) -> str | None:
    if value.strip() in ("true", "false", "1", "0"):
        return None
    return _xsd("boolean", "Boolean", value)


def _moment(value: str) -> str | None:
    return None if _MOMENT.match(value.strip()) else _xsd("dateTime", "DateTime", value)


def _day(value: str) -> str | None:
    return None if _DAY.match(value.strip()) else _xsd("date", "Date", value)


def _anything(value: str) -> str | None:
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
    "any": _anything,
}
_CLR: Final = {"string": "String", "decimal": "Decimal", "int": "Int", "short": "Short"}


def _lengths(spec: str | Facets) -> tuple[int, int] | None:
    """The lengths that are all a leaf asks for; None where it asks for more."""
    if isinstance(spec, str) or spec["base"] != "string":
        return None
    if not spec.keys() <= {"base", "minLength", "maxLength"}:
        return None
    return spec.get("minLength", 0), spec.get("maxLength", 1 << 30)


def _facet_check(facets: Facets, simple: dict[str, Facets], name: str | None) -> LeafCheck | None:
    """One function for all facets of a type, in the order in which .NET tries them."""
    base: str = facets["base"]
    inner = _facet_check(simple[base], simple, name) if base in simple else BASES[base]
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
        if length is not None and len(value) != length:
            return tail + "actual length is not equal to the specified length."
        if len(value) < shortest:
            return tail + "actual length is less than the MinLength value."
        if longest is not None and len(value) > longest:
            return tail + "actual length is greater than the MaxLength value."
        if enum is not None and value not in enum:
            return tail + "Enumeration constraint failed."
        return None

    def check_number(value: str) -> str | None:
        wrong = inner(value) if inner is not None else None
        if wrong is not None:
            return wrong
        number = float(value)  # only compared with small whole limits, never kept
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
