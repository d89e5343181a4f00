"""Explain what is wrong with a body, in the API's words: every bad field, not only the first.

`http.decode` calls this once msgspec has refused a body, so a valid body pays nothing for it. It
walks the JSON along its types. It quotes no value, which may be a card number.
"""

from collections.abc import Mapping
from datetime import datetime
from difflib import get_close_matches
from functools import lru_cache
from re import search
from typing import Any, Final

import msgspec
from msgspec import inspect

from easypay.card_numbers import quoted, scrub
from easypay.errors import MAX_FIELDS, FieldError, MalformedBody, ValidationFailed, field_name

_LONGEST_NAME: Final = 64
_LONGEST_TYPO: Final = 32
_MAX_REASON: Final = 200
_WHEN: Final = "a time with its offset from UTC, such as 2027-01-31T00:00:00Z"
_BLANK: Final[Mapping[type[inspect.Type], Any]] = {
    inspect.IntType: 0,
    inspect.StrType: "",
    inspect.LiteralType: "",
    inspect.BoolType: False,
}
"""Replaces a bad value of a required field in the readable body. Other types: None."""


def refusal(body: bytes, kind: Any) -> ValidationFailed | MalformedBody:
    """Return why the body is not of this type, after msgspec has refused it."""
    try:
        decoded = msgspec.json.decode(body)
    except RecursionError:
        return MalformedBody("The body is nested too deeply.")
    except ValueError as error:  # also a number with too many digits
        return not_json(error)
    walk = _Walk()
    readable = walk.value(_type_info(kind), decoded, "#")
    if not walk.errors:
        walk.add("#", "invalid", "{} is not valid for this call")
    return ValidationFailed.of(walk.errors, readable=readable)


def not_json(error: Exception) -> MalformedBody:
    """Return why a body is not JSON at all."""
    if isinstance(error, UnicodeDecodeError):  # its text describes Python's buffers
        return MalformedBody("The body is not JSON: it is not valid UTF-8.")
    reason = str(error).partition(" - at `")[0]  # without the position, in the parser's terms
    return MalformedBody(f"The body is not JSON: {quoted(reason, _MAX_REASON)}.")


@lru_cache(64)
def _type_info(kind: Any) -> inspect.Type:
    return inspect.type_info(kind)


