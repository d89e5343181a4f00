"""Payments from a bank account (eCheck) are taken and refunded; the numbers are not stored."""

from typing import Any

import pytest

from harness import Gateway, Shop, Stack, audit, mint_token

pytestmark = pytest.mark.over("simulated", "recorded")

ACCOUNT, ROUTING = "8675309112233", "121042882"


def account(**over: Any) -> dict[str, Any]:
    details = {
        "account_type": "business_checking",
        "routing_number": ROUTING,
        "account_number": ACCOUNT,
        "name_on_account": "Byron Engines",
        **over,
    }
    return {"type": "bank_account", "bank_account": details}


async def test_a_bank_account_pays_and_is_refunded_by_its_last_four(
    shared_stack: Stack, shop: Shop
) -> None:
    payment = await shop.paid(2500, payment_method=account())
    assert payment["status"] == "captured"
    assert payment["payment_method"] == {
        "type": "bank_account",
        "brand": "echeck",
        "last4": ACCOUNT[-4:],
        "exp_month": None,
        "exp_year": None,
    }
    assert payment == await shop.payment(payment["id"])
    undone = await shop.paid(2400, payment_method=account())
    assert (await shop.refund(undone["id"])).json()["method"] == "void"
    early = await shop.refund(payment["id"], 900)
    assert (early.status_code, early.json()["code"]) == (409, "not_settled")

    await shared_stack.simulator.post("/settle")
    for amount in (900, 1600):
        refund = await shop.refund(payment["id"], amount)
        assert (refund.status_code, refund.json()["method"]) == (201, "refund"), refund.text
    assert (await shop.payment(payment["id"]))["refunded_amount"] == 2500
    assert await audit(shared_stack, shop) == []


@pytest.mark.over("simulated")
async def test_a_token_of_a_bank_account_is_refunded_to_the_bank_account(
    shared_stack: Stack, shop: Shop
) -> None:
    """The processor refuses a refund to a card that never paid (54)."""
    bank = {
        "accountType": "checking",
        "routingNumber": ROUTING,
        "accountNumber": ACCOUNT,
        "nameOnAccount": "Ada Byron",
    }
    token = await mint_token(shared_stack.simulator, shop.login, bank=bank)
    method = {"type": "accept_token", "accept_token": token}
    payment = await shop.paid(2500, payment_method=method)
    assert payment["payment_method"]["brand"] == "echeck"
    await shared_stack.simulator.post("/settle")
    refund = await shop.refund(payment["id"], 900)
    assert (refund.status_code, refund.json()["method"]) == (201, "refund"), refund.text
    assert await audit(shared_stack, shop) == []


async def test_the_numbers_of_a_bank_account_are_stored_nowhere(
    shared_stack: Stack, shop: Shop, gateway: Gateway
) -> None:
    """Searches every column of the shop's rows, the gateway's log and the responses."""
    answers = [
        await shop.pay(2500, payment_method=account()),
        await shop.pay(200_00, payment_method=account()),  # declined
        await shop.pay(2500, payment_method=account(routing_number="121042883")),
        await shop.pay(2500, payment_method=account(account_number=ACCOUNT + "x")),
        await shop.pay(2500, payment_method=account(account_number=ACCOUNT * 2)),
        await shop.pay(2500, payment_method=account(), colour="red"),
    ]
    assert [answer.status_code for answer in answers] == [201, 201, 422, 422, 422, 422]
    texts = [answer.text for answer in answers]
    for table in ("payments", "operations", "events", "idempotency_keys"):
        rows = await shared_stack.fetch(
            f"SELECT to_jsonb(t)::text AS row FROM {table} t WHERE merchant_id = $1",
            shop.merchant_id,
        )
        texts += [row["row"] for row in rows]
    rows = await shared_stack.fetch(
        "SELECT convert_from(reply_body, 'UTF8') AS body FROM operations WHERE merchant_id = $1",
        shop.merchant_id,
    )
    texts += [row["body"] for row in rows]
    texts.append(gateway.logs())
    assert len(texts) > 12
    assert not any(number in text for number in (ACCOUNT, ROUTING) for text in texts)
    fingerprints = await shared_stack.fetch(
        "SELECT card_fingerprint FROM payments WHERE merchant_id = $1", shop.merchant_id
    )
    assert len({row[0] for row in fingerprints}) == 1, "the same account has the same fingerprint"


async def test_a_shop_without_raw_cards_takes_no_bank_account(
    shared_stack: Stack, gateway: Gateway
) -> None:
    careful = await shared_stack.shop(gateway, raw_cards=False)
    answer = await careful.pay(2500, payment_method=account())
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert answer.json()["errors"][0]["code"] == "raw_cards_not_allowed"
    assert await careful.all("/payments") == []


async def test_the_networks_are_told_that_a_card_is_stored(shared_stack: Stack, shop: Shop) -> None:
    first = await shop.paid(2500, stored_credential={"initiator": "customer", "first": True})
    network_id = first["processor"]["network_transaction_id"]
    assert network_id
    assert first == await shop.payment(first["id"])
    later = {"initiator": "merchant", "recurring": True, "network_transaction_id": network_id}
    second = await shop.paid(2600, stored_credential=later)
    assert second["status"] == "captured"
    assert await audit(shared_stack, shop) == []
