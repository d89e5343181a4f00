"""Untrusted numbers, times and texts: a bad one from a client is refused with its field's name,
never a 500; any text from the processor is stored."""

import json
import time
from typing import Any

import pytest

from core.test_inputs import NO_MOMENTS
from easypay.card_numbers import contains_card_number
from harness import (
    ADMIN_KEY,
    QUICK,
    VISA,
    Gateway,
    Shop,
    Stack,
    card,
    http_client,
    payment_uuid,
    until,
)
from json_server import serving

ADMIN = {"authorization": f"Bearer {ADMIN_KEY}"}
LIMITS = ["", "0", "101", "-1", "0000000010000", "1e1", "1_0", " 5", "\u0665", "9" * 4000, "5\x00"]


async def test_a_bad_limit_or_time_is_named(shop: Shop) -> None:
    payment = await shop.paid()
    lists = ["/payments", *(f"/payments/{payment['id']}/{x}" for x in ("events", "refunds"))]
    asked = [(path, "limit", value) for path in lists for value in LIMITS]
    asked += [
        ("/payments", name, text) for name in ("created_from", "created_to") for text in NO_MOMENTS
    ]
    for path, name, value in asked:
        answer = await shop.client.get(path, params={name: value})
        assert answer.status_code == 422, (path, name, value[:40], answer.text)
        assert answer.json()["errors"][0]["pointer"] == f"?{name}"
    for name in ("created_from", "created_to"):
        for text in ("1970-01-01T00:00:00Z", "1970-02-01T00:00:00+14:00", "8999-12-31T23:59:59Z"):
            answer = await shop.client.get("/payments", params={name: text})
            assert answer.status_code == 200, (name, text, answer.text)


async def test_a_bad_admin_request_is_named_and_stores_nothing(
    shop: Shop, gateway: Gateway
) -> None:
    merchant = f"/api/v1/admin/merchants/mer_{shop.merchant_id.hex}"
    async with http_client(base_url=gateway.url, headers=ADMIN, timeout=10) as client:
        kept = (await client.get(f"{merchant}/keys")).json()
        orders: list[tuple[str, str, dict[str, Any], str]] = [
            ("POST", f"{merchant}/keys", {"mode": "test", "expires_at": text}, "#/expires_at")
            for text in (*NO_MOMENTS, "2020-01-01T00:00:00Z")
        ]
        for name in ("a\x00b", "a\nb", "", " ", "x" * 101, VISA, "4111/1111/1111/1111", "\uffff"):
            orders += [
                ("POST", f"{merchant}/keys", {"mode": "test", "name": name}, "#/name"),
                ("POST", "/api/v1/admin/merchants", {"name": name}, "#/name"),
                ("PATCH", merchant, {"name": name}, "#/name"),
            ]
        key = f"{merchant}/keys/{kept['data'][0]['id']}/rotate"
        for seconds in (-1, 10**9, 10**18, 10**30, 1.5, "60"):
            orders.append(("POST", key, {"overlap_seconds": seconds}, "#/overlap_seconds"))
        for login in ("a b", "a\x00b", "é", "\x1b", " ", "\ufeff"):
            body = {"login_id": login, "transaction_key": "k"}
            orders.append(("PUT", f"{merchant}/accounts/test", body, "#/login_id"))
            body = {"login_id": "l", "transaction_key": login}
            orders.append(("PUT", f"{merchant}/accounts/test", body, "#/transaction_key"))
        for method, path, body, pointer in orders:
            answer = await client.request(method, path, json=body)
            assert answer.status_code == 422, (path, body, answer.text)
            assert answer.json()["errors"][0]["pointer"] == pointer, (body, answer.text)
            assert VISA not in answer.text
        for raw in (rb'{"name": "\ud800"}', b'{"name": "\xff"}', b"[" * 60_000):
            kind = {"content-type": "application/json"}
            answer = await client.post("/api/v1/admin/merchants", content=raw, headers=kind)
            assert answer.status_code in (400, 422), answer.text
        assert (await client.get(f"{merchant}/keys")).json() == kept
        made = await client.post(
            f"{merchant}/keys", json={"mode": "test", "expires_at": "8999-12-31T23:59:59+14:00"}
        )
        assert made.status_code == 201, made.text
        secret = made.json()["secret"]
        used = await shop.client.get("/payments", headers={"authorization": f"Bearer {secret}"})
        assert used.status_code == 200, used.text


async def test_credentials_are_stored_unchanged(shop: Shop, gateway: Gateway) -> None:
    path = f"/api/v1/admin/merchants/mer_{shop.merchant_id.hex}/accounts/test"
    async with http_client(base_url=gateway.url, headers=ADMIN) as client:
        body = {"login_id": f"\ufeff{shop.login}\r\n", "transaction_key": " simulated-key-1\n"}
        answer = await client.put(path, json=body)
        assert answer.status_code == 204, answer.text
    assert (await shop.pay()).status_code == 201


