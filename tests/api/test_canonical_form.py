"""Fingerprints are kept for weeks and compared by gateways of other versions."""

import json
from typing import Any

import msgspec
import pytest

from easypay.api.http import Request
from easypay.api.idempotency import canonical_payment
from easypay.payments.requests import CreatePayment

CARD = {"number": "4111111111111111", "exp_month": 12, "exp_year": 2035, "cvc": "900"}
BODY: dict[str, Any] = {
    "stored_credential": {"initiator": "customer", "first": True},
    "metadata": {"b": "2", "a": "1"},
    "statement_descriptor": "CHAIRS",
    "description": "Two chairs",
    "order_reference": "order-1",
    "customer_reference": "c-1",
    "billing_address": {"postal_code": "97201", "line1": "1 Street"},
    "customer": {"email": "ada@example.com"},
    "capture": "manual",
    "currency": "USD",
    "amount": 2500,
    "payment_method": {"type": "card", "card": CARD},
}
FORM = (
    b'{"amount":2500,"currency":"USD","payment_method":{"type":"card","card":{"number":'
    b'"4111111111111111","exp_month":12,"exp_year":2035,"cvc":null}},"capture":"manual","customer":'
    b'{"email":"ada@example.com"},"customer_reference":"c-1","billing_address":{"line1":"1 Street",'
    b'"postal_code":"97201"},"order_reference":"order-1","description":"Two chairs",'
    b'"statement_descriptor":"CHAIRS","metadata":{"a":"1","b":"2"},"stored_credential":'
    b'{"initiator":"customer","first":true}}'
)
WORDS = [*BODY]


def form_of(body: dict[str, Any]) -> bytes:
    raw = json.dumps(body).encode()
    request = Request("POST", "/api/v1/payments", {}, {}, b"", raw, "id")
    return canonical_payment(request, msgspec.json.decode(raw, type=CreatePayment))


@pytest.mark.parametrize("order", [WORDS, WORDS[::-1]], ids=["one order", "the other"])
def test_a_request_keeps_its_canonical_form_in_every_version(order: list[str]) -> None:
    """If it changed, a repeat after an upgrade would be refused as another request."""
    assert form_of({name: BODY[name] for name in order}) == FORM


def test_omitted_fields_and_defaults_are_the_same_request() -> None:
    least = {name: BODY[name] for name in ("amount", "currency", "payment_method")}
    assert form_of(least) == form_of({**least, "capture": "automatic"})
    assert form_of(least) == FORM[: FORM.index(b',"capture"')] + b"}"
