"""Processor credentials are checked when they are saved; wrong ones are refused, not saved."""

from typing import Any

import httpx
import pytest

from harness import ADMIN_KEY, Gateway, Shop, Stack, until

KEY = "simulated-key-1"


async def put(shop: Shop, mode: str = "test", **body: Any) -> httpx.Response:
    """PUT the processor account of the shop's merchant."""
    return await shop.client.put(
        f"/admin/merchants/mer_{shop.merchant_id.hex}/accounts/{mode}",
        json={"login_id": shop.login, "transaction_key": KEY, **body},
        headers={"authorization": f"Bearer {ADMIN_KEY}"},
    )


async def saved(stack: Stack, shop: Shop) -> list[Any]:
    return await stack.fetch(
        "SELECT mode, credentials FROM processor_accounts WHERE merchant_id = $1 ORDER BY mode",
        shop.merchant_id,
    )


@pytest.mark.over("simulated", "recorded")
async def test_accepted_credentials_are_saved_and_refused_ones_are_not(
    shared_stack: Stack, gateway: Gateway, shop: Shop
) -> None:
    before = await saved(shared_stack, shop)
    for wrong in ({"transaction_key": "wrong-key"}, {"login_id": "nobody"}):
        for mode in ("test", "live"):
            refused = await put(shop, mode, **wrong)
            problem = refused.json()
            assert (refused.status_code, problem["code"]) == (422, "validation_failed")
            assert {(error["pointer"], error["code"]) for error in problem["errors"]} == {
                ("#/login_id", "refused_by_processor"),
                ("#/transaction_key", "refused_by_processor"),
            }
            assert "E00007" in problem["detail"]
            assert "wrong-key" not in refused.text
            assert KEY not in refused.text
    assert await saved(shared_stack, shop) == before

    assert (await put(shop)).status_code == 204
    assert (await put(shop, "live")).status_code == 204
    assert [mode for mode, _ in await saved(shared_stack, shop)] == ["live", "test"]
    assert (await put(shop, "sandbox")).status_code == 422
    assert (await shop.pay()).status_code == 201


@pytest.mark.over("simulated")
async def test_nothing_is_saved_if_the_processor_cannot_be_asked(
    shared_stack: Stack, gateway: Gateway, shop: Shop
) -> None:
    before = await saved(shared_stack, shop)
    fault = {"login": shop.login, "method": "authenticateTestRequest", "count": 1}
    for kind in ("error_before", "drop_reply", "garbage"):
        await shared_stack.simulator.post("/faults", kind=kind, **fault)
        answer = await put(shop)
        assert (answer.status_code, answer.json()["code"]) == (503, "processor_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert "Nothing was saved" in answer.json()["detail"]
    assert await saved(shared_stack, shop) == before


@pytest.mark.over("simulated")
async def test_wrong_credentials_saved_unchecked_block_a_payment_only_until_they_are_corrected(
    shared_stack: Stack, gateway: Gateway, shop: Shop
) -> None:
    """The first payment is refused; after the correction the same key pays, once."""
    assert (await put(shop, check=False, transaction_key="wrong-key")).status_code == 204

    async def refused() -> httpx.Response | None:
        answer = await shop.pay(key=f"probe-{len(probes)}")
        probes.append(answer)
        return answer if answer.status_code == 502 else None

    probes: list[httpx.Response] = []
    answer = await until(refused, what="the gateway uses the new credentials")
    assert answer.json()["code"] == "processor_account_refused"
    key = f"probe-{len(probes) - 1}"
    assert (await put(shop)).status_code == 204

    async def paid() -> httpx.Response | None:
        again = await shop.pay(key=key)
        return None if again.status_code == 502 else again

    again = await until(paid, what="the gateway uses the right credentials")
    assert again.status_code == 201, again.text
    truth = await shared_stack.simulator.truth(login=shop.login)
    taken = [row for row in truth if row["response_code"] == "1"]
    captured = [probe for probe in probes if probe.status_code == 201]
    assert len(taken) == len(captured) + (again.json()["status"] == "captured")
