"""Validates a request against the element order, occurrence and facets of `data/schema.json`.

Authorize.Net maps JSON to its XML schema and validates that, so JSON keys out of order fail with
the texts of .NET's XML validator. The input is a tree of dicts, lists and scalars from either
format. Validation also normalizes it in place: every leaf becomes the text that XML would hold,
and every repeatable element a list.
"""

from collections.abc import Callable
from importlib.resources import files
from typing import Any, Final

import msgspec

from authorizenet_simulator.wire import schema_types
from authorizenet_simulator.wire.schema_types import NAMESPACE, Facets, LeafCheck

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
"""Elements whose value must not appear in an error text."""


TEXT: Final = "#text"
"""The key of text between the children of an element."""


class Stray(str):
    """An element name that equals no name of the schema, even if spelled the same.

    XML needs it for a name of another namespace and for one repeated after other elements.
    """

    __slots__ = ("namespace",)

    def __new__(cls, name: str, namespace: str) -> "Stray":
        made = super().__new__(cls, name)
        made.namespace = namespace
        return made

    namespace: str
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


class SchemaError(Exception):
    """The request violates the schema; the text is Authorize.Net's (E00003)."""


class Field:
    """One child element of a complex type."""

    __slots__ = ("check", "child", "max", "max_length", "min_length", "name", "rank")

    def __init__(self, name: str, rank: int, max_occurs: int | None) -> None:
        self.name = name
        self.rank = rank
        self.max = max_occurs
        """How often it may occur; None: any number of times."""
        self.child: Complex | None = None
        self.check: LeafCheck | None = None
        # If `check` only checks the length, a length within these limits needs no call.
        self.min_length, self.max_length = 1, 0  # no length: always call `check`

    def set_leaf(self, check: LeafCheck | None, lengths: tuple[int, int] | None) -> None:
        self.check = check
        if lengths is not None:
            self.min_length, self.max_length = lengths


class Complex:
    """A complex type: its children in order. The members of a choice share a rank."""

    __slots__ = ("fields", "ranks", "reach")

    def __init__(self) -> None:
        self.fields: dict[str, Field] = {}
        self.ranks: list[list[Field]] = []
        self.reach: list[int] = []
        """reach[r] is the first required rank at or after r; the number of ranks if none is."""

    def expected(self, start: int, last: Field | None, seen: int) -> str:
        """Return .NET's list of expected elements: up to the first required one."""
        names = []
        if last is not None and (last.max is None or seen < last.max):
            names.append(last.name)
        for rank in self.ranks[start : self.reach[start] + 1]:
            names.extend(field.name for field in rank)
        if not names:
            return ""
        return f" List of possible elements expected: '{', '.join(names)}'{_IN_NAMESPACE}."


class Schema:
    """The root types of all requests and responses, compiled once."""

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
        self.responses: dict[str, Complex] = {
            name: self._named(definition)
            if isinstance(definition, str)
            else self._complex(*definition)
            for name, definition in source["elements"].items()
            if name.endswith("Response")
        }

    def _named(self, name: str) -> Complex:
        found = self._compiled.get(name)
        if found is None:
            found = self._compiled[name] = Complex()  # before its fields: types may be recursive
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
        for name, min_occurs, max_occurs, spec, *choice in definitions:
            if choice and in_choice:
                required[-1] &= min_occurs > 0  # one optional member makes the choice optional
            else:
                required.append(min_occurs > 0)
                made.ranks.append([])
            in_choice = bool(choice)
            field = Field(name, len(made.ranks) - 1, None if max_occurs < 0 else max_occurs)
            if isinstance(spec, list):
                field.child = self._complex(None, spec)
            elif isinstance(spec, str) and spec in self._types:
                field.child = self._named(spec)
            else:
                field.set_leaf(self._leaf(spec), schema_types.lengths(spec))
            made.ranks[-1].append(field)
            made.fields[name] = field
        made.reach = [0] * (len(required) + 1)
        made.reach[-1] = len(required)
        for rank in range(len(required) - 1, -1, -1):
            made.reach[rank] = rank if required[rank] else made.reach[rank + 1]

    def _leaf(self, spec: str | Facets) -> LeafCheck | None:
        if not isinstance(spec, str):
            return schema_types.check(spec, self._simple, None)
        if spec not in self._checks:
            if spec in self._simple:
                self._checks[spec] = schema_types.check(self._simple[spec], self._simple, spec)
            else:
                self._checks[spec] = schema_types.BASES[spec]
        return self._checks[spec]

    def check(self, method: str, body: dict[str, Any]) -> None:
        """Validate and normalize one request. Raises SchemaError."""
        _check(self.requests[method], method, body)


