"""Ambiguous requests are refused: the gateway guesses nothing."""

import json
from typing import Any, get_args

import msgspec
import pytest

from easypay.api.repeated_fields import SINGLE
from easypay.payments.requests import CreatePayment
from harness import VISA, Gateway, Shop, Stack, assert_nothing_was_done, audit, card
from raw import chunked, dial, post

GOOD: dict[str, Any] = {"amount": 2500, "currency": "USD", "payment_method": card()}
BODY = json.dumps(GOOD).encode()


@pytest.mark.parametrize(
    "lines",
    [
        ("Idempotency-Key: one", "Idempotency-Key: two"),
        ("Idempotency-Key: one", "idempotency-key: one"),
        ("Idempotency-Key: one", "Authorization: Bearer other"),
        ("Idempotency-Key: one", "Content-Type: application/json"),
        ("Idempotency-Key: one", "Host: shop"),
        ("Idempotency-Key: one", 'If-Match: "v1"', 'If-Match: "v2"'),
    ],
)
async def test_a_header_that_must_be_single_is_named(
    shared_stack: Stack, gateway: Gateway, shop: Shop, lines: tuple[str, ...]
) -> None:
    async with dial(gateway) as line:
        line.writer.write(post("/payments", shop.secret, BODY, *lines))
        status, headers, body = await line.answer()
    problem = json.loads(body)
    assert status == b"HTTP/1.1 400 Bad Request"
    assert headers[b"connection"] == b"close"
    assert problem["code"] == "malformed_request"
    assert lines[-1].partition(":")[0].lower() in problem["detail"]
    await assert_nothing_was_done(shared_stack, shop)


async def test_list_headers_may_have_several_lines(gateway: Gateway, shop: Shop) -> None:
    payment = await shop.paid()
    get = (
        f"GET /api/v1/payments/{payment['id']} HTTP/1.1\r\nHost: shop\r\n"
        f"Authorization: Bearer {shop.secret}\r\nAccept: a/b\r\nAccept: c/d\r\nX-A: 1\r\nX-A: 2\r\n"
        "Via: 1.1 a\r\nVia: 1.1 b\r\n"
    )
    trace = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
    async with dial(gateway) as line:
        line.writer.write(f"{get}{trace}\r\n{get}{trace}{trace}\r\n".encode())
        _, headers, _ = await line.answer()
        assert headers[b"traceparent"].startswith(b"00-0af7651916cd43dd8448eb211c80319c-")
        status, headers, _ = await line.answer()
        assert status == b"HTTP/1.1 200 OK"
        assert b"traceparent" not in headers  # ignored because there were two


def test_every_header_that_the_gateway_reads_must_be_single() -> None:
    assert {b"idempotency-key", b"authorization", b"content-type", b"if-match", b"host"} <= SINGLE
    assert SINGLE.isdisjoint({b"accept", b"via", b"forwarded", b"x-forwarded-for", b"connection"})


LENGTH = f"Content-Length: {len(BODY)}"


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        (("Content-Length: 5",), BODY),
        (("Content-Length: 5", LENGTH), BODY),
        ((LENGTH, LENGTH), BODY),
        ((f"Content-Length: {len(BODY)}, {len(BODY)}",), BODY),
        (("Content-Length: -1",), BODY),
        (("Content-Length: 0x10",), BODY),
        (("Content-Length: 99999999999999999999999",), BODY),
        (("Transfer-Encoding: chunked", LENGTH), chunked(BODY)),
        ((LENGTH, "Transfer-Encoding: chunked"), chunked(BODY)),
        (("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), chunked(BODY)),
        (("Transfer-Encoding: gzip",), BODY),
        (("Transfer-Encoding: identity",), BODY),
        (("Transfer-Encoding: gzip, chunked",), chunked(BODY)),
        (("Transfer-Encoding: chunked, gzip",), chunked(BODY)),
        (("Transfer-Encoding: xchunked",), chunked(BODY)),
        (("Transfer-Encoding: chunked",), b"5\r\nabcdefgh\r\n0\r\n\r\n"),
    ],
)
@pytest.mark.parametrize("upgrade", [(), ("Connection: upgrade", "Upgrade: h2c")])
async def test_a_body_of_ambiguous_length_is_refused(
    shared_stack: Stack,
    gateway: Gateway,
    shop: Shop,
    lines: tuple[str, ...],
    body: bytes,
    upgrade: tuple[str, ...],
) -> None:
    head = (
        "POST /api/v1/payments HTTP/1.1",
        "Host: shop",
        f"Authorization: Bearer {shop.secret}",
        "Content-Type: application/json",
        "Idempotency-Key: doubtful",
        *upgrade,
        *lines,
    )
    async with dial(gateway) as line:
        line.writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        status, _, problem = await line.answer()
    assert status == b"HTTP/1.1 400 Bad Request"
    code = json.loads(problem)["code"]
    assert code in ("malformed_request", "malformed_body")
    await assert_nothing_was_done(shared_stack, shop)


