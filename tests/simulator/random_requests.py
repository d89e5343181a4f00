"""Request bodies generated from the schema: the smallest one, and any that it allows."""

from collections.abc import Callable
from functools import cache
from typing import Any

from hypothesis import strategies as st

from simulator.schema_source import children, choices, facets, units

ANY_TEXT = st.one_of(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Cn")),
    st.sampled_from("\t\n\r&<>\"']"),
)
DIGITS = "0123456789"
PATTERNS: dict[str | None, st.SearchStrategy[str]] = {
    "[0-9]+": st.sampled_from(DIGITS),
    "[0-9a-zA-Z]+": st.sampled_from(DIGITS + "aZ"),
    "[0-9a-zA-Z\\s]+": st.sampled_from(DIGITS + "aZ "),
}
OTHER_LEAVES = {
    "boolean": st.sampled_from(["true", "false", "1", "0"]),
    "date": st.sampled_from(["2026-01-31", "2040-12-01"]),
    "dateTime": st.sampled_from(["2026-01-31T08:00:00Z", "2026-01-31T08:00:00.25"]),
    "decimal": st.integers(1, 99_999).map(lambda n: f"{n // 100}.{n % 100:02d}"),
    "any": st.text(ANY_TEXT, max_size=5),
    **dict.fromkeys(("int", "long", "short"), st.integers(1, 1000).map(str)),
}


def leaves(spec: Any) -> st.SearchStrategy[str]:
    rules = facets(spec)
    if "enum" in rules:
        return st.sampled_from(rules["enum"])
    if rules["base"] != "string":
        return OTHER_LEAVES[rules["base"]]
    least = rules.get("length", rules.get("minLength", 1 if "pattern" in rules else 0))
    most = rules.get("length", min(rules.get("maxLength", least + 8), least + 8))
    return texts(rules.get("pattern"), least, most)


@cache
def texts(pattern: str | None, least: int, most: int) -> st.SearchStrategy[str]:
    """Generate texts of so many UTF-16 code units. A new strategy of texts costs milliseconds."""
    text = st.text(PATTERNS.get(pattern, ANY_TEXT), min_size=least, max_size=most)
    return text.map(lambda each: each if units(each) <= most else in_one_place(each))


def in_one_place(text: str) -> str:
    """Replace characters that take two UTF-16 code units by one that takes one."""
    return "".join(c if c <= "\uffff" else "\u00e9" for c in text)


@st.composite
def trees(draw: Callable[..., Any], definition: Any) -> dict[str, Any]:
    """Generate any content that the type allows, in its order."""
    made: dict[str, Any] = {}
    for group in choices(definition):
        name, least, most, spec, *_ = draw(st.sampled_from(group)) if group[1:] else group[0]
        if least == 0 and draw(st.booleans()):
            continue
        known = children(spec)
        inner = leaves(spec) if known is None else trees([None, known])
        made[name] = draw(inner if most == 1 else st.lists(inner, min_size=1, max_size=3))
    return made


def least_of(definition: Any) -> dict[str, Any]:
    """Return the smallest body that the schema allows."""
    made: dict[str, Any] = {}
    for group in choices(definition):
        name, least, _, spec, *_ = group[0]
        if least == 0:
            continue
        known = children(spec)
        made[name] = least_leaf(facets(spec)) if known is None else least_of([None, known])
    return made


def least_leaf(rules: dict[str, Any]) -> str:
    if "enum" in rules:
        return str(rules["enum"][0])
    if rules["base"] == "string":
        return "1" * max(rules.get("length", 0), rules.get("minLength", 1))
    return {"boolean": "true", "date": "2040-01-01", "dateTime": "2040-01-01T00:00:00Z"}.get(
        rules["base"], "1"
    )