def load() -> Schema:
    """Load the bundled schema."""
    return Schema(
        msgspec.json.decode(
            files("authorizenet_simulator").joinpath("data/schema.json").read_bytes()
        )
    )


def _check(kind: Complex, name: str, body: dict[str, Any]) -> None:
    fields, reach, start = kind.fields, kind.reach, 0
    last: Field | None = None
    seen = 0
    for key, value in body.items():
        field = fields.get(key)
        if field is None or not start <= field.rank <= reach[start]:
            if key[:1] == "@":  # an attribute, such as a namespace
                continue
            if key == TEXT:
                raise _no_text(name, kind.expected(start, last, seen))
            raise _misplaced(kind, name, key, start, last, seen)
        start = field.rank + 1
        last, seen = field, 1
        if field.max != 1:
            seen = _check_many(kind, name, field, key, body)
        elif field.child is not None:
            body[key] = _check_child(field, key, value, name, kind)
        elif type(value) is not str:
            body[key] = _check_leaf(field, key, value, name, kind)
        elif (
            not field.min_length <= schema_types.units(value) <= field.max_length
            and field.check is not None
        ):
            wrong = field.check(value)
            if wrong is not None:
                raise _bad_value(key, value, wrong)
    if reach[start] < len(kind.ranks):
        raise SchemaError(
            f"The element '{name}'{_IN_NAMESPACE} has incomplete content."
            f"{kind.expected(start, last, seen)}"
        )


def _check_many(kind: Complex, name: str, field: Field, key: str, body: dict[str, Any]) -> int:
    """Check a repeatable element, turn it into a list and return how often it occurred."""
    value = body[key]
    items = value if type(value) is list else [value]
    check = _check_leaf if field.child is None else _check_child
    body[key] = [check(field, key, item, name, kind) for item in items[: field.max]]
    if field.max is not None and len(items) > field.max:
        raise _misplaced(kind, name, key, field.rank + 1, field, field.max)
    return len(items)


def _check_child(field: Field, key: str, value: Any, name: str, kind: Complex) -> dict[str, Any]:
    assert field.child is not None
    if type(value) is not dict:
        if type(value) is list:
            return _single(_check_child, field, key, value, name, kind)  # type: ignore[no-any-return]
        if value is not None and not (type(value) is str and not value.strip()):
            raise _no_text(key, field.child.expected(0, None, 0))
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
        return _single(_check_leaf, field, key, value, name, kind)
    elif field.check is schema_types.anything:
        return value
    else:
        child = next((name for name in value if name != TEXT), "")
        raise SchemaError(
            f"The element '{key}'{_IN_NAMESPACE} cannot contain child element '{child}'"
            f"{_space_of(child)} because the parent element's content model is text only."
        )
    if field.check is not None and (wrong := field.check(text)) is not None:
        raise _bad_value(key, text, wrong)
    return text


def _single(
    check: Callable[..., Any], field: Field, key: str, items: list[Any], name: str, kind: Complex
) -> Any:
    """Check the first element of a list where one is allowed, then reject a second."""
    first: Any = items
    several = False
    while type(first) is list:  # not recursive: the client decides how deep lists nest
        several = several or len(first) > 1
        first = first[0] if first else None
    checked = check(field, key, first, name, kind)
    if several:
        raise _misplaced(kind, name, key, field.rank + 1, field, 1)
    return checked


def _misplaced(
    kind: Complex, name: str, key: str, start: int, last: Field | None, seen: int
) -> SchemaError:
    return SchemaError(
        f"The element '{name}'{_IN_NAMESPACE} has invalid child element '{key}'{_space_of(key)}."
        f"{kind.expected(start, last, seen)}"
    )


def _no_text(name: str, expected: str) -> SchemaError:
    return SchemaError(f"The element '{name}'{_IN_NAMESPACE} cannot contain text.{expected}")


def _space_of(name: str) -> str:
    if not isinstance(name, Stray):
        return _IN_NAMESPACE
    return f" in namespace '{name.namespace}'" if name.namespace else ""


def _bad_value(key: str, value: str, wrong: str) -> SchemaError:
    # Authorize.Net masks a secret together with its quotes.
    shown = "X" * (len(value) + 2) if key in SECRET else f"&#39;{value}&#39;"
    if key in SECRET:
        wrong = wrong.replace(f"&#39;{value}&#39;", shown)
    return SchemaError(
        f"The '{NAMESPACE}:{key}' element is invalid - The value {shown} is invalid according to"
        f" its datatype {wrong}"
    )