@pytest.mark.parametrize(
    "length", [f"{'0' * 5_000}{len(BODY)}", f"{len(BODY)} ", f"\t{len(BODY)} \t"]
)
@pytest.mark.parametrize("upgrade", [(), ("Connection: upgrade", "Upgrade: h2c")])
async def test_a_length_with_leading_zeros_is_accepted(
    gateway: Gateway, shop: Shop, length: str, upgrade: tuple[str, ...]
) -> None:
    head = post("/payments", shop.secret, b"", *upgrade, key="at-length")
    head = head.replace(b"Content-Length: 0", f"Content-Length: {length}".encode())
    async with dial(gateway) as line:
        line.writer.write(head + BODY + b"GET /livez HTTP/1.1\r\nHost: shop\r\n\r\n")
        assert (await line.json_answer())[0] == 201
        assert (await line.answer())[2] == b"alive\n"


async def test_a_target_without_a_path_gets_a_clear_problem(gateway: Gateway) -> None:
    async with dial(gateway) as line:
        line.writer.write(b"GET http://shop HTTP/1.1\r\nHost: shop\r\n\r\n")
        status, problem = await line.json_answer()
    assert (status, problem["code"]) == (400, "malformed_request")
    assert "its target" in problem["detail"]


async def test_a_trailer_is_not_a_header(shared_stack: Stack, gateway: Gateway, shop: Shop) -> None:
    body = chunked(BODY)[:-2] + b"Idempotency-Key: from-a-trailer\r\n\r\n"
    async with dial(gateway) as line:
        line.writer.write(post("/payments", shop.secret, body, "Transfer-Encoding: chunked"))
        status, problem = await line.json_answer()
        assert (status, problem["code"]) == (400, "idempotency_key_missing")
        more = ("Transfer-Encoding: chunked", "Idempotency-Key: mine")
        line.writer.write(post("/payments", shop.secret, body, *more))
        status, _ = await line.json_answer()
        assert status == 201
    assert (await shop.client.get("/idempotency-keys/mine")).status_code == 200
    assert await audit(shared_stack, shop) == []


def twice(body: dict[str, Any], *path: str, first: str = "1") -> str:
    """Return the body with the key at `path` twice: `first` before the one already there."""
    text = json.dumps(body)
    name = json.dumps(path[-1])
    at = 0
    for part in path:
        at = text.index(json.dumps(part) + ":", at)
    return text[:at] + f"{name}: {first}, " + text[at:]


RICH = GOOD | {
    "description": "null:null, 12:30",
    "capture": "automatic",
    "metadata": {"a": "x:y", "b/c": ":", "null": ":null"},
    "customer": {"reference": "c:1"},
}


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        (twice(GOOD, "amount"), "#/amount"),
        (twice(GOOD, "amount", first="2500"), "#/amount"),
        (twice(GOOD, "currency", first='"a:b"'), "#/currency"),
        (twice(GOOD, "payment_method", first=json.dumps(card())), "#/payment_method"),
        (twice(GOOD, "payment_method", "card", "number", first=f'"{VISA}"'),
         "#/payment_method/card/number"),
        (twice(GOOD, "payment_method", "type", first='"card"'), "#/payment_method/type"),
        (twice(RICH, "metadata", "a", first='"z"'), "#/metadata/a"),
        (twice(RICH, "metadata", "b/c", first='":"'), "#/metadata/b~1c"),
        (twice(RICH, "metadata", first="{}"), "#/metadata"),
        (twice(RICH, "customer", "reference", first='"c"'), "#/customer/reference"),
        (twice(RICH, "capture", first='"manual"'), "#/capture"),
        # A key written with escapes is the same key.
        (twice(GOOD, "amount").replace('"amount"', '"amoun\\u0074"', 1), "#/amount"),
        (twice({**GOOD, "description": "::"}, "amount").replace("::", "\\u003a" * 2), "#/amount"),
        # Null or omitted optional fields must not offset a doubled key.
        (twice({**GOOD, "payment_method": card(cvc=None)}, "amount"), "#/amount"),
        (twice(GOOD, "amount").replace(', "cvc": "907"', ""), "#/amount"),
        ('{"description": "a", "description": null, ' + json.dumps(GOOD)[1:], "#/description"),
        ('{"description": null, "description": null, ' + json.dumps(GOOD)[1:], "#/description"),
    ],
)  # fmt: skip
async def test_a_key_given_twice_is_named(
    shared_stack: Stack, shop: Shop, text: str, pointer: str
) -> None:
    answer = await shop.send("/payments", text)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "validation_failed"), answer.text
    assert (problem["errors"][0]["pointer"], problem["errors"][0]["code"]) == (
        pointer,
        "duplicate_key",
    )
    assert VISA not in answer.text
    await assert_nothing_was_done(shared_stack, shop)


