"""A shop's ordinary day, and the processor's records afterwards."""

import pytest

from harness import AMEX, MASTERCARD, Gateway, Shop, Stack, audit, card, mint_token

pytestmark = pytest.mark.over("simulated", "recorded")


async def test_a_payment_is_taken_once_and_shown_as_it_is(shared_stack: Stack, shop: Shop) -> None:
    answer = await shop.pay(
        2599,
        order_reference="order-1001",
        customer={"reference": "c-7", "email": "ada@example.com", "ip_address": "192.0.2.7"},
        billing_address={"first_name": "Ada", "line1": "1 Main St", "postal_code": "62701"},
        description="Two books",
        metadata={"cart": "17"},
    )
    payment = answer.json()

    assert answer.status_code == 201
    assert answer.headers["location"] == f"/api/v1/payments/{payment['id']}"
    assert {"begin;dur", "processor;dur", "record;dur"} <= {
        part.split("=")[0].strip() for part in answer.headers["server-timing"].split(",")
    }
    assert payment["status"] == "captured"
    assert (payment["amount"], payment["captured_amount"], payment["refunded_amount"]) == (
        2599,
        2599,
        0,
    )
    assert payment["payment_method"] == {
        "type": "card",
        "brand": "visa",
        "last4": "1111",
        "exp_month": 12,
        "exp_year": 2035,
    }
    assert payment["order_reference"] == "order-1001"
    assert payment["customer_reference"] == "c-7"
    assert payment["metadata"] == {"cart": "17"}
    assert payment["mode"] == "test"
    assert payment["processor"]["name"] == "authorize_net"
    assert payment["processor"]["avs_result"] == "Y"
    assert payment == await shop.payment(payment["id"])

    (row,) = await shared_stack.simulator.truth(login=shop.login)
    assert row["trans_id"] == payment["processor"]["transaction_id"]
    assert (row["type"], row["amount"]) == ("authCaptureTransaction", "25.99")
    assert await audit(shared_stack, shop) == []


@pytest.mark.parametrize(
    ("number", "cvc", "brand"),
    [
        (MASTERCARD, "900", "mastercard"),
        (AMEX, "9000", "amex"),
        ("6011000000000012", "900", "discover"),
    ],
)
async def test_brands_are_recognised(shop: Shop, number: str, cvc: str, brand: str) -> None:
    payment = await shop.paid(payment_method=card(number, cvc=cvc))
    assert payment["payment_method"]["brand"] == brand
    assert payment["payment_method"]["last4"] == number[-4:]


async def test_a_decline_is_an_outcome(shared_stack: Stack, shop: Shop) -> None:
    answer = await shop.pay(billing_address={"postal_code": "46282"})
    payment = answer.json()
    assert answer.status_code == 201
    assert (payment["status"], payment["captured_amount"]) == ("declined", 0)
    assert payment["decline_code"] == "generic_decline"
    assert payment["processor"]["code"] == "2"
    refused = await shop.refund(payment["id"])
    assert (refused.status_code, refused.json()["code"]) == (409, "invalid_state")
    assert await audit(shared_stack, shop) == []


async def test_a_refusal_by_the_processor_is_a_problem_that_replays(
    shared_stack: Stack, gateway: Gateway
) -> None:
    """JPY at an account that the processor allows USD only: reason 39, and no money moved."""
    odd = await shared_stack.shop(gateway, currencies=("USD",))
    await shared_stack.fetch(
        "UPDATE merchants SET currencies = '{USD,JPY}' WHERE merchant_id = $1", odd.merchant_id
    )
    first = await odd.pay(500, currency="JPY", key="yen")
    again = await odd.pay(500, currency="JPY", key="yen")
    assert (first.status_code, first.json()["code"]) == (422, "processor_rejected")
    assert first.json()["processor_code"] == "39"
    assert first.headers["content-type"] == "application/problem+json"
    assert again.content == first.content
    assert again.headers["idempotency-replayed"] == "true"
    failed = await odd.payment(first.json()["payment_id"])
    assert failed["status"] == "failed"
    assert await audit(shared_stack, odd) == []


async def test_part_of_an_authorization_can_be_captured(shared_stack: Stack, shop: Shop) -> None:
    held = await shop.paid(5000, capture="manual")
    assert (held["status"], held["captured_amount"]) == ("authorized", 0)

    too_much = await shop.capture(held["id"], 5001)
    assert (too_much.status_code, too_much.json()["code"]) == (409, "amount_exceeds_authorized")

    captured = await shop.capture(held["id"], 3000)
    assert captured.status_code == 201
    assert captured.json()["status"] == "captured"
    assert captured.json()["captured_amount"] == 3000
    assert captured.json() == await shop.payment(held["id"])

    twice = await shop.capture(held["id"], 1000)
    assert (twice.status_code, twice.json()["code"]) == (409, "invalid_state")
    assert await audit(shared_stack, shop) == []


async def test_void_releases_a_hold_and_undoes_an_unsettled_sale(
    shared_stack: Stack, shop: Shop
) -> None:
    for payment in (await shop.paid(capture="manual"), await shop.paid()):
        voided = await shop.void(payment["id"])
        assert voided.status_code == 201, voided.text
        assert (voided.json()["status"], voided.json()["captured_amount"]) == ("voided", 0)
        again = await shop.void(payment["id"])
        assert (again.status_code, again.json()["code"]) == (409, "invalid_state")
    truth = await shared_stack.simulator.truth(login=shop.login)
    assert {row["status"] for row in truth} == {"voided"}
    assert await audit(shared_stack, shop) == []