HIDDEN = [
    f"{VISA[:4]}{s}{VISA[4:8]}{s}{VISA[8:12]}{s}{VISA[12:]}"
    for s in "/_,\t|\u2009\u2013\u200b\u00a0\u30fc"
]


@pytest.mark.parametrize("written", HIDDEN, ids=ascii)
async def test_card_numbers_are_refused_in_every_text_field(shop: Shop, written: str) -> None:
    good = {"amount": 100, "currency": "USD", "payment_method": card()}
    for more, pointer in (
        ({"metadata": {"a": written}}, "#/metadata/a"),
        ({"metadata": {"a": f"12 {written} 12/30"}}, "#/metadata/a"),
        ({"order_reference": written}, "#/order_reference"),
        ({"billing_address": {"city": written}}, "#/billing_address/city"),
        ({"metadata": {written: "a"}}, "#/metadata"),
    ):
        answer = await shop.post("/payments", {**good, **more}, key="hidden")
        assert answer.status_code == 422, (more, answer.text)
        codes = {(each["pointer"], each["code"]) for each in answer.json()["errors"]}
        control = "\t" in written
        assert (pointer, "card_number_in_text") in codes or (control and codes), (more, codes)
    if written.isascii() and written.isprintable():
        assert (await shop.post("/payments", good, key=written)).status_code == 400


async def test_refusals_are_short_and_quick(gateway: Gateway) -> None:
    """This holds without an API key, too."""
    root = gateway.url
    async with http_client(base_url=root, timeout=10) as client:
        for pattern in ("4111111111111111x", "1.", "4111-", "4 ", "\u0664"):
            text = (pattern * 12_000)[: 12_000 if pattern.isascii() else 2_000]
            began = time.monotonic()
            for answer in (
                await client.get("/" + text),
                await client.get("/api/v1/payments", params={text[:3000]: "1"}),
                await client.get("/x", headers={"traceparent": text.strip().encode()[:8001]}),
                await client.post("/api/v1/admin/merchants", json={text: 1}, headers=ADMIN),
            ):
                assert 400 <= answer.status_code < 500, (pattern, answer.status_code)
                assert len(answer.content) < 2500, (pattern, len(answer.content))
                assert VISA not in answer.text
            assert time.monotonic() - began < 2, pattern


async def test_a_trace_id_with_a_card_number_is_not_used(stack: Stack) -> None:
    gateway = await stack.gateway(**QUICK)
    async with http_client(base_url=gateway.url) as client:
        for trace in (VISA + "a" * 16, "0" * 16 + VISA, "a" + VISA + "1" * 15):
            headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
            answer = await client.get("/nowhere", headers=headers)
            assert "traceparent" not in answer.headers

    async def written() -> bool:
        return gateway.logs().count('"route":"none"') >= 3

    await until(written, what="the lines of log are written")
    assert VISA not in gateway.logs()


ODD_TEXTS = {
    "NUL": "This\\u0000transaction",
    "control": "a\\u001b[31m\\r\\nb\\u0085\\u2028",
    "half an emoji": "Caf\\ud83d",
    "emoji": "\\ud83c\\udf55" * 200,
    "card number": "4111\\u200b1111/1111/1111",
    "not a character": "\\uffff",
}


async def test_an_approval_with_odd_texts_is_recorded(stack: Stack) -> None:
    """The processor approves every payment, with odd texts in every field."""
    name = ""

    def approve(request: dict[str, Any]) -> bytes:
        reply = {
            "transactionResponse": {
                "responseCode": "1",
                "authCode": "@@",
                "avsResultCode": "\x00",
                "cvvResultCode": "@",
                "transId": "60001",
                "networkTransId": "@@",
                "accountNumber": "XXXX@@",
                "accountType": "@@",
                "messages": [{"code": "1", "description": "@@"}],
            },
            "refId": request["createTransactionRequest"]["refId"],
            "messages": {"resultCode": "Ok", "message": [{"code": "I00001", "text": "@@"}]},
        }
        return json.dumps(reply).replace("@@", ODD_TEXTS[name]).encode()

    async with serving(approve) as url:
        gateway = await stack.gateway(**QUICK, authorize_net_test_url=url)
        shop = await stack.shop(gateway)
        for name in ODD_TEXTS:
            answer = await shop.pay()
            assert answer.status_code == 201, (name, answer.text)
            assert answer.json()["status"] == "captured", (name, answer.text)
            payment = await shop.payment(answer.json()["id"])
            assert payment["status"] == "captured"
            [row] = await stack.fetch(
                "SELECT processor_message FROM payments WHERE id = $1", payment_uuid(payment["id"])
            )
            assert len(row["processor_message"] or "") <= 255
            assert not contains_card_number(row["processor_message"] or "")
        await shop.client.aclose()
