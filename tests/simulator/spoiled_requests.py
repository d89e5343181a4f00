"""Requests generated from the schema: a valid one for every message, and every single mistake.

It reads `data/schema.json` independently, so that it detects mistakes of the simulator's reader.
"""

from collections.abc import Iterator
from copy import deepcopy
from itertools import groupby
from typing import Any, NamedTuple

import msgspec

from simulator.schema_source import NS, SCHEMA, facets

Tree = dict[str, Any]
_DEEPEST = 12
"""Maximum depth of recursive types; every other type ends before."""
_MOST_MEMBERS = 7
"""Maximum members of a choice (the payment methods)."""


class Element(NamedTuple):
    name: str
    least: int
    most: int
    children: "list[Element] | None"
    facets: Tree
    in_choice: bool
    type_name: str


def elements(method: str) -> list[Element]:
    return _children(*SCHEMA["elements"][method], depth=0)


def _children(extends: str | None, fields: list[Any], depth: int) -> list[Element]:
    inherited = [] if extends is None else _children(*SCHEMA["types"][extends], depth=depth)
    return inherited + [_element(*field, depth=depth + 1) for field in fields]


def _element(name: str, least: int, most: int, spec: Any, *choice: int, depth: int) -> Element:
    children, leaf = None, {}
    if isinstance(spec, list):
        children = _children(None, spec, depth)
    elif isinstance(spec, str) and spec in SCHEMA["types"]:
        children = _children(*SCHEMA["types"][spec], depth=depth) if depth < _DEEPEST else []
    else:
        leaf = facets(spec)
    shown = spec if isinstance(spec, str) else name
    return Element(name, least, most, children, leaf, bool(choice), shown)


_GOOD = {
    "decimal": "1",
    "int": "1",
    "long": "1",
    "short": "1",
    "boolean": "true",
    "dateTime": "2026-01-02T03:04:05Z",
    "date": "2026-01-02",
}
_BAD = {
    "decimal": ("1,5", "Decimal"),
    "int": ("1.5", "Int32"),
    "long": ("x", "Int64"),
    "short": ("70000", "Int16"),
    "boolean": ("yes", "Boolean"),
    "dateTime": ("yesterday", "DateTime"),
    "date": ("2026-13-01", "Date"),
}


def _value(leaf: Tree) -> str:
    if "enum" in leaf:
        return str(leaf["enum"][0])
    if "minInclusive" in leaf:
        return str(leaf["minInclusive"])
    if (base := leaf["base"]) in _GOOD:
        return _GOOD[base]
    return "1" * max(1, leaf.get("length", leaf.get("minLength", 1)))


def whole(children: list[Element], *, optional: bool = True, pick: int = 0) -> Tree:
    """Build valid content: every element, or only the required ones. Of a choice it has the
    member at `pick`, or the last if there are fewer."""
    made: Tree = {}
    for run in _runs(children):
        element = run[min(pick, len(run) - 1)]
        if optional or element.least or element.in_choice:
            made[element.name] = (
                _value(element.facets)
                if element.children is None
                else whole(element.children, optional=optional, pick=pick)
            )
    return made


def _runs(children: list[Element]) -> Iterator[list[Element]]:
    """Yield elements one by one, the members of a choice together."""
    for in_choice, group in groupby(children, lambda element: element.in_choice):
        if in_choice:
            yield list(group)
        else:
            yield from ([element] for element in group)


class Spoiled(NamedTuple):
    """A body with one mistake, and the texts that the error must contain."""

    what: str
    body: Tree
    says: tuple[str, ...]


def spoiled(method: str) -> Iterator[Spoiled]:
    """Yield every single mistake in every element and every member of a choice. A type that
    occurs several times in a message is only spoiled once."""
    root = elements(method)
    seen: set[str] = set()
    for pick in range(_MOST_MEMBERS):
        if pick == 0 or whole(root, pick=pick) != whole(root, pick=pick - 1):
            body = whole(root, pick=pick)
            yield from _spoil(method, root, body, body, seen)


