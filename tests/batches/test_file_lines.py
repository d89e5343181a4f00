"""A file in any pieces is the same lines: JSON lines, and CSV as spreadsheets write it."""

import json
from typing import Any

import pytest

from easypay.batches.file_lines import MOST_LINE, Unreadable, csv_columns, reader_of
from easypay.batches.lines import PaymentLines
from easypay.errors import FieldError

BOM = b"\xef\xbb\xbf"
HEADER = b"operation,amount,currency,payment_method.type,line_reference,metadata.a.b\n"


def read(content: bytes, format: str = "csv", *, pieces: int = 1_000_000) -> list[tuple[int, Any]]:
    """Return the lines of a file that comes in pieces of so many bytes; of wrong ones the code."""
    reader = reader_of(format)
    found = []
    for at in range(0, len(content), pieces):
        found += list(reader.feed(content[at : at + pieces]))
    found += list(reader.end())
    return [
        (number, line.code if isinstance(line, FieldError) else json.loads(line))
        for number, line in found
        if line is not None
    ]


@pytest.mark.parametrize("pieces", [1, 2, 7, 1000])
def test_pieces_do_not_matter(pieces: int) -> None:
    content = (
        BOM + HEADER.replace(b"\n", b"\r\n") + b'payment,2500,USD,stored,"a ""b"",\r\nc",x\r\n'
        b"\r\npayment,1,USD,stored,\xc3\xa9,\r\nvoid,,,,,"
    )
    assert read(content, pieces=pieces) == read(content)
    assert read(content) == [
        (2, {"operation": "payment", "amount": 2500, "currency": "USD",
             "payment_method": {"type": "stored"}, "line_reference": 'a "b",\r\nc',
             "metadata": {"a.b": "x"}}),
        (5, {"operation": "payment", "amount": 1, "currency": "USD",
             "payment_method": {"type": "stored"}, "line_reference": "é"}),
        (6, {"operation": "void"}),
    ]  # fmt: skip
    lines = BOM + b'{"a": 1}\r\n\n  {"b": 2}\t\n{"c": 3}'
    assert read(lines, "jsonl", pieces=pieces) == [(1, {"a": 1}), (3, {"b": 2}), (4, {"c": 3})]


def test_a_cell_that_is_no_number_stays_text_so_that_the_check_can_say_so() -> None:
    rows = read(HEADER + b"payment,25.00,USD,,,\npayment,-3,USD,,,\npayment,\xe0\xa5\xa9,USD,,,\n")
    assert [row["amount"] for _, row in rows] == ["25.00", -3, "\u0969"]


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (b"payment,1,USD\n", "wrong_number_of_cells"),
        (b"payment,1,USD,a,b,c,d\n", "wrong_number_of_cells"),
        (b"payment,1,USD,\xff,b,c\n", "not_utf8"),
        (b'payment,1,USD,"a"b,c"",d\n', "not_csv"),
        (b"payment,1,USD,a\rb,c,d\n", "not_csv"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_and_the_next_ones_are_read(
    row: bytes, code: str
) -> None:
    assert read(HEADER + row + b"void,,,,,\n") == [(2, code), (3, {"operation": "void"})]


@pytest.mark.parametrize(
    ("content", "number", "code", "said"),
    [
        (b"operation,amuont\n", 1, "unknown_column", "did you mean amount?"),
        (b"operation,payment_method.card.number\n", 1, "unknown_column", "not a column"),
        (b"operation,metadata.\n", 1, "unknown_column", "metadata."),
        (b"operation,amount,amount\n", 1, "column_twice", "amount"),
        (b"amount,currency\n", 1, "no_header", "header"),
        (b"\n\n\xff\n", 3, "not_utf8", "UTF-8"),
        (HEADER + b'void,,,,"open,\nvoid,,,,,\n', 2, "not_csv", "not closed"),
        (HEADER + b'void,,,,"' + b"x\n" * MOST_LINE, 2, "not_csv", "not closed"),
        (HEADER + b"v" * (MOST_LINE + 10), 2, "too_long", "65,536"),
        (HEADER + b"v" * (MOST_LINE + 1) + b"\nvoid,,,,,\n", 2, "too_long", "65,536"),
    ],
)
def test_a_file_that_cannot_be_read_on_says_from_where_and_why(
    content: bytes, number: int, code: str, said: str
) -> None:
    with pytest.raises(Unreadable) as raised:
        read(content)
    assert (raised.value.number, raised.value.error.code) == (number, code)
    assert said in raised.value.error.detail


def test_no_column_is_for_what_is_never_kept() -> None:
    assert not [name for name in csv_columns() if ".card." in name or "bank_account" in name]
    assert {"operation", "payment", "payment.line", "amount", "metadata.*"} <= set(csv_columns())


def test_payment_lines_are_remembered_by_their_numbers() -> None:
    lines = PaymentLines()
    for number in (1, 7, 8, 1_000_000):
        lines.add(number)
    assert [n for n in (0, 1, 6, 7, 8, 9, 999_999, 1_000_000, 5_000_000) if lines.has(n)] == [
        *(1, 7, 8, 1_000_000)
    ]


def test_a_payment_is_named_in_one_way() -> None:
    rows = [b"operation,payment,payment.line", b"void,pay_1,", b"void,,1", b"void,pay_1,1"]
    turned = [b",".join(row.split(b",")[::-1]) for row in rows]
    for lines in (rows, turned):
        assert read(b"\n".join(lines)) == [
            (2, {"operation": "void", "payment": "pay_1"}),
            (3, {"operation": "void", "payment": {"line": 1}}),
            (4, "contradiction"),
        ]


@pytest.mark.parametrize("pieces", [1000, 40_000, 1_000_000])
def test_a_json_line_that_is_too_long_is_named_in_any_pieces(pieces: int) -> None:
    for more in (1, 20_000, 200_000):
        content = b'{"a": 1}\n{"b": "' + b"x" * (MOST_LINE + more) + b'"}\n{"c": 3}\n'
        assert read(content, "jsonl", pieces=pieces) == [
            (1, {"a": 1}),
            (2, "too_long"),
            (3, {"c": 3}),
        ]


def test_a_quote_within_a_text_takes_no_other_lines_along() -> None:
    header = b"operation,line_reference\n"
    rows = b'void,6" pipe\nvoid,"a"b\nvoid,c\nvoid,7" pipe\nvoid,"d\ne ""f"", g"\nvoid,""\n'
    assert read(header + rows) == [
        (2, {"operation": "void", "line_reference": '6" pipe'}),
        (3, "not_csv"),
        (4, {"operation": "void", "line_reference": "c"}),
        (5, {"operation": "void", "line_reference": '7" pipe'}),
        (6, {"operation": "void", "line_reference": 'd\ne "f", g'}),
        (8, {"operation": "void"}),
    ]
