"""Bad input gets a clear problem that names the field, and leaves nothing behind."""

import json
from typing import Any

import pytest

from harness import VISA, Shop, Stack, assert_nothing_was_done, card

pytestmark = pytest.mark.over("simulated", "recorded")
GOOD: dict[str, Any] = {"amount": 2500, "currency": "USD", "payment_method": card()}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


FIELDS: list[tuple[str, dict[str, Any], str, str]] = [
    ("no amount", without("amount"), "#/amount", "missing"),
    ("no currency", without("currency"), "#/currency", "missing"),
    ("no method", without("payment_method"), "#/payment_method", "missing"),
    ("zero", {**GOOD, "amount": 0}, "#/amount", "invalid"),
    ("negative", {**GOOD, "amount": -1}, "#/amount", "invalid"),
    ("fractional", {**GOOD, "amount": 25.5}, "#/amount", "invalid"),
    ("whole float", {**GOOD, "amount": 25.0}, "#/amount", "invalid"),
    ("string", {**GOOD, "amount": "2500"}, "#/amount", "invalid"),
    ("too large", {**GOOD, "amount": 100_000_000_000}, "#/amount", "invalid"),
    ("enormous", {**GOOD, "amount": 10**40}, "#/amount", "invalid"),
    ("bool", {**GOOD, "amount": True}, "#/amount", "invalid"),
    ("no such currency", {**GOOD, "currency": "XXX"}, "#/currency", "unknown_currency"),
    ("lower case", {**GOOD, "currency": "usd"}, "#/currency", "unknown_currency"),
    ("not ours", {**GOOD, "currency": "EUR"}, "#/currency", "currency_not_accepted"),
    ("unknown field", {**GOOD, "amonut": 1}, "#/amonut", "unknown_field"),
    ("tenant smuggled in", {**GOOD, "merchant_id": "mer_1"}, "#/merchant_id", "unknown_field"),
    ("capture", {**GOOD, "capture": "later"}, "#/capture", "invalid"),
    (
        "method type",
        {**GOOD, "payment_method": {"type": "cash"}},
        "#/payment_method/type",
        "invalid",
    ),
    (
        "luhn",
        {**GOOD, "payment_method": card("4111111111111112")},
        "#/payment_method/card/number",
        "invalid_card_number",
    ),
    (
        "letters",
        {**GOOD, "payment_method": card("4111-1111-1111-1111")},
        "#/payment_method/card/number",
        "invalid",
    ),
    (
        "expired",
        {**GOOD, "payment_method": card(exp_year=2020)},
        "#/payment_method/card/exp_year",
        "expired_card",
    ),
    (
        "month",
        {**GOOD, "payment_method": card(exp_month=13)},
        "#/payment_method/card/exp_month",
        "invalid",
    ),
    (
        "four digits on a visa",
        {**GOOD, "payment_method": card(cvc="1234")},
        "#/payment_method/card/cvc",
        "invalid_cvc",
    ),
    (
        "card number in a text",
        {**GOOD, "description": f"paid with {VISA}"},
        "#/description",
        "card_number_in_text",
    ),
    (
        "card number in metadata",
        {**GOOD, "metadata": {"a/b": "4111 1111 1111 1111"}},
        "#/metadata/a~1b",
        "card_number_in_text",
    ),
    ("NUL", {**GOOD, "description": "a\u0000b"}, "#/description", "invalid"),
    (
        "line break",
        {**GOOD, "billing_address": {"city": "A\r\nB"}},
        "#/billing_address/city",
        "invalid",
    ),
    ("DEL", {**GOOD, "customer": {"reference": "a\x7f"}}, "#/customer/reference", "invalid"),
    ("long", {**GOOD, "order_reference": "x" * 65}, "#/order_reference", "too_long"),
    ("line end of a key", {**GOOD, "metadata": {"a\n": "b"}}, "#/metadata/a\n", "invalid"),
    (
        "line end of a token",
        {
            **GOOD,
            "payment_method": {
                "type": "accept_token",
                "accept_token": {"data_descriptor": "a", "data_value": "b\n"},
            },
        },
        "#/payment_method/accept_token/data_value",
        "invalid",
    ),
    ("metadata type", {**GOOD, "metadata": {"a": 1}}, "#/metadata/a", "invalid"),
    ("email", {**GOOD, "customer": {"email": "nobody"}}, "#/customer/email", "invalid"),
]


