"""Parses an XML document into the tree that `schema` validates, the same as from JSON.

An element is its text or, if it has children, a dict of them in order; repeated children are a
list. Document types are rejected, so there are no custom entities and nothing is fetched; depth
and number of elements are limited.
"""

from typing import Any, Final, NamedTuple, NoReturn
from xml.parsers import expat

from authorizenet_simulator.wire.codes import MESSAGES
from authorizenet_simulator.wire.schema import TEXT, Stray
from authorizenet_simulator.wire.schema_types import NAMESPACE

MAX_DEPTH: Final = 64
MAX_ELEMENTS: Final = 20_000
_API_PREFIX: Final = NAMESPACE + " "
_NIL: Final = "http://www.w3.org/2001/XMLSchema-instance nil"
_BLANK: Final = " \t\r\n"
_NO_DTD: Final = (
    "For security reasons DTD is prohibited in this XML document. To enable DTD processing set the"
    " DtdProcessing property on XmlReaderSettings to Parse and pass the settings into"
    " XmlReader.Create method."
)
_ENDED: Final = frozenset(
    expat.errors.codes[message]
    for message in (expat.errors.XML_ERROR_NO_ELEMENTS, expat.errors.XML_ERROR_UNCLOSED_TOKEN)
)
_WRONG_ENCODING: Final = expat.errors.codes[expat.errors.XML_ERROR_INCORRECT_ENCODING]


class Malformed(Exception):
    """The document cannot be parsed; the text is that of .NET's reader if it is known."""


class Document(NamedTuple):
    root: str
    namespace: str
    tree: Any
    """The content of the root element: a dict, text, or None."""


def read(data: bytes) -> Document:
    """Parse `data` in the encoding that it declares. Raises Malformed."""
    builder = _Builder()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.text
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise Malformed(_error_text(error, builder, data, parser.ErrorByteIndex)) from None
    except (LookupError, ValueError):  # an encoding that Python does not support
        raise Malformed(MESSAGES["E00003"]) from None
    root = builder.root
    return Document(str(root.key), root.namespace, root.value())


def _refuse_doctype(*_: object) -> NoReturn:
    raise Malformed(_NO_DTD)


class _Element:
    __slots__ = ("children", "key", "last", "namespace", "nil", "text")

    def __init__(self, key: str, namespace: str, nil: bool) -> None:
        self.key = key
        self.namespace = namespace
        self.nil = nil
        self.text = ""
        self.children: dict[str, Any] | None = None
        self.last = ""
        """The name of the latest child."""

    def value(self) -> Any:
        if self.children is not None:
            return self.children
        return None if self.nil and not self.text else self.text

    def add(self, key: str, value: Any) -> None:
        assert self.children is not None
        if key not in self.children:
            self.children[key] = value
        elif key != self.last:  # repeated, with other elements in between
            self.children[Stray(key, NAMESPACE)] = value
        elif type(self.children[key]) is list:
            self.children[key].append(value)
        else:
            self.children[key] = [self.children[key], value]
        self.last = key


class _Builder:
    """Builds the tree from the parser's callbacks."""

    __slots__ = ("count", "open", "root")

    def __init__(self) -> None:
        self.root = _Element("", "", nil=False)
        self.open: list[_Element] = []
        self.count = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.count += 1
        if len(self.open) >= MAX_DEPTH or self.count > MAX_ELEMENTS:
            raise Malformed(MESSAGES["E00003"])
        nil = bool(attributes) and attributes.get(_NIL, "") in ("true", "1")
        if name.startswith(_API_PREFIX):
            made = _Element(name[len(_API_PREFIX) :], NAMESPACE, nil)
        else:
            namespace, _, local = name.rpartition(" ")
            made = _Element(Stray(local, namespace), namespace, nil)
        if not self.open:
            self.root = made
        else:
            parent = self.open[-1]
            if parent.children is None:
                parent.children = {TEXT: parent.text} if parent.text.strip(_BLANK) else {}
        self.open.append(made)

    def end(self, name: str) -> None:
        closed = self.open.pop()
        if self.open:
            self.open[-1].add(closed.key, closed.value())

    def text(self, data: str) -> None:
        element = self.open[-1]
        if element.children is None:
            element.text += data
        elif data.strip(_BLANK):
            element.children.setdefault(TEXT, data)


def _error_text(error: expat.ExpatError, builder: _Builder, data: bytes, at: int) -> str:
    where = f" Line {error.lineno}, position {error.offset + 1}."
    if error.code in _ENDED:
        if not builder.root.key:
            return "Root element is missing."
        unclosed = ", ".join(element.key for element in reversed(builder.open))
        return (
            "Unexpected end of file has occurred. The following elements are not closed:"
            f" {unclosed}.{where}"
        )
    if error.code == _WRONG_ENCODING:
        return "There is no Unicode byte order mark. Cannot switch to Unicode."
    if data[at - 1 : at] == b"&":
        return "An error occurred while parsing EntityName." + where
    if not builder.root.key:
        return "Data at the root level is invalid." + where
    return MESSAGES["E00003"] + where