def _spoil(
    name: str, children: list[Element], inner: Tree, body: Tree, seen: set[str]
) -> Iterator[Spoiled]:
    """`inner`, the element's content in `body`, is changed, copied and restored."""

    def copy(changed: Tree, what: str, *says: str) -> Spoiled:
        kept = dict(inner)
        inner.clear()
        inner.update(changed)
        made = deepcopy(body)
        inner.clear()
        inner.update(kept)
        return Spoiled(f"{name}: {what}", made, says)

    element_is = f"The element '{name}' in namespace '{NS}'"
    yield copy(
        {"bogus": "1", **inner}, "unknown", f"{element_is} has invalid child element 'bogus'"
    )
    names = list(inner)
    if len(names) > 1:
        turned = {key: inner[key] for key in (*names[1:], names[0])}
        yield copy(turned, "order", f"{element_is} has invalid child element '")
    for element in children:
        if element.name not in inner:
            continue
        if element.least and not (element.in_choice and _choice_is_free(children)):
            rest = {key: value for key, value in inner.items() if key != element.name}
            yield copy(rest, f"no {element.name}", element_is, element.name)
        if element.most > 0:
            too_many = [deepcopy(inner[element.name]) for _ in range(element.most + 1)]
            yield copy(
                {**inner, element.name: too_many},
                f"many {element.name}",
                f"has invalid child element '{element.name}'",
            )
        if element.children is not None:
            yield copy(
                {**inner, element.name: "text"},
                f"text in {element.name}",
                f"The element '{element.name}' in namespace '{NS}' cannot contain text.",
            )
            if element.type_name not in seen:
                seen.add(element.type_name)
                child = inner[element.name]
                yield from _spoil(element.name, element.children, child, body, seen)
            continue
        if element.facets["base"] != "any":
            yield copy(
                {**inner, element.name: {"inner": "1"}},
                f"element in {element.name}",
                f"The element '{element.name}'",
                "cannot contain child element 'inner'",
            )
        for value, says in _bad_values(element.facets):
            yield copy(
                {**inner, element.name: value},
                f"{element.name}={value[:20]!r}",
                f"The '{NS}:{element.name}' element is invalid - The value ",
                says,
            )


def _choice_is_free(children: list[Element]) -> bool:
    """Return whether another member, or none, may replace it."""
    return any(each.in_choice and not each.least for each in children)


def _bad_values(leaf: Tree) -> Iterator[tuple[str, str]]:
    base = leaf["base"]
    if base in _BAD:
        value, clr = _BAD[base]
        yield value, f" is not a valid {clr} value."
    if "enum" in leaf:
        yield "Bogus", "Enumeration constraint failed."
        return
    if "pattern" in leaf:
        yield "!", "Pattern constraint failed."
    if "minInclusive" in leaf:
        low = leaf["minInclusive"]
        yield f"-{float(low) + 1:.0f}", "MinInclusive constraint failed."
    if "maxInclusive" in leaf:
        yield f"{float(leaf['maxInclusive']) + 1:.0f}", "MaxInclusive constraint failed."
    if "fractionDigits" in leaf and "totalDigits" not in leaf:
        text = "1." + "1" * (leaf["fractionDigits"] + 1)
        yield text, "FractionDigits constraint failed."
    if "totalDigits" in leaf and base == "decimal":
        yield "1" * (leaf["totalDigits"] + 1), "TotalDigits constraint failed."
    if "length" in leaf:
        text = "1" * (leaf["length"] + 1)
        yield text, "actual length is not equal to the specified length."
    if base in ("string",) and "maxLength" in leaf:
        yield "1" * (leaf["maxLength"] + 1), "actual length is greater than the MaxLength value."
    if base == "string" and leaf.get("minLength", 0) > 0 and "pattern" not in leaf:
        text = "1" * (leaf["minLength"] - 1)
        yield text, "actual length is less than the MinLength value."


_HOSTILE = (
    "\u00b2",
    "\u00b2" * 13,
    "\uff19\u0663",
    "9" * 5000,
    "\x00",
    "-",
    " ",
    "%s{0}",
    "\N{PILE OF POO}",
)
"""Non-ASCII digits, a very long number and other texts that look harmless."""


def hostile(body: Tree, part: Tree | None = None) -> Iterator[bytes]:
    """Yield the request with each text of it (or of `part`) replaced by each hostile text; the
    credentials are kept."""
    for inner, key in list(_leaves(body if part is None else part)):
        kept = inner[key]
        for text in _HOSTILE:
            inner[key] = text
            yield msgspec.json.encode(body)
        inner[key] = kept


def _leaves(inner: Any) -> Iterator[tuple[Any, Any]]:
    for key, value in inner.items() if isinstance(inner, dict) else enumerate(inner):
        if key == "merchantAuthentication":
            continue
        if isinstance(value, dict | list):
            yield from _leaves(value)
        else:
            yield inner, key
