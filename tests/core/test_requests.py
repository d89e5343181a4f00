"""Rules for requests that types cannot express, and values that the types must refuse."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from easypay.errors import ValidationFailed
from easypay.money import EXPONENT, MAX_MINOR
from easypay.payment_details import DETAIL_FIELDS
from easypay.payments.requests import (
    BankAccountMethod,
    BillingAddress,
    CardBody,
    CreatePayment,
    Customer,
    check_payment,
)
from harness import AMEX, VISA

NOW = datetime(2026, 11, 24, tzinfo=UTC)
CARD = {"number": VISA, "exp_month": 12, "exp_year": 2030, "cvc": "907"}


def body(card: dict[str, Any] | None = None, **over: Any) -> CreatePayment:
    method = {"type": "card", "card": {**CARD, **(card or {})}}
    fields = {"amount": 100, "currency": "USD", "payment_method": method, **over}
    return msgspec.convert(fields, CreatePayment)


def refusals(
    payment: CreatePayment, *, currencies: str = "USD", raw_cards: bool = True, at: datetime = NOW
) -> list[tuple[str, str]]:
    try:
        check_payment(payment, currencies=frozenset(currencies.split()), raw_cards=raw_cards, at=at)
    except ValidationFailed as error:
        return [(field.pointer, field.code) for field in error.fields]
    return []


def test_a_valid_payment_passes() -> None:
    full = body(
        customer={"reference": "c-1", "email": "a@b.example"},
        customer_reference="c-1",
        billing_address={"line1": "1 Main St", "postal_code": "62701", "phone": "+1 555 010 0100"},
        description="Order 2026-11-24 0001234567",
        statement_descriptor="SHOP 1",
        metadata={"a": "b" * 500},
    )
    assert refusals(full) == []


@pytest.mark.parametrize(
    ("month", "year", "at", "good"),
    [
        (11, 2026, datetime(2026, 11, 30, 23, 59, tzinfo=UTC), True),
        (11, 2026, datetime(2026, 12, 1, tzinfo=UTC), False),
        (12, 2026, datetime(2026, 12, 31, tzinfo=UTC), True),
        (12, 2026, datetime(2027, 1, 1, tzinfo=UTC), False),
        (1, 2027, datetime(2026, 12, 31, tzinfo=UTC), True),
    ],
)
def test_a_card_is_valid_through_its_month(month: int, year: int, at: datetime, good: bool) -> None:
    found = refusals(body({"exp_month": month, "exp_year": year}), at=at)
    assert found == ([] if good else [("#/payment_method/card/exp_year", "expired_card")])


@pytest.mark.parametrize(
    ("number", "cvc", "good"),
    [
        (VISA, "907", True),
        (VISA, "9070", False),
        (AMEX, "9070", True),
        (AMEX, "907", False),
        (VISA, None, True),
        (AMEX, None, True),
    ],
)
def test_a_code_has_the_length_of_its_brand(number: str, cvc: str | None, good: bool) -> None:
    found = refusals(body({"number": number, "cvc": cvc}))
    assert found == ([] if good else [("#/payment_method/card/cvc", "invalid_cvc")])


@given(st.sampled_from(sorted(EXPONENT)), st.sets(st.sampled_from(sorted(EXPONENT)), min_size=1))
def test_only_the_account_s_currencies_pass(currency: str, taken: set[str]) -> None:
    found = refusals(body(currency=currency), currencies=" ".join(taken))
    assert found == ([] if currency in taken else [("#/currency", "currency_not_accepted")])


BANK = {
    "account_type": "checking",
    "routing_number": "121042882",
    "account_number": "123456789",
    "name_on_account": "Ada Byron",
}


def bank(**over: Any) -> dict[str, Any]:
    return {"payment_method": {"type": "bank_account", "bank_account": {**BANK, **over}}}


@pytest.mark.parametrize(
    ("routing_number", "good"),
    [
        ("121042882", True),
        ("021000021", True),
        ("121042883", False),
        ("121042828", False),
        ("000000001", False),
    ],
)
def test_a_routing_number_must_have_the_right_check_digit(routing_number: str, good: bool) -> None:
    at = "#/payment_method/bank_account/routing_number"
    found = refusals(body(**bank(routing_number=routing_number)))
    assert found == ([] if good else [(at, "invalid_routing_number")])


def test_a_bank_account_needs_raw_cards_allowed_and_must_not_hold_a_card_number() -> None:
    found = refusals(body(**bank()), raw_cards=False)
    assert found == [("#/payment_method/type", "raw_cards_not_allowed")]
    found = refusals(body(**bank(name_on_account=f"x {VISA}")))
    assert found == [("#/payment_method/bank_account/name_on_account", "card_number_in_text")]


@pytest.mark.parametrize(
    ("credential", "pointer"),
    [
        ({"initiator": "customer", "first": True}, None),
        ({"initiator": "merchant", "recurring": True, "network_transaction_id": "A1"}, None),
        ({"initiator": "customer", "recurring": True}, None),
        ({"initiator": "merchant", "first": True}, "#/stored_credential/initiator"),
        (
            {"initiator": "customer", "first": True, "network_transaction_id": "A1"},
            "#/stored_credential/network_transaction_id",
        ),
    ],
)
def test_the_fields_of_a_stored_card_must_not_contradict_each_other(
    credential: dict[str, Any], pointer: str | None
) -> None:
    found = refusals(body(stored_credential=credential))
    assert found == ([] if pointer is None else [(pointer, "contradiction")])


def test_a_bank_account_cannot_be_a_stored_card() -> None:
    found = refusals(body(**bank(), stored_credential={"initiator": "customer"}))
    assert found == [("#/stored_credential", "contradiction")]


def test_a_contradiction_is_named() -> None:
    found = refusals(body(customer={"reference": "a"}, customer_reference="b"))
    assert found == [("#/customer_reference", "contradiction")]


def test_a_shop_without_raw_cards_gets_no_details_about_the_card() -> None:
    found = refusals(body({"number": "4111111111111112"}), raw_cards=False)
    assert found == [("#/payment_method/type", "raw_cards_not_allowed")]


@pytest.mark.parametrize(
    ("over", "pointer"),
    [
        ({"order_reference": f"x {VISA}"}, "#/order_reference"),
        ({"customer": {"email": f"{VISA}@b.example"}}, "#/customer/email"),
        ({"metadata": {"k": f"is {VISA}."}}, "#/metadata/k"),
        ({"metadata": {"a~/b": VISA}}, "#/metadata/a~0~1b"),
        ({"metadata": {VISA: "v"}}, "#/metadata"),
        ({"description": "3700-000000-00002"}, "#/description"),
    ],
)
def test_a_card_number_within_a_text_is_refused_and_not_repeated(
    over: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(ValidationFailed) as caught:
        check_payment(body(**over), currencies=frozenset({"USD"}), raw_cards=True, at=NOW)
    assert [(f.pointer, f.code) for f in caught.value.fields] == [(pointer, "card_number_in_text")]
    assert VISA not in caught.value.detail


@given(
    st.one_of(
        st.integers(max_value=0),
        st.integers(min_value=MAX_MINOR + 1),
        st.floats(),
        st.text(),
        st.booleans(),
        st.none(),
    )
)
def test_an_amount_must_be_a_positive_integer_within_the_limit(amount: Any) -> None:
    raw = msgspec.json.encode(
        {"amount": amount, "currency": "USD", "payment_method": {"type": "card", "card": CARD}}
    )
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(raw, type=CreatePayment)


def test_card_and_token_never_show_in_a_repr() -> None:
    shown = repr(body())
    assert VISA not in shown
    assert "907" not in shown
    assert "***" in shown
    token = {
        "type": "accept_token",
        "accept_token": {"data_descriptor": "d", "data_value": "secret"},
    }
    assert "secret" not in repr(body(payment_method=token))
    assert repr(CardBody(VISA, 12, 2030, "907")) == "CardBody(***)"
    assert "123456789" not in repr(body(**bank()))
    assert "121042882" not in repr(body(**bank()))


# Every text field of a request, by its pointer. Add new ones here.
TEXTS = {
    *(f"#/{name}" for name in DETAIL_FIELDS),
    *(f"#/customer/{name}" for name in Customer.__struct_fields__),
    *(f"#/billing_address/{name}" for name in BillingAddress.__struct_fields__),
    "#/payment_method/bank_account/name_on_account",
    "#/metadata/note", "#/metadata",
}  # fmt: skip


def with_text(pointer: str, text: str) -> CreatePayment:
    """Return a payment with `text` in that field, without the type's own checks."""
    *parts, name = pointer.removeprefix("#/").split("/")
    if pointer == "#/metadata":
        return msgspec.structs.replace(body(), metadata={text: "a key of the merchant's"})
    if parts == ["metadata"]:
        return msgspec.structs.replace(body(), metadata={name: text})
    if not parts:
        return msgspec.structs.replace(body(), **{name: text})
    if parts[0] == "payment_method":
        method = body(**bank()).payment_method
        assert isinstance(method, BankAccountMethod)
        account = msgspec.structs.replace(method.bank_account, name_on_account=text)
        return msgspec.structs.replace(body(), payment_method=BankAccountMethod(account))
    kind = {"customer": Customer, "billing_address": BillingAddress}[parts[0]]
    return msgspec.structs.replace(body(), **{parts[0]: kind(**{name: text})})


@pytest.mark.parametrize("pointer", sorted(TEXTS))
def test_no_text_of_a_request_may_hold_a_card_number(pointer: str) -> None:
    written = f"{VISA[:4]} {VISA[4:8]} {VISA[8:12]} {VISA[12:]}"
    assert refusals(with_text(pointer, written)) == [(pointer, "card_number_in_text")]
    assert refusals(with_text(pointer, "A1")) == []


@pytest.mark.parametrize("pointer", sorted(TEXTS - {"#/metadata/note", "#/metadata"}))
@pytest.mark.parametrize("sign", ["\x00", "\n", "\x1f", "\x7f", "\ud800"])
def test_no_text_that_is_forwarded_may_hold_a_control_character(pointer: str, sign: str) -> None:
    assert refusals(with_text(pointer, f"a{sign}b")) == [(pointer, "invalid")]


def test_every_text_field_is_listed_above() -> None:
    """Every field that is text, or contains text, has a pointer in TEXTS."""
    others = {"amount", "currency", "payment_method", "capture", "stored_credential"}
    listed = {pointer.split("/")[1] for pointer in TEXTS}
    assert listed | others == set(CreatePayment.__struct_fields__)
