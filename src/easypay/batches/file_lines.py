"""The lines of a file that comes in pieces: each as JSON, with its number in the file. Pure.

    reader = reader_of("csv")
    for number, line in reader.feed(piece): ...
    for number, line in reader.end(): ...

A line is its JSON, the reason why it cannot be read, or None if it is blank. Numbers count the
file's lines from 1, as an editor shows them; a CSV row with line breaks in it has the number of its
first one. Nothing longer than `MOST_LINE` is kept.
"""

import csv
from collections.abc import Callable, Collection, Iterator, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any, Final, Protocol

import msgspec
from msgspec import inspect

from easypay.batches.lines import Line
from easypay.card_numbers import quoted
from easypay.errors import FieldError
from easypay.payments.requests import BankAccountMethod, CardMethod

MOST_LINE: Final = 64 * 1024
"""Bytes of a line: as many as a request's body may have."""
_BOM: Final = b"\xef\xbb\xbf"
_KEPT: Final = MOST_LINE + len(_BOM) + 1
"""Bytes of a line that are kept: enough to see that it is too long."""
_BLANKS: Final = b" \t\r"
_NOT_KEPT: Final = (CardMethod, BankAccountMethod)
_TOO_LONG: Final = FieldError("#", "too_long", f"The line has more than {MOST_LINE:,} bytes.")
_TWO_MEANINGS: Final = FieldError(
    "#/payment", "contradiction", "payment and payment.line exclude each other: send one of them."
)
_NOT_UTF8: Final = FieldError("#", "not_utf8", "The line is not UTF-8. Save the file as UTF-8.")

Read = tuple[int, "bytes | FieldError | None"]


class Unreadable(Exception):
    """The file cannot be read from this line on."""

    def __init__(self, number: int, error: FieldError) -> None:
        super().__init__(error.detail)
        self.number = number
        self.error = error


class Reader(Protocol):
    """Reads one file. Both methods raise Unreadable."""

    def feed(self, piece: bytes) -> Iterator[Read]:
        """Return the lines that end in this piece."""

    def end(self) -> Iterator[Read]:
        """Return the last line, if nothing ended it."""


def reader_of(format: str) -> Reader:
    """Return the reader of a format: `jsonl` or `csv`."""
    return _CsvRows() if format == "csv" else _JsonLines()


class _Split:
    """Cuts pieces into lines and counts them. Of a line that is too long the beginning is kept."""

    def __init__(self) -> None:
        self._rest = b""
        self.number = 0

    def feed(self, piece: bytes) -> Iterator[bytes]:
        *lines, rest = (self._rest + piece).split(b"\n")
        self._rest = rest[:_KEPT]
        for line in lines:
            yield self._next(line)

    def end(self) -> Iterator[bytes]:
        rest, self._rest = self._rest, b""
        if rest:
            yield self._next(rest)

    def _next(self, line: bytes) -> bytes:
        self.number += 1
        return line.removeprefix(_BOM) if self.number == 1 else line


class _JsonLines:
    def __init__(self) -> None:
        self._lines = _Split()

    def feed(self, piece: bytes) -> Iterator[Read]:
        return self._read(self._lines.feed(piece))

    def end(self) -> Iterator[Read]:
        return self._read(self._lines.end())

    def _read(self, lines: Iterator[bytes]) -> Iterator[Read]:
        for line in lines:
            if len(line) > MOST_LINE:
                yield self._lines.number, _TOO_LONG
            else:
                yield self._lines.number, line.strip(_BLANKS) or None


# CSV --------------------------------------------------------------------------------------------


class _Column:
    """A column of the file: where its cells stand in the JSON, and what they are made into."""

    def __init__(self, path: Sequence[str], convert: Callable[[str], Any]) -> None:
        *self.above, self.leaf = path
        self.convert = convert

    def put(self, cell: str, into: dict[str, Any]) -> None:
        """Write a cell. Raises TypeError if a column above or below it has a value, too."""
        for part in self.above:
            into = into.setdefault(part, {})
        if self.leaf in into:
            raise TypeError(f"{self.leaf} has fields already")
        into[self.leaf] = self.convert(cell)


class _CsvRows:
    """Rows under a header line. An empty cell is a field that is left out."""

    def __init__(self) -> None:
        self._lines = _Split()
        self._columns: list[_Column] = []
        self._parts: list[bytes] = []
        """The lines of a row whose quotes are not closed yet."""
        self._length = self._begins = 0

    def feed(self, piece: bytes) -> Iterator[Read]:
        return self._read(self._lines.feed(piece))

    def end(self) -> Iterator[Read]:
        yield from self._read(self._lines.end())
        if self._parts:
            raise Unreadable(self._begins, _open_quote())

    def _read(self, lines: Iterator[bytes]) -> Iterator[Read]:
        for line in lines:
            if not self._parts:
                self._begins, self._length = self._lines.number, 0
            if len(line) > MOST_LINE:  # nobody knows whether a cell of it goes on
                raise Unreadable(self._begins, _TOO_LONG)
            within_quotes = _ends_within_quotes(line, bool(self._parts))
            self._length += len(line) + 1
            self._parts.append(line)
            if within_quotes:  # so the row goes on in the next line
                if self._length > MOST_LINE:
                    raise Unreadable(self._begins, _open_quote())
                continue
            row = b"\n".join(self._parts).removesuffix(b"\r")
            self._parts = []
            if not row.strip():
                yield self._begins, None
            elif len(row) > MOST_LINE:
                yield self._begins, _TOO_LONG
            elif not self._columns:
                self._columns = _header(self._begins, row)
            else:
                yield self._begins, self._json(row)

    def _json(self, row: bytes) -> bytes | FieldError:
        cells = _cells(row)
        if isinstance(cells, FieldError):
            return cells
        columns = self._columns
        if len(cells) != len(columns):
            why = f"The line has {len(cells)} cells, and the header has {len(columns)}."
            return FieldError("#", "wrong_number_of_cells", why)
        made: dict[str, Any] = {}
        try:
            for column, cell in zip(columns, cells, strict=True):
                if cell:
                    column.put(cell, made)
        except TypeError:  # what is a text here has fields there
            return _TWO_MEANINGS
        return msgspec.json.encode(made)


