"""The JSON Schemas (2020-12) of every body and reply: from the types, with descriptions.

The types give shape and limits. `schema_words` adds formats, closed sets of words that views hold
as text, and descriptions.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from easypay.api.schema_words import IDS, REF, STATUSES, WORDS
from easypay.money import EXPONENT
from easypay.problems import Problem

Schema = dict[str, Any]

_NAMES: Final[Mapping[str, str]] = {
    "easypay.api.reading.KeyView": "IdempotencyKey",
    "easypay.api.admin.KeyView": "ApiKey",
    "NewKeyView": "NewApiKey",
    "StackView": "ProfileStack",
    "CardBody": "Card",
    "easypay.customers.views.StoredMethodView": "StoredMethod",
    "AcceptTokenBody": "AcceptToken",
    "BankAccountBody": "BankAccount",
    "StoredCredentialBody": "StoredCredential",
    "StoredMethodBody": "StoredMethodToCharge",
    "Status": "PaymentStatus",
}


def components(types: Iterable[type]) -> dict[str, Schema]:
    """The schemas of these types, of what they hold, and of problems, by public name."""
    wanted = list(dict.fromkeys([*types, Problem]))
    _, found = msgspec.json.schema_components(wanted, ref_template=REF + "{name}")
    names = {name: _public(name) for name in found}
    currency = {
        "title": "Currency",
        "description": "ISO 4217, upper case.",
        "type": "string",
        "enum": sorted(EXPONENT),
    }
    return {"Currency": currency} | {
        names[name]: _refined(names[name], _renamed(schema, names))
        for name, schema in sorted(found.items(), key=lambda item: names[item[0]])
    }


def name_of(kind: type) -> str:
    """The public name of a type's schema."""
    full = f"{kind.__module__}.{kind.__name__}"
    return _NAMES.get(full) or _public(kind.__name__)


def page_of(name: str, page: Schema, *, prefix: str = "") -> Schema:
    """The schema of a page whose `data` holds `name`, from the one of any page."""
    data = {**page["properties"]["data"], "items": {"$ref": REF + name}}
    return {
        **page,
        "title": f"{prefix}{name}Page",
        "properties": {**page["properties"], "data": data},
    }


def _public(name: str) -> str:
    return _NAMES.get(name) or name.rpartition(".")[2].removesuffix("View")


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """The schema with its references by public name, and its patterns as JSON Schema has them:
    there `$` is the end of the text, and a text has no lone surrogates."""
    if isinstance(value, dict):
        return {key: _renamed(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    if not isinstance(value, str):
        return value
    if value.startswith(REF):
        return REF + names[value.removeprefix(REF)]
    return value.replace(r"(?!\n)$", "$").replace(r"\ud800-\udfff", "")


def _refined(name: str, schema: Schema) -> Schema:
    schema = {**schema, "title": name}
    if name == "PaymentStatus":
        schema = {"title": name, "type": "string", "description": STATUSES, "enum": schema["enum"]}
    required = schema.get("required", [])
    properties = {  # those that must be sent come first
        field: _field(name, field, shape)
        for field, shape in sorted(
            schema.get("properties", {}).items(), key=lambda item: item[0] not in required
        )
    }
    if "properties" in schema:
        schema["properties"] = properties
    if schema.get("required") == []:
        del schema["required"]
    if name == "SetAccount":
        names = (["login_id", "transaction_key"], ["credentials"])
        schema["anyOf"] = [{"required": each} for each in names]
    return schema


def _words(name: str) -> Mapping[str, Any]:
    words = WORDS.get(name, {})
    return {"description": words} if isinstance(words, str) else words


def _field(owner: str, field: str, shape: Schema) -> Schema:
    """One field: nullability as a type, the words on it, and its format."""
    shape = _nullable(_typed(shape))
    if "discriminator" in shape:
        shape["oneOf"] = shape.pop("anyOf")
    its_own = _words(f"{owner}.{field}")
    words = {**_words(field), **its_own}
    if "type" in words and "anyOf" in shape:
        del shape["anyOf"]
    own = shape.get("description")
    shape = {**shape, **{key: value for key, value in words.items() if value is not None}}
    if own and "description" not in its_own:
        shape["description"] = own
    if not _is(shape, "string"):
        for key in ("enum", "pattern"):
            if key in words:
                shape.pop(key)
    if field == "amount" or field.endswith("_amount"):
        shape["format"] = "int64"
    if (owner, field) == ("CreatePayment", "currency"):
        shape = {"$ref": REF + "Currency", "description": shape["description"]}
    kind = IDS.get(owner if field == "id" else field)
    if kind is not None:
        shape["pattern"] = f"^{kind}_[0-9a-f]{{32}}$"
    return shape


def _nullable(shape: Schema) -> Schema:
    """`anyOf: [X, null]` as X with `type: [x, "null"]`, where X has a type of its own."""
    choices = shape.get("anyOf", [])
    one = _typed(choices[0]) if choices else {}
    if len(choices) != 2 or choices[1] != {"type": "null"} or "type" not in one:
        return dict(shape)
    rest = {key: value for key, value in shape.items() if key != "anyOf"}
    if "enum" in one:
        one = {**one, "enum": [*one["enum"], None]}
    return {**one, **rest, "type": [one["type"], "null"]}


def _typed(shape: Schema) -> Schema:
    """An enum of words says that it is text, and one word alone is a constant."""
    if len(shape.get("enum", ())) == 1:
        rest = {key: value for key, value in shape.items() if key != "enum"}
        return {"type": "string", "const": shape["enum"][0], **rest}
    return {"type": "string", **shape} if "enum" in shape else shape


def _is(shape: Schema, kind: str) -> bool:
    said = shape.get("type", [])
    return kind == said or (isinstance(said, list) and kind in said)