class _Walk:
    """Collects a body's errors, at most MAX_FIELDS. Each method returns the readable value."""

    def __init__(self) -> None:
        self.errors: list[FieldError] = []

    def add(self, pointer: str, code: str, sentence: str) -> None:
        """Add an error; `{}` in the sentence stands for the field's name."""
        if not self.full:
            text = sentence.format(field_name(pointer))
            self.errors.append(FieldError(pointer, code, text if text[-1] == "?" else f"{text}."))

    @property
    def full(self) -> bool:
        """Whether MAX_FIELDS is reached, so that nothing more needs checking."""
        return len(self.errors) >= MAX_FIELDS

    def value(self, kind: inspect.Type, value: Any, pointer: str, words: str = "") -> Any:
        """Check a value of any type. `words` say what it must be, if the type's Meta has them."""
        if isinstance(kind, inspect.Metadata):
            return self.value(kind.type, value, pointer, (kind.extra or {}).get("must_be", words))
        if isinstance(kind, inspect.UnionType):
            return self._one_of(kind, value, pointer, words)
        if isinstance(kind, inspect.StructType) and isinstance(value, dict):
            return self._struct(kind, value, pointer)
        if isinstance(kind, inspect.DictType) and isinstance(value, dict):
            return self._mapping(kind, value, pointer)
        if isinstance(kind, inspect.ListType) and isinstance(value, list):
            return self._items(kind, value, pointer)
        wrong = _mismatch(kind, value, words)
        if wrong is None:
            return value
        self.add(pointer, *wrong)
        return _BLANK.get(type(kind))

    def _one_of(self, union: inspect.UnionType, value: Any, pointer: str, words: str) -> Any:
        """Check a union: null or one other type, objects distinguished by a tag, or a text or an
        object."""
        if value is None and any(isinstance(kind, inspect.NoneType) for kind in union.types):
            return None
        kinds = [kind for kind in union.types if not isinstance(kind, inspect.NoneType)]
        if len(kinds) == 1:
            return self.value(kinds[0], value, pointer, words)
        tagged = {kind.tag: kind for kind in kinds if isinstance(kind, inspect.StructType)}
        field = next((kind.tag_field for kind in tagged.values()), None)
        if field is None and len(tagged) == 1:
            kind = next(k for k in kinds if isinstance(k, inspect.StructType) is _is_object(value))
            return self.value(kind, value, pointer, words)
        if field is None or not isinstance(value, dict):
            self.add(pointer, "invalid", "{} must be an object")
        elif field not in value:
            self.add(f"{pointer}/{field}", "missing", f"{{}} is missing: send {_words(tagged)}")
        elif not isinstance(value[field], str) or value[field] not in tagged:
            self.add(f"{pointer}/{field}", "invalid", f"{{}} must be {_words(tagged)}")
        else:
            return self.value(tagged[value[field]], value, pointer)
        return None

    def _struct(self, kind: inspect.StructType, given: dict[str, Any], pointer: str) -> Any:
        fields: dict[str, Any] = {}
        for field in kind.fields:
            at, before = f"{pointer}/{field.encode_name}", len(self.errors)
            if field.encode_name in given:
                read = self.value(field.type, given[field.encode_name], at)
                if len(self.errors) == before or field.required or isinstance(read, msgspec.Struct):
                    fields[field.name] = read
            elif field.required:
                self.add(at, "missing", "{} is missing")
                fields[field.name] = _blank(field.type)
        known = [field.encode_name for field in kind.fields]
        if kind.tag_field is not None:
            known.append(kind.tag_field)
            self._tag(kind, given, pointer)
        if kind.forbid_unknown_fields:
            for name in given:
                if self.full:
                    break
                if name not in known:
                    self._unknown(name, known, pointer)
        return kind.cls(**fields)

    def _tag(self, kind: inspect.StructType, given: dict[str, Any], pointer: str) -> None:
        if given.get(kind.tag_field or "", kind.tag) != kind.tag:
            self.add(f"{pointer}/{kind.tag_field}", "invalid", f'{{}} must be "{kind.tag}"')

    def _unknown(self, name: str, known: list[str], pointer: str) -> None:
        near = get_close_matches(name, known, 1) if len(name) <= _LONGEST_TYPO else []
        hint = f"; did you mean {near[0]}?" if near else ""
        self.add(_below(pointer, name), "unknown_field", "{} is not a field of this call" + hint)

    def _mapping(self, kind: inspect.DictType, given: dict[str, Any], pointer: str) -> Any:
        if kind.max_length is not None and len(given) > kind.max_length:
            self.add(pointer, "too_many", f"{{}} may have at most {kind.max_length} keys")
            return None
        before = len(self.errors)
        for name, value in given.items():
            if self.full:
                break
            at = _below(pointer, name)
            wrong = _mismatch(kind.key_type, name, "")
            if wrong is not None:
                self.add(at, wrong[0], wrong[1].replace("{}", "the key {}"))
            self.value(kind.value_type, value, at)
        return given if len(self.errors) == before else None

    def _items(self, kind: inspect.ListType, given: list[Any], pointer: str) -> Any:
        if len(given) < (kind.min_length or 0):
            self.add(pointer, "invalid", f"{{}} must not have fewer than {kind.min_length} items")
        if kind.max_length is not None and len(given) > kind.max_length:
            self.add(pointer, "too_many", f"{{}} may have at most {kind.max_length} items")
            return None
        before = len(self.errors)
        for number, value in enumerate(given):
            if self.full:
                break
            self.value(kind.item_type, value, f"{pointer}/{number}")
        return given if len(self.errors) == before else None


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _mismatch(kind: inspect.Type, value: Any, words: str) -> tuple[str, str] | None:
    """Return the error code and sentence if a plain value is not of this type, else None."""
    match kind:
        case inspect.IntType():
            if type(value) is not int:
                return "invalid", f"{{}} must be {words or _integer(kind)}"
            if not (kind.ge is None or value >= kind.ge) or not (
                kind.le is None or value <= kind.le
            ):
                return "invalid", f"{{}} must be {_integer(kind)}"
        case inspect.StrType():
            return _text_mismatch(kind, value, words)
        case inspect.BoolType() if not isinstance(value, bool):
            return "invalid", "{} must be true or false"
        case inspect.LiteralType() if not isinstance(value, str) or value not in kind.values:
            return "invalid", f"{{}} must be {_words(kind.values)}"
        case inspect.DateTimeType():
            try:
                msgspec.convert(value, datetime)
            except (msgspec.ValidationError, ValueError, OverflowError):
                return "invalid", f"{{}} must be {_WHEN}"
        case inspect.StructType():
            return "invalid", "{} must be an object"
        case inspect.DictType():
            return "invalid", "{} must be an object with text values"
        case inspect.ListType():
            return "invalid", "{} must be a list"
        case inspect.NoneType() if value is not None:
            return "invalid", "{} must be null"
    return None


def _text_mismatch(kind: inspect.StrType, value: Any, words: str) -> tuple[str, str] | None:
    shortest, longest = kind.min_length or 0, kind.max_length
    size = f"{shortest} to {longest} characters" if shortest else f"at most {longest} characters"
    if not isinstance(value, str):
        return "invalid", f"{{}} must be {words or (f'text of {size}' if longest else 'text')}"
    if longest is not None and len(value) > longest:
        return "too_long", f"{{}} must have {size}, and has {len(value)}"
    if len(value) < shortest:
        return "invalid", "{} must not be empty" if not value else f"{{}} must have {size}"
    if kind.pattern is not None and not search(kind.pattern, value):
        return "invalid", f"{{}} must be {words or 'text without control characters'}"
    return None


def _integer(kind: inspect.IntType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f"an integer from {kind.ge} to {kind.le}"
    return "an integer" if kind.ge is None else f"an integer of at least {kind.ge}"


def _words(values: Any) -> str:
    """`"a", "b" or "c"`"""
    quoted = [f'"{value}"' for value in sorted(values)]
    return " or ".join(filter(None, (", ".join(quoted[:-1]), quoted[-1])))


def _blank(kind: inspect.Type) -> Any:
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    return _BLANK.get(type(kind))


def _below(pointer: str, name: str) -> str:
    """Return the pointer of a member that the client named, shortened, without a card number."""
    name = scrub(name)[:_LONGEST_NAME]
    return f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
