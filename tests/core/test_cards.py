"""Card numbers are recognised in any text, and other numbers are left alone."""

import random
import re
import string
import sys
import time
import unicodedata
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easypay.card_numbers import brand_of, contains_card_number, passes_luhn, quoted, scrub

NUMBERS = {
    "4111111111111111": "visa",
    "4007000000027": "visa",
    "4012888818888": "visa",
    "5424000000000015": "mastercard",
    "2223000010309703": "mastercard",
    "2720990000000007": "mastercard",
    "370000000000002": "amex",
    "341111111111111": "amex",
    "6011000000000012": "discover",
    "6440000000000005": "discover",
    "3088000000000017": "jcb",
    "3530111333300000": "jcb",
    "38000000000006": "diners",
    "30569309025904": "diners",
}


def luhn_digit(body: str) -> str:
    """Return the check digit of `body`, computed without the gateway's own code."""
    total = 0
    for place, digit in enumerate(reversed(body)):
        doubled = int(digit) * (2 if place % 2 == 0 else 1)
        total += doubled // 10 + doubled % 10
    return str(-total % 10)


prefixes = st.sampled_from(
    [
        ("4", 16),
        ("4", 13),
        ("4", 19),
        ("51", 16),
        ("2221", 16),
        ("34", 15),
        ("37", 15),
        ("6011", 16),
        ("65", 16),
        ("3528", 16),
        ("36", 14),
        ("62", 16),
        ("62", 19),
    ]
)


@st.composite
def card_numbers(draw: st.DrawFn) -> str:
    prefix, length = draw(prefixes)
    body = prefix + draw(st.text("0123456789", min_size=length, max_size=length))
    body = body[: length - 1]
    return body + luhn_digit(body)


@pytest.mark.parametrize(("number", "brand"), NUMBERS.items())
def test_brands(number: str, brand: str) -> None:
    assert passes_luhn(number)
    assert brand_of(number) == brand


@pytest.mark.parametrize(
    "number", ["", "4", "0000000000000000", "9999999999999995", "411111111111111", "1" * 30]
)
def test_other_numbers_have_no_brand(number: str) -> None:
    assert brand_of(number) is None


@given(card_numbers(), st.data())
def test_luhn_catches_every_wrong_digit(number: str, data: st.DataObject) -> None:
    assert passes_luhn(number)
    at = data.draw(st.integers(0, len(number) - 1))
    wrong = data.draw(st.sampled_from([d for d in "0123456789" if d != number[at]]))
    assert not passes_luhn(number[:at] + wrong + number[at + 1 :])


_words = st.text(st.characters(exclude_categories=["Cs", "Nd", "No", "Nl"]), max_size=30)


@given(card_numbers(), st.sampled_from(["", " ", "-"]), _words, _words)
def test_a_card_number_in_a_text_is_found_and_masked(
    number: str, separator: str, before: str, after: str
) -> None:
    written = separator.join(number[at : at + 4] for at in range(0, len(number), 4))
    text = f"{before}{written}{after}"
    assert contains_card_number(text)
    masked = scrub(text)
    assert written not in masked
    assert number not in masked
    assert masked == f"{before}****{written[-4:]}{after}"
    assert not contains_card_number(masked)


@given(_words)
def test_a_text_without_digits_is_left_alone(text: str) -> None:
    assert not contains_card_number(text)
    assert scrub(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "order 4111111111111112",  # check digit
        "4111111111111111" * 2,  # one long number
        "0000000000000000",
        "2026-11-24T04:05:37.123Z",
        "tel +1 555 0100",
        "pay_019a20bfc7397427bc458147fb37f3f9",
        "41111111-1111-4111-8111-111111111111",  # a UUID, whatever its digits
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "DE89 3704 0044 0532 0130 00 and BE68 5390 0754 7034 PAID",
        "IT60X0542811101000000123456, FR1420041010050500013M02606",
        "2026-11-24 2026-11-25 2026-11-26 2026-12-01",
        "24.11.2026 25.11.2026 26.11.2026 27.11.2026",
        "11/24/2026, 11/25/2026, 12/01/2026",
        "20261124T040537Z 20261125T040537Z",
        "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20",
        "40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59",
        "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n13\n14\n15",
        "12.50,4.99,100.00,4111.11,1111.11,1111.11",
        "4,111,111,111,111,111",  # thousands
        "1990,1991,1992,1993,1994,1995,1996,1997,1998,1999,2000",
        "4000,4001,4002,4003,4004,4005,4006,4007,4008,4009,4010,4011",
        "SO-2026-000123-4 / PO 4500012345 / INV 2026/00042",
        "1Z 999 AA1 01 2345 6784",  # UPS
        "9400 1112 0255 5555 5555 55",  # USPS
        "RR 473 124 829 US",
        "+44 20 7946 0958, +49 30 901820, (415) 555-0100",
        "EAN 4006381333931, ISBN 978-3-16-148410-0",
        "sha1 da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "192.168.100.200,10.20.30.40,172.16.254.1",
        "48.858844,2.294351;51.500729,-0.124625",
        "4111x1111x1111x1111",  # letters separate words, not groups
    ],
)
def test_other_numbers_are_left_alone(text: str) -> None:
    assert not contains_card_number(text)
    assert scrub(text) == text


