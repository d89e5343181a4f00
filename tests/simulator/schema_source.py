"""The schema of Authorize.Net, read independently of the simulator's reader."""

from importlib.resources import files
from typing import Any

import msgspec

NS = "AnetApi/xml/v1/schema/AnetApiSchema.xsd"
SCHEMA: dict[str, Any] = msgspec.json.decode(
    files("authorizenet_simulator").joinpath("data/schema.json").read_bytes()
)
REQUESTS = sorted(
    name
    for name, definition in SCHEMA["elements"].items()
    if name.endswith("Request") and isinstance(definition, list)
)
_ANSWERED_AS = {
    "createCustomerProfileFromTransactionRequest": "createCustomerProfileResponse",
    "getTransactionListForCustomerRequest": "getTransactionListResponse",
}


def response_of(method: str) -> str:
    """Return the name of the element that answers a request."""
    return _ANSWERED_AS.get(method, method.removesuffix("Request") + "Response")


def fields(definition: Any) -> list[Any]:
    """Return a type's fields, those it inherits first."""
    extends, own = SCHEMA["types"][definition] if isinstance(definition, str) else definition
    return (fields(extends) if extends else []) + own


def children(spec: Any) -> list[Any] | None:
    """Return the fields of a field's type; None for a leaf."""
    if isinstance(spec, list):
        return spec
    return fields(spec) if isinstance(spec, str) and spec in SCHEMA["types"] else None


def facets(spec: Any) -> dict[str, Any]:
    """Merge a leaf's facets down to the base type; the nearest wins."""
    own = {"base": spec} if isinstance(spec, str) else spec
    if own["base"] not in SCHEMA["simple"]:
        return dict(own)
    inherited = facets(SCHEMA["simple"][own["base"]])
    return {**inherited, **own, "base": inherited["base"]}


def choices(definition: Any) -> list[list[Any]]:
    """Return a type's fields in groups; a group with several fields is a choice."""
    groups: list[list[Any]] = []
    in_choice = False
    for field in fields(definition):
        choice = len(field) > 4
        if not (choice and in_choice):
            groups.append([])
        in_choice = choice
        groups[-1].append(field)
    return groups


def units(text: str) -> int:
    """Return the length in UTF-16 code units, as .NET counts."""
    return len(text.encode("utf-16-le")) // 2