@pytest.mark.parametrize(
    ("body", "pointer", "code"), [row[1:] for row in FIELDS], ids=[row[0] for row in FIELDS]
)
async def test_a_bad_field_is_named(
    shop: Shop, shared_stack: Stack, body: dict[str, Any], pointer: str, code: str
) -> None:
    answer = await shop.post("/payments", body, key="bad")
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "validation_failed"), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert (problem["errors"][0]["pointer"], problem["errors"][0]["code"]) == (pointer, code)
    assert problem["status"] == 422
    assert problem["request_id"] == answer.headers["request-id"]
    assert VISA not in answer.text
    await assert_nothing_was_done(shared_stack, shop)
    # The key is still free: the corrected request may use it.
    assert (await shop.post("/payments", GOOD, key="bad")).status_code == 201


async def test_texts_that_look_like_a_card_only_side_by_side_are_accepted(shop: Shop) -> None:
    half = VISA[:8]
    body = {**GOOD, "order_reference": half, "customer_reference": VISA[8:]}
    body |= {"metadata": {"note": "two\nlines", half: VISA[8:]}, "description": "soft\u00adhyphen"}
    answer = await shop.post("/payments", body)
    assert answer.status_code == 201, answer.text
    assert answer.json()["metadata"] == body["metadata"]


async def test_every_bad_field_is_named_at_once(shop: Shop) -> None:
    body = {**GOOD, "currency": "EUR", "payment_method": card("4111111111111112", exp_year=2020)}
    errors = (await shop.post("/payments", body)).json()["errors"]
    assert {error["code"] for error in errors} == {
        "currency_not_accepted",
        "invalid_card_number",
        "expired_card",
    }


@pytest.mark.parametrize(
    ("content", "content_type", "status", "code"),
    [
        (b'{"amount": 1', "application/json", 400, "malformed_body"),
        (b"", "application/json", 400, "malformed_body"),
        (b"\xff\xfe", "application/json", 400, "malformed_body"),
        (b"[]", "application/json", 422, "validation_failed"),
        (b"null", "application/json", 422, "validation_failed"),
        (json.dumps(GOOD).encode(), "text/plain", 415, "unsupported_media_type"),
        (json.dumps(GOOD).encode(), "application/jsonp", 415, "unsupported_media_type"),
        (json.dumps(GOOD).encode(), "application/json-patch+json", 415, "unsupported_media_type"),
        (json.dumps(GOOD).encode(), "application/xml", 415, "unsupported_media_type"),
        (b'{"x":"' + b"y" * 65_536 + b'"}', "application/json", 413, "body_too_large"),
    ],
)  # fmt: skip
async def test_a_bad_body_is_refused(
    shop: Shop, shared_stack: Stack, content: bytes, content_type: str, status: int, code: str
) -> None:
    answer = await shop.send("/payments", content, kind=content_type)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    await assert_nothing_was_done(shared_stack, shop)


async def test_a_body_without_a_length_is_refused_at_the_limit(shop: Shop) -> None:
    async def endless():  # type: ignore[no-untyped-def]
        yield b'{"x":"'
        for _ in range(40):
            yield b"y" * 4096

    answer = await shop.send("/payments", endless())
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "idempotency_key_missing"),
        ({"idempotency-key": ""}, "idempotency_key_invalid"),
        ({"idempotency-key": "x" * 256}, "idempotency_key_invalid"),
        ({"idempotency-key": VISA}, "idempotency_key_invalid"),
    ],
)
async def test_a_money_request_needs_a_valid_key(
    shop: Shop, shared_stack: Stack, headers: dict[str, str], code: str
) -> None:
    for path in ("/payments", "/payments/pay_0/capture", "/payments/pay_0/refunds"):
        answer = await shop.client.post(path, json=GOOD, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, code)
    await assert_nothing_was_done(shared_stack, shop)


async def test_card_numbers_are_refused_if_the_merchant_accepts_only_tokens(
    shared_stack: Stack, gateway: Any
) -> None:
    tokens_only = await shared_stack.shop(gateway, raw_cards=False)
    answer = await tokens_only.pay()
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["code"] == "raw_cards_not_allowed"
    assert "`easypay merchant update mer_… --allow-raw-cards`" in error["detail"]
    await assert_nothing_was_done(shared_stack, tokens_only)


@pytest.mark.parametrize(
    "path",
    [
        "/payments?limit=0",
        "/payments?limit=101",
        "/payments?limit=ten",
        "/payments?offset=2",
        "/payments?cursor=abc",
        "/payments?cursor=%00",
        "/payments?created_from=yesterday",
        "/payments?created_from=2026-01-01T00:00:00",
        "/payments?limit=1&limit=2",
    ],
)
async def test_a_bad_query_parameter_is_named(shop: Shop, path: str) -> None:
    answer = await shop.client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert answer.json()["errors"][0]["pointer"].startswith("?")


async def test_unknown_paths_and_methods_are_refused(shop: Shop) -> None:
    nowhere = await shop.client.get("/nothing")
    assert (nowhere.status_code, nowhere.json()["code"]) == (404, "not_found")
    wrong = await shop.client.delete("/payments")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "GET, HEAD, POST"