def _ends_within_quotes(line: bytes, within: bool) -> bool:
    """Whether the last cell of a line goes on in the next one. `within`: the line begins within a
    cell. A quote opens a cell only at its beginning: otherwise one in a text, such as `6" pipe`,
    would take the lines after it along."""
    at = 0
    while True:
        if within:
            at = line.find(b'"', at)
            if at < 0:
                return True
            if line[at + 1 : at + 2] == b'"':  # a quote that is part of the text
                at += 2
                continue
            at += 1
            if line[at : at + 1] != b",":
                return False  # the row ends here, or is no CSV
            within, at = False, at + 1
        if line[at : at + 1] == b'"':
            within, at = True, at + 1
            continue
        at = line.find(b',"', at) + 1
        if not at:
            return False


def _cells(row: bytes) -> list[str] | FieldError:
    try:
        return next(csv.reader((row.decode(),), strict=True))
    except UnicodeDecodeError:
        return _NOT_UTF8
    except (csv.Error, StopIteration) as error:
        return FieldError("#", "not_csv", f"The line is not CSV: {quoted(str(error), 100)}.")


def _open_quote() -> FieldError:
    why = 'A quote (") of this line is not closed. Write a quote within a cell twice: "".'
    return FieldError("#", "not_csv", why)


def _header(number: int, row: bytes) -> list[_Column]:
    """Return the columns of a header line. Raises Unreadable."""
    cells = _cells(row)
    if isinstance(cells, FieldError):
        raise Unreadable(number, cells)
    names = [cell.strip() for cell in cells]
    known = csv_columns()
    columns = []
    for place, name in enumerate(names):
        path = _path_of(name, known)
        if path is None:
            near = get_close_matches(name, known, 1) if len(name) <= 64 else []
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}."
            why = f"{quoted(name)!r} is not a column of a batch; {hint}"
            raise Unreadable(number, FieldError("#", "unknown_column", why))
        if name in names[:place]:
            why = f"The column {quoted(name)} stands there twice."
            raise Unreadable(number, FieldError("#", "column_twice", why))
        columns.append(_Column(path, known.get(name, str)))
    if "operation" not in names:
        why = "The first line must be a header that names the columns, and operation is missing."
        raise Unreadable(number, FieldError("#", "no_header", why))
    return columns


def _path_of(name: str, known: Collection[str]) -> Sequence[str] | None:
    """Return where the cells of a column stand in the JSON; None if there is no such column."""
    if name in known:
        return name.split(".")
    above, _, key = name.partition(".")  # a key of metadata may have dots in it
    return (above, key) if key and f"{above}.*" in known else None


@cache
def csv_columns() -> dict[str, Callable[[str], Any]]:
    """Return every column that a file may have, with what makes a cell into its JSON value.

    The name of a nested field has the names above it, joined by dots: `payment_method.type`. A star
    stands for any name: `metadata.*`.
    """
    return dict(_columns(inspect.type_info(Line), ""))


def _columns(kind: inspect.Type, name: str) -> Iterator[tuple[str, Callable[[str], Any]]]:
    match kind:
        case inspect.Metadata():
            yield from _columns(kind.type, name)
        case inspect.UnionType():
            for each in kind.types:
                yield from _columns(each, name)
        case inspect.StructType():
            if kind.cls in _NOT_KEPT:
                return
            above = f"{name}." if name else ""
            if kind.tag_field is not None:
                yield above + kind.tag_field, str
            for field in kind.fields:
                yield from _columns(field.type, above + field.encode_name)
        case inspect.DictType():
            yield f"{name}.*", str
        case inspect.IntType():
            yield name, _integer
        case inspect.BoolType():
            yield name, _boolean
        case inspect.StrType() | inspect.LiteralType():
            yield name, str
        case inspect.NoneType():
            return
        case _:
            raise TypeError(f"the column {name} has a type that no cell can have: {kind}")


def _integer(cell: str) -> int | str:
    """Return a number, or the cell as it is: then the check says what is wrong."""
    digits = cell.removeprefix("-")
    return int(cell) if digits.isascii() and digits.isdigit() and len(digits) <= 18 else cell


def _boolean(cell: str) -> bool | str:
    return {"true": True, "false": False}.get(cell.lower(), cell)