async def test_a_key_given_twice_is_named_even_if_one_of_them_is_invalid(shop: Shop) -> None:
    for first, second in ((b"1.5", b"100"), (b"100", b"1.5")):
        body = BODY.replace(b'"amount": 2500', b'"amount": %b, "amount": %b' % (first, second))
        answer = await shop.send("/payments", body)
        errors = [(each["pointer"], each["code"]) for each in answer.json()["errors"]]
        assert (answer.status_code, errors) == (422, [("#/amount", "duplicate_key")])
    deep = b'{"x":' + b"[" * 960 + b"]" * 960 + b"}"
    answer = await shop.send("/payments", deep)
    assert answer.status_code in (400, 422), answer.text


async def test_a_refund_with_two_amounts_is_refused(shop: Shop) -> None:
    payment = await shop.paid(2500)
    for text in ('{"amount": 1, "amount": 2500}', '{"amount": 1, "\\u0061mount": 2}'):
        for call in ("refunds", "capture"):
            answer = await shop.send(f"/payments/{payment['id']}/{call}", text)
            assert answer.status_code == 422
            assert answer.json()["errors"][0]["pointer"] == "#/amount"
    assert (await shop.payment(payment["id"]))["refunded_amount"] == 0


async def test_texts_full_of_colons_and_escapes_are_accepted(shop: Shop) -> None:
    answer = await shop.post("/payments", RICH)
    assert answer.status_code == 201, answer.text
    assert answer.json()["metadata"] == RICH["metadata"]
    text = json.dumps(RICH).replace(":null", "\\u003anull").replace("x:y", "\\u0078\\u003ay")
    answer = await shop.send("/payments", text)
    assert answer.status_code == 201, answer.text
    assert answer.json()["metadata"] == RICH["metadata"]


def structs_of(kind: Any) -> set[type[msgspec.Struct]]:
    """Return all structs within a type, at any depth."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        inner = [structs_of(field.type) for field in msgspec.structs.fields(kind)]
        return {kind}.union(*inner)
    return set().union(*(structs_of(part) for part in get_args(kind)))


def test_encoding_a_struct_writes_no_omitted_key() -> None:
    """The quick check for doubled keys relies on it: defaults are omitted or null."""
    found = structs_of(CreatePayment)
    assert len(found) >= 9
    for kind in found:
        defaults = [f.default for f in msgspec.structs.fields(kind) if not f.required]
        omits = kind.__struct_config__.omit_defaults
        assert omits or all(default is None for default in defaults), kind


@pytest.mark.parametrize("call", ["capture", "refunds"])
async def test_no_money_moves_without_a_body(shop: Shop, call: str) -> None:
    """No body and an empty one are refused; `{}` means the whole remaining amount."""
    payment = await shop.paid(capture="manual" if call == "capture" else "automatic")
    for content, content_type in ((None, None), (b"", "application/json"), (b" ", "text/plain")):
        headers = {"idempotency-key": "silence"} | (
            {} if content_type is None else {"content-type": content_type}
        )
        answer = await shop.client.post(
            f"/payments/{payment['id']}/{call}", content=content, headers=headers
        )
        assert answer.status_code in (400, 415)
        assert content or answer.json()["code"] == "malformed_body"
    assert (await shop.payment(payment["id"]))["version"] == payment["version"]
    done = await shop.post(f"/payments/{payment['id']}/{call}", {}, key="silence")
    assert done.status_code == 201, done.text
    assert done.json().get("captured_amount", done.json().get("amount")) == 2500


async def test_a_void_needs_no_body(shop: Shop) -> None:
    payment = await shop.paid()
    answer = await shop.client.post(
        f"/payments/{payment['id']}/void", headers={"idempotency-key": "no-body"}
    )
    assert (answer.status_code, answer.json()["status"]) == (201, "voided")