async def test_refunds_after_settlement_sum_to_what_was_captured(
    shared_stack: Stack, shop: Shop
) -> None:
    payment = await shop.paid(5000)
    early = await shop.refund(payment["id"], 1000)
    assert (early.status_code, early.json()["code"]) == (409, "not_settled")
    assert (await shop.payment(payment["id"]))["refunded_amount"] == 0

    await shared_stack.simulator.post("/settle")
    first = await shop.refund(payment["id"], 2000)
    assert first.status_code == 201
    refund = first.json()
    assert (refund["status"], refund["amount"], refund["currency"]) == ("succeeded", 2000, "USD")
    assert refund["payment_id"] == payment["id"]
    rest = await shop.refund(payment["id"])
    assert (rest.status_code, rest.json()["amount"]) == (201, 3000)
    more = await shop.refund(payment["id"], 1)
    assert (more.status_code, more.json()["code"]) == (409, "amount_exceeds_captured")
    nothing = await shop.refund(payment["id"])
    assert (nothing.status_code, nothing.json()["code"]) == (409, "amount_exceeds_captured")

    refunds = await shop.all(f"/payments/{payment['id']}/refunds")
    assert [(r["status"], r["amount"]) for r in refunds] == [
        ("failed", 1000),
        ("succeeded", 2000),
        ("succeeded", 3000),
    ]
    assert (await shop.payment(payment["id"]))["refunded_amount"] == 5000
    assert await audit(shared_stack, shop) == []


async def test_operations_and_events_record_each_step(shop: Shop, shared_stack: Stack) -> None:
    payment = await shop.paid(capture="manual")
    await shop.capture(payment["id"], 100)
    await shop.void(payment["id"])

    operations = await shop.all(f"/payments/{payment['id']}/operations")
    assert [(o["kind"], o["state"], o["amount"]) for o in operations] == [
        ("authorize", "approved", 2500),
        ("capture", "approved", 100),
        ("void", "approved", 2500),
    ]
    assert all(len(o["reference"]) == 20 and o["processor_ms"] > 0 for o in operations)
    events = await shop.all(f"/payments/{payment['id']}/events")
    assert [event["type"] for event in events] == [
        "payment.authorized",
        "payment.captured",
        "payment.voided",
    ]
    assert [event["operation_id"] for event in events] == [o["id"] for o in operations]
    truth = await shared_stack.simulator.truth(login=shop.login)
    assert [row["invoice_number"] for row in truth] == [o["reference"] for o in operations]


async def test_an_accept_token_pays_and_shows_its_card(shared_stack: Stack, shop: Shop) -> None:
    token = await mint_token(shared_stack.simulator, shop.login)
    payment = await shop.paid(payment_method={"type": "accept_token", "accept_token": token})
    assert payment["payment_method"]["type"] == "accept_token"
    assert payment["payment_method"]["last4"] == "1111"
    assert payment["payment_method"]["brand"] == "visa"
    again = await shop.pay(payment_method={"type": "accept_token", "accept_token": token})
    assert (again.status_code, again.json()["code"]) == (422, "processor_rejected")
    assert await audit(shared_stack, shop) == []


async def test_lists_page_newest_first_and_miss_nothing(shop: Shop) -> None:
    made = [(await shop.paid(100 + n))["id"] for n in range(7)]
    seen: list[str] = []
    params: dict[str, str] = {"limit": "3"}
    while True:
        page = await shop.client.get("/payments", params=params)
        assert page.status_code == 200
        body = page.json()
        assert set(body) == {"data", "has_more", "next_cursor"}
        seen += [row["id"] for row in body["data"]]
        if not body["has_more"]:
            assert body["next_cursor"] is None
            assert "link" not in page.headers
            break
        assert f"cursor={body['next_cursor']}" in page.headers["link"]
        params["cursor"] = body["next_cursor"]
    assert seen == made[::-1]

    third = await shop.payment(made[2])
    older = await shop.client.get("/payments", params={"created_to": third["created_at"]})
    assert [row["id"] for row in older.json()["data"]] == made[:2][::-1]
    newer = await shop.client.get("/payments", params={"created_from": third["created_at"]})
    assert {row["id"] for row in newer.json()["data"]} == set(made[2:])


async def test_etags_save_a_body_and_guard_a_change(shop: Shop) -> None:
    payment = await shop.paid(capture="manual")
    path = f"/payments/{payment['id']}"
    read = await shop.client.get(path)
    assert read.headers["etag"].startswith(f'"v{payment["version"]}.')
    assert read.headers["cache-control"] == "private, no-cache"
    same = await shop.client.get(path, headers={"if-none-match": read.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")

    stale = await shop.client.post(
        f"{path}/capture", json={}, headers={"idempotency-key": "stale", "if-match": '"v1"'}
    )
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")
    fresh = await shop.client.post(
        f"{path}/capture",
        json={},
        headers={"idempotency-key": "stale", "if-match": read.headers["etag"]},
    )
    assert fresh.status_code == 201
    changed = await shop.client.get(path, headers={"if-none-match": read.headers["etag"]})
    assert changed.status_code == 200