def test_several_card_numbers_are_all_masked() -> None:
    text = "4111 1111 1111 1111 and 370000000000002, not 4111111111111112"
    assert scrub(text) == "****1111 and ****0002, not 4111111111111112"


GROUPED = [
    "4111 1111 1111 1111",
    "3782 822463 10005",
    "3056 930902 5904",
    f"6200 0000 0000 0000 00{luhn_digit('620000000000000000')}",
]
"""As card numbers are grouped on cards."""
SEPARATORS = [
    *(chr(code) for code in range(128) if not chr(code).isalnum()),
    *(
        chr(code)
        for code in range(128, 0x3100)
        if unicodedata.category(chr(code)) in ("Zs", "Zl", "Zp", "Pd", "Pc", "Cf", "Sm", "Po")
    ),
    "\u30fc",
    "\ufe0f",
    "\ufeff",
    "\ud800",
    "\U0001f4b3",
    "\r\n",
    "  ",
    " - "[:2],
    "\u200b\u200b\u200b",
]


@pytest.mark.parametrize("written", GROUPED)
@pytest.mark.parametrize("around", [("", ""), ("7 ", " 12/35"), ("no ", ", cvc 900")])
def test_any_single_character_may_separate_groups(written: str, around: tuple[str, str]) -> None:
    for separator in SEPARATORS:
        text = around[0] + written.replace(" ", separator) + around[1]
        assert contains_card_number(text), repr(separator)
        masked = scrub(text)
        assert not contains_card_number(masked), repr(separator)
        assert masked.startswith(around[0]), repr(separator)
        assert masked.endswith(around[1]), repr(separator)


@pytest.mark.parametrize(
    "text",
    [
        "4111/1111/1111/1111/12/30",
        "4111/1111/1111/1111/1230",
        "4111,1111,1111,1111,12,30,900",
        "2026,4111,1111,1111,1111,1230",
        "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
        "4\u200b1\u200b1\u200b1\u200b1111\u200b1111\u200b1111",
        "\u0664\u0661\u0661\u0661 \u0661\u0661\u0661\u0661 1111 1111",
        "\uff14\uff11\uff11\uff11\u30fc1111\u30fc1111\u30fc1111",
        "\u2074\u00b9\u00b9\u00b91111 1111 1111",
        "4\ufe0f\u20e31\ufe0f\u20e31\ufe0f\u20e31\ufe0f\u20e31111 1111 1111",
        "41111111/11111111",
        "4111111111111/111",
        "41111111-1111-4111-8111-111111111111 4111111111111111",
        "2026-11-24 4111111111111111 2026-11-25",
        "4111,1111,1111,1111\n4111,1111,1111,1111\n4111,1111,1111,1111\n",
    ],
)
def test_card_numbers_among_other_digits(text: str) -> None:
    assert contains_card_number(text)
    assert not contains_card_number(scrub(text))


def test_overlapping_card_numbers_are_all_masked() -> None:
    first, second = "4000 0000 0000 0002", "0002 4111 1111 1111"
    assert contains_card_number(first)
    for text in (
        f"{first} 4111 1111 1111 1111",
        "4111 1111 1111 4111 1111 1111 1111 1111",
        "3782 822463 14111 1111 1111 1111",
        f"{first} {second} 1111",
    ):
        assert not contains_card_number(scrub(text)), text


def test_a_quoted_value_is_shortened_before_it_is_searched() -> None:
    text = "x" * 60 + "4111111111111111" + "y" * 1_000_000
    assert quoted(text) == "x" * 60 + "****"
    assert quoted("a" * 100, 10) == "a" * 10


def slow_card_numbers(text: str) -> list[tuple[int, int]]:
    """Return the card numbers that the module should find, by trying every pair of positions."""
    kinds = []
    for character in text:
        digit = unicodedata.digit(character, -1)
        if digit >= 0:
            kinds.append(str(digit))
        elif unicodedata.category(character) in ("Cf", "Mn", "Me") or character == "\x00":
            kinds.append("")
        elif unicodedata.category(character) in ("Zs", "Pd") or character == ".":
            kinds.append(" ")
        elif unicodedata.category(character)[0] == "L":
            kinds.append("x")
        else:
            kinds.append(character)
    found = []
    for start in range(len(text)):
        if not kinds[start].isdigit() or follows_a_digit(kinds, start):
            continue
        groups, gaps, at = [kinds[start]], [], start + 1
        longest = None
        while True:
            gap = ""
            while at < len(text) and not kinds[at].isdigit():
                gap += kinds[at]
                at += 1
            digits = "".join(groups)
            if at == len(text) or gap:
                last = max(n for n in range(at) if kinds[n].isdigit()) + 1
                known = 13 <= len(digits) <= 19 and brand_of(digits) is not None
                loose = all(re.fullmatch(" {1,2}", each) for each in gaps)
                long = all(len(group) >= 4 for group in groups[:-1])
                if known and by_the_book(digits) and (loose or long):
                    longest = last
                fits = gap in ("", " ", "  ", "\r\n") or (len(gap) == 1 and gap != "x")
                if at == len(text) or not fits or len(digits) > 19:
                    break
                gaps.append(gap)
                groups.append(kinds[at])
            else:
                groups[-1] += kinds[at]
            at += 1
        if longest is not None:
            found.append((start, longest))
    return found


