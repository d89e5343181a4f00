"""One gateway, two processors: each payment stays with the processor that took it."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from easypay import ids
from easypay.db.embedded import Cluster
from harness import ADMIN_KEY, QUICK, WIRE_TYPE, Gateway, Shop, Simulator, Stack, stack_over, until
from second_processor import installation
from second_processor.bank import SECRET, Bank, open_bank


@pytest.fixture(scope="module")
async def world(
    cluster: Cluster, template: str, simulator: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Stack, Bank]]:
    """Yield a stack whose gateway has both processors, and the second one's bank."""
    folder = tmp_path_factory.mktemp("two-processors")
    async with open_bank() as bank:
        settings = QUICK | {"processor_urls": f"second.test={bank.url}"}
        with installation(folder):
            async with stack_over(cluster, template, simulator, folder, **settings) as stack:
                yield stack, bank


@pytest.fixture
async def shop(world: tuple[Stack, Bank]) -> AsyncIterator[Shop]:
    """A merchant of Authorize.Net."""
    stack, _ = world
    gateway = stack.processes[0]
    assert isinstance(gateway, Gateway)
    made = await stack.shop(gateway)
    yield made
    await made.client.aclose()


async def put_account(shop: Shop, **body: Any) -> httpx.Response:
    merchant = ids.typed(ids.MERCHANT, shop.merchant_id)
    return await shop.client.put(
        f"/admin/merchants/{merchant}/accounts/test",
        json=body,
        headers={"authorization": f"Bearer {ADMIN_KEY}"},
    )


async def move_to_second(shop: Shop) -> None:
    """Send the merchant's new payments to the second processor from now on."""
    credentials = {"shop": shop.login, "secret": SECRET}
    answer = await put_account(shop, processor="second", credentials=credentials)
    assert answer.status_code == 204, answer.text

    async def taken_there() -> bool:
        return bool((await shop.paid())["processor"]["name"] == "second")

    await until(taken_there, what="the new account is used")


async def test_payments_are_followed_up_at_the_processor_that_took_them(
    world: tuple[Stack, Bank], shop: Shop
) -> None:
    stack, bank = world
    before = await shop.paid(4000, capture="manual")
    assert before["processor"]["name"] == "authorize_net"
    await move_to_second(shop)

    held = await shop.paid(3000, capture="manual")
    transaction = held["processor"]["transaction_id"]
    assert held["processor"]["name"] == "second"
    assert (await shop.capture(held["id"], 2000)).status_code == 201
    assert (await shop.refund(held["id"], 500)).status_code == 201
    assert bank.charges[transaction] == {
        "held": 3000, "taken": 2000, "returned": 500, "open": True, "last4": "1111"
    }  # fmt: skip

    assert (await shop.capture(before["id"], 4000)).status_code == 201
    truth = await stack.simulator.truth(login=shop.login)
    assert WIRE_TYPE["capture"] in [row["type"] for row in truth]


async def test_a_payment_begun_again_at_another_processor_is_another_version(
    world: tuple[Stack, Bank], shop: Shop
) -> None:
    """A copy that a client read in between must not count as the payment of now."""
    stack, _ = world
    async with stack.refusing():
        assert (await shop.pay(1300, key="again")).status_code == 503
    (before,) = await shop.all("/payments")
    assert before["processor"]["name"] == "authorize_net"
    await move_to_second(shop)
    again = await shop.pay(1300, key="again")
    assert (again.status_code, again.json()["processor"]["name"]) == (201, "second")
    assert again.json()["version"] == before["version"] + 2
    assert await shop.payment(before["id"]) == again.json()


async def test_a_lost_reply_of_the_second_processor_is_found_and_charged_once(
    world: tuple[Stack, Bank], shop: Shop
) -> None:
    _, bank = world
    await move_to_second(shop)
    bank.lose_next = True
    lost = await shop.pay(1234)
    assert lost.status_code == 202, lost.text
    found = await shop.becomes(lost.json()["id"], "captured")
    assert found["processor"]["name"] == "second"
    charges = [charge for charge in bank.charges.values() if charge["held"] == 1234]
    assert [charge["taken"] for charge in charges] == [1234]


async def test_an_unknown_processor_is_refused_with_a_list_of_the_known_ones(shop: Shop) -> None:
    answer = await put_account(shop, processor="nobody", login_id="a", transaction_key="b")
    assert answer.status_code == 422, answer.text
    (error,) = answer.json()["errors"]
    assert error["pointer"] == "#/processor"
    assert "authorize_net, second" in error["detail"]


async def test_a_refused_account_names_the_invalid_fields(shop: Shop) -> None:
    for given, pointers in (
        ({"credentials": {"shop": "a", "secret": "wrong"}}, ["#/credentials/secret"]),
        ({"credentials": {"shop": "a", "key": "b"}}, ["#/credentials/key", "#/credentials/secret"]),
        ({"login_id": "a", "credentials": {"shop": "a", "secret": "b"}}, ["#/login_id"]),
        ({"login_id": "a"}, ["#/login_id", "#/shop", "#/secret"]),
    ):
        answer = await put_account(shop, processor="second", **given)
        assert answer.status_code == 422, answer.text
        assert [error["pointer"] for error in answer.json()["errors"]] == pointers
    missing = await put_account(shop, login_id="a")
    assert [error["pointer"] for error in missing.json()["errors"]] == ["#/transaction_key"]


async def test_an_account_of_a_removed_processor_is_never_called(
    world: tuple[Stack, Bank], shop: Shop
) -> None:
    stack, _ = world
    await stack.fetch(
        "UPDATE processor_accounts SET processor = 'gone' WHERE merchant_id = $1", shop.merchant_id
    )

    async def refused() -> Any:
        answer = await shop.pay()
        return answer if answer.status_code == 503 else None

    detail = (await until(refused)).json()["detail"]
    assert "'gone'" in detail
    assert "authorize_net, second" in detail
    rows = len(await stack.simulator.truth(login=shop.login))
    assert (await shop.pay()).status_code == 503
    assert len(await stack.simulator.truth(login=shop.login)) == rows


async def test_a_payment_without_a_recorded_account_never_goes_to_another_processor(
    world: tuple[Stack, Bank], shop: Shop
) -> None:
    """Older payments have no recorded account; all of them were taken at Authorize.Net."""
    stack, bank = world
    held = await shop.paid(4000, capture="manual")
    await move_to_second(shop)
    await stack.fetch(
        "UPDATE payments SET login_id = NULL WHERE merchant_id = $1", shop.merchant_id
    )
    done = len(bank.done)
    answer = await shop.capture(held["id"])
    assert answer.status_code == 503, answer.text
    assert len(bank.done) == done
