"""A bad body is refused with every bad field, in the API's words, without quoting values."""

import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from easypay.api import admin, validation
from easypay.errors import MAX_FIELDS, MalformedBody, ValidationFailed
from easypay.payments.requests import (
    CapturePayment,
    CreatePayment,
    RefundPayment,
    VoidPayment,
)
from harness import ADMIN_KEY, VISA, Gateway, Shop, card

GOOD: dict[str, Any] = {
    "amount": 2500,
    "currency": "USD",
    "capture": "manual",
    "payment_method": card(),
    "customer": {"reference": "c-1", "email": "ada@example.com", "ip_address": "203.0.113.7"},
    "billing_address": {"first_name": "Ada", "postal_code": "98004"},
    "order_reference": "order-1",
    "statement_descriptor": "SHOP",
    "metadata": {"a": "b"},
    "stored_credential": {"initiator": "customer", "first": True},
}
BODIES: list[tuple[type, dict[str, Any]]] = [
    (CreatePayment, GOOD),
    (CreatePayment, {**GOOD, "payment_method": {
        "type": "bank_account",
        "bank_account": {"account_type": "checking", "routing_number": "121042882",
                         "account_number": "123456789", "name_on_account": "Ada"}}}),
    (CapturePayment, {"amount": 1}),
    (RefundPayment, {"amount": 1}),
    (VoidPayment, {}),
    (admin.CreateMerchant, {"name": "a", "currencies": ["USD"], "allow_raw_cards": True}),
    (admin.UpdateMerchant, {"name": None, "currencies": None, "disabled": False}),
    (admin.SetAccount, {"login_id": "a", "transaction_key": "b"}),
    (admin.CreateKey, {"mode": "test", "name": "a", "scopes": ["payments:read"],
                       "expires_at": "2027-01-31T00:00:00Z"}),
    (admin.RotateKey, {"overlap_seconds": 1}),
]  # fmt: skip


def refused(body: Any, kind: type = CreatePayment) -> ValidationFailed:
    found = validation.refusal(json.dumps(body).encode(), kind)
    assert isinstance(found, ValidationFailed), found
    return found


@pytest.mark.parametrize(
    ("over", "detail"),
    [
        ({"amount": 25.5}, "amount must be an integer in minor units, such as 2500 for 25.00."),
        ({"amount": "2500"}, "amount must be an integer in minor units, such as 2500 for 25.00."),
        ({"amount": None}, "amount must be an integer in minor units, such as 2500 for 25.00."),
        ({"amount": 0}, "amount must be an integer from 1 to 99999999999."),
        ({"currency": 840}, "currency must be an ISO 4217 code, such as USD."),
        ({"capture": "later"}, 'capture must be "automatic" or "manual".'),
        ({"customer": "me"}, "customer must be an object."),
        ({"metadata": {"a": 1}}, "metadata.a must be text of at most 500 characters."),
        ({"metadata": {"a": "x" * 501}}, "metadata.a must have at most 500 characters, and has "
                                         "501."),
        ({"description": ""}, "description must not be empty."),
        ({"descripton": "x"}, "descripton is not a field of this call; did you mean description?"),
        ({"colour": "x"}, "colour is not a field of this call."),
        ({"payment_method": {"type": "cash"}},
         'payment_method.type must be "accept_token", "bank_account", "card" or "stored".'),
        ({"payment_method": {}},
         'payment_method.type is missing: send "accept_token", "bank_account", "card" or '
         '"stored".'),
        ({"payment_method": card(exp_month=13)},
         "payment_method.card.exp_month must be an integer from 1 to 12."),
        ({"payment_method": card(cvc=907)}, "payment_method.card.cvc must be text of 3 or 4 "
                                            "digits."),
    ],
)  # fmt: skip
def test_a_problem_uses_the_words_of_the_api(over: dict[str, Any], detail: str) -> None:
    error = refused({**GOOD, **over})
    assert [field.detail for field in error.fields] == [detail]
    assert error.detail == detail


async def test_broken_types_and_rules_are_named_together(shop: Shop) -> None:
    """One answer names both, and no field that only seems wrong because its neighbour is."""
    method = card("4111111111111112", exp_month="x", cvc="9999")
    body = {"amont": 1, "currency": "EUR", "payment_method": method, "customer_reference": "a",
            "customer": {"reference": "b" * 21, "email": "c"}, "description": VISA}  # fmt: skip
    answer = await shop.post("/payments", body)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "validation_failed")
    assert {(error["pointer"], error["code"]) for error in problem["errors"]} == {
        ("#/amount", "missing"),
        ("#/amont", "unknown_field"),
        ("#/currency", "currency_not_accepted"),
        ("#/payment_method/card/number", "invalid_card_number"),
        ("#/payment_method/card/exp_month", "invalid"),
        ("#/payment_method/card/cvc", "invalid_cvc"),
        ("#/customer/reference", "too_long"),
        ("#/customer/email", "invalid"),
        ("#/description", "card_number_in_text"),
    }
    assert all(error["detail"] in problem["detail"] for error in problem["errors"])
    assert VISA not in answer.text
    assert "4111111111111112" not in answer.text