def follows_a_digit(kinds: list[str], at: int) -> bool:
    before = [kind for kind in kinds[:at] if kind]
    return bool(before) and before[-1].isdigit()


def by_the_book(digits: str) -> bool:
    return luhn_digit(digits[:-1]) == digits[-1]


ODD = random.Random(20261124)
PIECES = [
    *("4111", "1111", "111", "11", "1", "4", "41", "5424", "0000", "00000000", "0015", "3782"),
    *("822463", "10005", "378282246310005", "4111111111111111", "6011", "4007000000027"),
    *(" ", "-", ".", "/", ",", "x", "\n", "\r\n", "\r", "\x00", "\u200b", "\u00a0", "\u2013"),
    *("\u0661", "\uff14", "\u20e3", "\u65e5", "\ud800", " - ", "  ", "//", "ab", "\u00b9"),
]


def test_the_fast_search_agrees_with_the_slow_one() -> None:
    cards = 0
    for _ in range(6_000):
        text = "".join(ODD.choices(PIECES, k=ODD.randrange(2, 14)))
        expected = bool(slow_card_numbers(text))
        if expected != contains_card_number(text):  # lists, the one rule the slow search lacks
            assert expected, repr(text)
            parted = re.split(r"([^0-9]+)", text)
            assert len(parted) > 13, repr(text)
        cards += expected
        assert not contains_card_number(scrub(text)), repr(text)
    assert cards > 500


def test_random_identifiers_are_rarely_taken_for_card_numbers() -> None:
    def written(alphabet: str, size: int) -> str:
        return "".join(ODD.choices(alphabet, k=size))

    texts = [str(uuid.UUID(int=ODD.getrandbits(128), version=4)) for _ in range(4_000)]
    texts += [written(string.ascii_uppercase + string.digits, 20) for _ in range(4_000)]
    texts += [f"{written(string.hexdigits[:16], 32)}" for _ in range(4_000)]
    assert sum(map(contains_card_number, texts)) <= 3


HOSTILE = {
    "numbers one after another": "4111111111111111x",
    "single digits and dots": "1.",
    "single fours and spaces": "4 ",
    "fours and commas": "4,",
    "groups and slashes": "4111/",
    "groups and dashes": "4111-1111-",
    "digits alone": "4",
    "twelve at a time": "4 4 4 4 4 4 4 4 4 4 4 4 xx",
    "invisible": "4\u200b",
    "much that is invisible": "4" + "\u200b" * 50,
    "other scripts": "\u0664\u0661 ",
    "UUIDs": "41111111-1111-4111-8111-111111111111 4111111111111111 ",
    "accounts": "DE89 3704 0044 0532 0130 00 4111111111111111 ",
    "dates": "2026-11-24 4111 1111 1111 1111 ",
    "hex": "4111111111111a",
    "NULs": "4\x00\x00\x00",
    "line ends": "4111\r\n",
}


@pytest.mark.parametrize("pattern", HOSTILE.values(), ids=HOSTILE)
def test_the_work_grows_linearly_with_the_length(pattern: str) -> None:
    """Four times the text takes about four times as long, not sixteen: by the number of calls and,
    with a generous limit, by CPU time."""

    def text(size: int) -> str:
        return (pattern * (size // len(pattern) + 1))[:size]

    def calls(size: int) -> int:
        found = 0

        def count(*_: object) -> None:
            nonlocal found
            found += 1

        sys.setprofile(count)
        try:
            contains_card_number(text(size))
        finally:
            sys.setprofile(None)
        return found

    def took_s(size: int) -> float:
        # The least of three: the collector may walk all objects of the test process meanwhile.
        return min(_cpu_s(text(size)) for _ in range(3))

    assert calls(4_000) <= 6 * calls(1_000) + 100
    assert took_s(40_000) < 10 * took_s(10_000) + 0.05


def _cpu_s(text: str) -> float:
    began = time.process_time()
    scrub(text)
    return time.process_time() - began


def test_a_megabyte_of_digits_is_searched_quickly() -> None:
    began = time.process_time()
    assert not contains_card_number("1" * 4_000_000)
    assert not contains_card_number("4" * 4_000_000)
    assert time.process_time() - began < 2
