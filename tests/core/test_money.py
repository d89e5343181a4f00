"""Amounts stay exact between the API, minor units and the processor's decimals."""

import ast
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import easypay
from easypay.money import EXPONENT, MAX_MINOR, CurrencyMismatch, Money, parse_decimal
from easypay.payments.requests import RefundPayment

currencies = st.sampled_from(sorted(EXPONENT))
minors = st.integers(-MAX_MINOR, MAX_MINOR)


@given(st.integers(1, MAX_MINOR), currencies)
def test_an_amount_survives_the_round_trip(minor: int, currency: str) -> None:
    asked = msgspec.json.decode(f'{{"amount": {minor}}}', type=RefundPayment).amount
    assert isinstance(asked, int)
    on_the_wire = Money(asked, currency).decimal_string()
    assert parse_decimal(on_the_wire, currency) == Money(minor, currency)
    assert msgspec.json.encode(parse_decimal(on_the_wire, currency).minor) == b"%d" % minor


@given(minors, currencies)
def test_the_decimal_form_has_exactly_the_currency_s_decimals(minor: int, currency: str) -> None:
    text = Money(minor, currency).decimal_string()
    whole, point, decimals = text.lstrip("-").partition(".")
    assert len(decimals) == EXPONENT[currency]
    assert bool(point) == (EXPONENT[currency] > 0)
    assert whole.isdigit()
    assert whole == "0" or not whole.startswith("0")
    assert parse_decimal(text, currency).minor == minor


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (1250, "USD", "12.50"),
        (1, "USD", "0.01"),
        (0, "USD", "0.00"),
        (-5, "USD", "-0.05"),
        (500, "JPY", "500"),
        (1234, "KWD", "1.234"),
        (7, "CLF", "0.0007"),
        (MAX_MINOR, "USD", "999999999.99"),
    ],
)
def test_minor_units_become_decimal_strings(minor: int, currency: str, text: str) -> None:
    assert Money(minor, currency).decimal_string() == text
    assert parse_decimal(text, currency) == Money(minor, currency)


def test_there_are_currencies_of_every_exponent() -> None:
    assert set(EXPONENT.values()) == {0, 2, 3, 4}
    assert all(len(code) == 3 and code.isupper() and code.isascii() for code in EXPONENT)
    assert len(EXPONENT) > 150
    examples = {code: EXPONENT[code] for code in ("USD", "JPY", "KRW", "BHD", "KWD", "CLF")}
    assert examples == {"USD": 2, "JPY": 0, "KRW": 0, "BHD": 3, "KWD": 3, "CLF": 4}


@given(minors, currencies, st.integers(1, 9))
def test_more_decimals_than_a_currency_has_are_refused(
    minor: int, currency: str, digit: int
) -> None:
    text = Money(minor, currency).decimal_string()
    longer = f"{text}{digit}" if EXPONENT[currency] else f"{text}.{digit}"
    with pytest.raises(ValueError, match="decimals"):
        parse_decimal(longer, currency)
    assert parse_decimal(longer[:-1] + "0", currency).minor == minor, "trailing zeros are allowed"


@pytest.mark.parametrize(
    "text", ["", "abc", "NaN", "Infinity", "-inf", "1,00", "1.2.3", "$5", "0x10"]
)
def test_an_invalid_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="amount"):
        parse_decimal(text, "USD")


def test_currencies_do_not_mix() -> None:
    assert Money(1, "USD") + Money(2, "USD") == Money(3, "USD")
    with pytest.raises(CurrencyMismatch):
        Money(1, "USD") + Money(1, "EUR")
    with pytest.raises(ValueError, match="ISO 4217"):
        Money(1, "XXX")


def test_no_float_touches_money() -> None:
    """In the gateway's modules that hold amounts, no amount is divided with `/`."""
    root = Path(easypay.__file__).parent
    files = [root / "money.py", *(root / "payments").glob("*.py"), *root.glob("processors/**/*.py")]
    assert len(files) > 10
    offences = [
        f"{file.name}:{node.lineno} {name}"
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Name | ast.BinOp)
        for name in [_names(node)]
        if "minor" in name or "amount" in name
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
    ]
    assert offences == []


def _names(node: ast.AST) -> str:
    return " ".join(getattr(each, "id", "") or getattr(each, "attr", "") for each in ast.walk(node))
