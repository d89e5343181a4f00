"""Numbers, times, names and credentials from outside are parsed in one place each, with bounds."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easypay import ids, inputs


@given(st.text(max_size=25))
def test_no_text_raises(text: str) -> None:
    number = inputs.whole_number(text, 1, 100)
    assert number is None or str(number) == text
    moment = inputs.moment(text)
    assert moment is None or inputs.is_in_range(moment)
    assert inputs.credential(text) is None or text.isascii() or text.strip(inputs._EDGES).isascii()
    inputs.wrong_name(text)
    inputs.credential_bytes(text.encode("utf-8", "surrogatepass"))


@given(st.binary(max_size=25))
def test_no_file_raises(data: bytes) -> None:
    read = inputs.credential_bytes(data)
    assert read is None or "\n" not in read


@pytest.mark.parametrize("text", ["1", "20", "100"])
def test_whole_numbers_are_parsed(text: str) -> None:
    assert inputs.whole_number(text, 1, 100) == int(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "0",
            "101",
            "-1",
            "+1",
            "01",
            "0000000010000",
            "1.0",
            "1e1",
            "0x1",
            "1_0",
            " 1",
            "1 ",
        ),
        *("1\n", "\u0661", "\u00b9", "1\x00", "9" * 5000, "NaN", "true"),
    ],
)
def test_invalid_and_out_of_range_numbers_are_refused(text: str) -> None:
    assert inputs.whole_number(text, 1, 100) is None


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1970-01-01T00:00:00Z", datetime(1970, 1, 1, tzinfo=UTC)),
        ("2026-11-24t00:00:00z", datetime(2026, 11, 24, tzinfo=UTC)),
        ("2026-11-24T01:30:00+01:30", datetime(2026, 11, 24, tzinfo=UTC)),
        ("2026-11-23T19:00:00.123456789-05:00", datetime(2026, 11, 24, 0, 0, 0, 123456, UTC)),
        ("2024-02-29T23:59:59.5Z", datetime(2024, 2, 29, 23, 59, 59, 500_000, UTC)),
        ("8999-12-31T23:59:59Z", datetime(8999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("2026-11-24T00:00:00-00:00", datetime(2026, 11, 24, tzinfo=UTC)),
    ],
)
def test_times_are_parsed(text: str, moment: datetime) -> None:
    assert inputs.moment(text) == moment
    assert ids.moment_of(ids.lowest_id_at(moment)).replace(microsecond=0) == moment.replace(
        microsecond=0
    )


NO_MOMENTS = [
    *("", "now", "2026", "2026-11-24", "2026-11-24T00:00:00", "2026-11-24T00:00Z", "1790000000"),
    *("2026-W48-2", "2026-W48-2T00:00:00Z", "20261124T000000Z", "2026-328T00:00:00Z"),
    *("2026-11-24T24:00:00Z", "2026-12-31T23:59:60Z", "2026-11-24T00:60:00Z"),
    *("2026-02-30T00:00:00Z", "2025-02-29T00:00:00Z", "2026-13-01T00:00:00Z"),
    *("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "0000-01-01T00:00:00Z"),
    *("1969-12-31T23:59:59Z", "1970-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z"),
    *("9999-12-31T23:59:59-23:59", "9000-01-01T00:00:00Z", "12026-11-24T00:00:00Z"),
    *("2026-11-24T00:00:00+24:00", "2026-11-24T00:00:00+99:99", "2026-11-24T00:00:00+0100"),
    *("2026-11-24T00:00:00+01:00:30", "2026-11-24T00:00:00 01:00", "2026-11-24 00:00:00Z"),
    *("2026-11-24T00:00:00,5Z", "2026-11-24T00:00:00.Z", "2026-11-24T00:00:00Z\n"),
    *("\u0662026-11-24T00:00:00Z", "2026-11-24T00:00:00Z\x00", "-026-11-24T00:00:00Z"),
    "2026-11-24T00:00:00." + "1" * 5000 + "Z",
]


@pytest.mark.parametrize("text", NO_MOMENTS)
def test_times_that_cannot_be_stored_are_refused(text: str) -> None:
    assert inputs.moment(text) is None


@pytest.mark.parametrize("text", ["Coffee & Co", "Zoë’s Café", "お店", "🍕", "x" * 100])
def test_names_are_accepted(text: str) -> None:
    assert inputs.wrong_name(text) is None


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "x" * 101,
            "a\x00b",
            "a\nb",
            "a\x1b[31m",
            "\ud800",
            "\uffff",
            "a\x85b",
            "\u2028",
        ),
        *("4111 1111 1111 1111", "shop 4111/1111/1111/1111", "4\u200b111111111111111"),
    ],
)
def test_invalid_names_are_refused(text: str) -> None:
    assert inputs.wrong_name(text) is not None


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"Simon",
            b"Simon\n",
            b"Simon\r\n",
            b"  Simon\t\n",
            b"\xef\xbb\xbfSimon\n",
            b"Simon\nmore",
        ),
        *(b"\n\nSimon", "\u200bSimon\u00a0".encode(), "\ufeff\ufeffSimon".encode()),
    ],
)
def test_a_credential_file_gives_the_issued_credential(data: bytes) -> None:
    line = inputs.credential_bytes(data)
    assert line is not None
    assert inputs.credential(line) == "Simon"


@pytest.mark.parametrize("data", [b"\xff\xfeS\x00i\x00", b"Sim\xf6n", b"\x80"])
def test_a_credential_file_in_another_encoding_is_refused(data: bytes) -> None:
    assert inputs.credential_bytes(data) is None


@pytest.mark.parametrize(
    "text", ["Si mon", "Simön", "Si\x00mon", "Si\nmon", "Si\u200bmon", "\ud800"]
)
def test_a_credential_that_was_never_issued_is_refused(text: str) -> None:
    assert inputs.credential(text) is None
