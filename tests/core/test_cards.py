"""A card number is recognised wherever it hides, and nothing else is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easypay.payments.cards import brand_of, contains_card_number, passes_luhn, scrub

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
    """The digit that completes a body, by the book rather than by our code."""
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
def test_what_is_no_card_has_no_brand(number: str) -> None:
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
    if separator and before.endswith(("-", " ")):
        before += "."
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
    ],
)
def test_other_numbers_are_left_alone(text: str) -> None:
    assert not contains_card_number(text)
    assert scrub(text) == text


def test_several_are_all_masked() -> None:
    text = "4111 1111 1111 1111 and 370000000000002, not 4111111111111112"
    assert scrub(text) == "****1111 and ****0002, not 4111111111111112"