async def test_admin_bodies_are_refused_in_the_same_words(gateway: Gateway, shop: Shop) -> None:
    body = {"nmae": "x", "currencies": "USD", "allow_raw_cards": 1}
    answer = await shop.client.post(
        "/admin/merchants", json=body, headers={"authorization": f"Bearer {ADMIN_KEY}"}
    )
    assert answer.status_code == 422
    assert [error["detail"] for error in answer.json()["errors"]] == [
        "name is missing.",
        "currencies must be a list.",
        "allow_raw_cards must be true or false.",
        "nmae is not a field of this call; did you mean name?",
    ]


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["USD", "2027-01-31T00:00:00Z", "card", 2500, VISA]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=50), inner,
                                                                max_size=3),
    max_leaves=5,
)  # fmt: skip


@given(number=st.integers(0, len(BODIES) - 1), data=st.data())
def test_it_finds_a_problem_exactly_if_decoding_fails(number: int, data: st.DataObject) -> None:
    """Some fields, at any depth, are removed, added or replaced by anything."""
    kind, good = BODIES[number]
    body = json.loads(json.dumps(good))
    for _ in range(data.draw(st.integers(1, 3))):
        at = body
        while inner := [v for v in at.values() if isinstance(v, dict) and data.draw(st.booleans())]:
            at = inner[0]
        name = data.draw(st.sampled_from([*at, "nmae"]) if at else st.just("nmae"))
        if data.draw(st.booleans()):
            at.pop(name, None)
        else:
            at[name] = data.draw(junk)
    sent = json.dumps(body).encode()
    try:
        msgspec.json.decode(sent, type=kind)
        good_body = True
    except msgspec.ValidationError:
        good_body = False
    found = validation.refusal(sent, kind)
    assert isinstance(found, ValidationFailed)
    at_all = [field.detail for field in found.fields] == ["The body is not valid for this call."]
    assert at_all is good_body, (body, [field.detail for field in found.fields])
    for field in found.fields:
        assert field.code in ("missing", "unknown_field", "invalid", "too_long", "too_many")


@pytest.mark.parametrize(
    "body",
    [
        b'{"amount": ' + b"[" * 60_000,
        b'{"amount": "x", ',
        b'{"amount": 1' + b"0" * 60_000,
        b'{"amount": "x", "b": "\xff"}',
    ],
)
def test_a_body_that_only_begins_as_json_is_malformed(body: bytes) -> None:
    assert isinstance(validation.refusal(body, CreatePayment), MalformedBody)


@pytest.mark.parametrize(
    "body",
    [
        {**GOOD, **{f"field_{n}": n for n in range(4_000)}},
        {**GOOD, "metadata": {f"key {n}": n for n in range(4_000)}},
        {**GOOD, "metadata": {f"k{n}": n for n in range(50)}},
        {**GOOD, "x" * 60_000: 1},
        {**GOOD, "amount": "9" * 60_000},
        {**GOOD, "currency": [[]] * 9_000},
    ],
)
def test_the_refusal_of_a_large_bad_body_is_quick_and_short(body: dict[str, Any]) -> None:
    begun = time.process_time()
    error = refused(body)
    assert time.process_time() - begun < 0.25
    assert 1 <= len(error.fields) <= MAX_FIELDS
    assert len(error.detail) < 4_000


def test_a_problem_quotes_no_value_and_no_card_number() -> None:
    error = refused({VISA: 1, "metadata": {VISA: 1}, "amount": VISA, "payment_method": card(4)})
    text = " ".join(f"{field.pointer} {field.detail}" for field in error.fields)
    assert VISA not in text


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b'"\xff"', "it is not valid UTF-8."),
        (b'"\xed\xa0\x80"', "it is not valid UTF-8."),
        (b"1" + b"0" * 60_000, "Integer value out of range."),
        (b"1e999", "Number out of range."),
    ],
)
async def test_invalid_json_gets_a_plain_explanation(shop: Shop, value: bytes, reason: str) -> None:
    for body in (b'{"description": %b}' % value, b'{"amount": %b}' % value):
        problem = (await shop.send("/payments", body)).json()
        assert problem["detail"] == f"The body is not JSON: {reason}", body[:40]
