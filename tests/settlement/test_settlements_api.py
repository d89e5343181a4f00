"""A merchant reads what settled, of its own payments and with a scope of its own."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from easypay.db import migrate
from harness import Shop, Stack
from settlement.books import account_of, settled, settled_at, wrong_sums

NOTHING = {"count": 0, "amount": 0}


@pytest.fixture
async def finance(shared_stack: Stack, shop: Shop) -> AsyncIterator[Shop]:
    """The shop with a key that reads settlements."""
    made = await shared_stack.with_key(shop, scopes=["settlements:read"])
    yield made
    await made.client.aclose()


async def get(shop: Shop, path: str) -> Any:
    answer = await shop.client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_merchant_reads_its_batches_and_its_payments_in_them(
    shared_stack: Stack, shop: Shop, finance: Shop
) -> None:
    """Another merchant pays through the same account: its sums are not shown."""
    other = await shared_stack.shop(shared_stack.only_gateway)
    await shared_stack.set_account(other, login=shop.login)
    sold, disputed = await shop.paid(2500), await shop.paid(4000)
    await other.paid(999)
    assert (await get(finance, f"/payments/{sold['id']}/settlements"))["data"] == []
    await settled(shared_stack, shop)
    assert (await shop.refund(sold["id"], 1001)).status_code == 201
    await shared_stack.simulator.post(
        "/status", trans_id=disputed["processor"]["transaction_id"], status="chargeback"
    )
    await settled(shared_stack, shop)
    account = await account_of(shared_stack, shop)

    page = await get(finance, "/settlements")
    newer, older = page["data"]
    assert not page["has_more"]
    total = {
        "currency": "USD",
        "brand": None,
        "charged": {"count": 2, "amount": 6500},
        "refunded": NOTHING,
        "returned": NOTHING,
        "charged_back": {"count": 1, "amount": 4000},
        "reversed": NOTHING,
        "net": 2500,
    }
    assert older["totals"] == [total]
    assert older["brands"] == [total | {"brand": "visa"}]
    assert older["settled_at"] == await settled_at(shared_stack, account)
    assert older["method"] == "card"
    assert newer["totals"][0]["refunded"] == {"count": 1, "amount": 1001}
    assert await get(finance, f"/settlements/{older['batch_id']}") == older

    charge, refund = (await get(finance, f"/payments/{sold['id']}/settlements"))["data"]
    assert (charge["kind"], charge["amount"], charge["batch_id"]) == (
        "charge",
        2500,
        older["batch_id"],
    )
    assert charge["transaction_id"] == sold["processor"]["transaction_id"]
    assert (refund["kind"], refund["amount"], refund["batch_id"]) == (
        "refund",
        1001,
        newer["batch_id"],
    )
    of_other = await shared_stack.with_key(other, scopes=["settlements:read"])
    (seen,) = (await get(of_other, "/settlements"))["data"]
    assert seen["totals"][0]["charged"] == {"count": 1, "amount": 999}
    assert (await of_other.client.get(f"/settlements/{newer['batch_id']}")).status_code == 404
    assert (await of_other.client.get(f"/payments/{sold['id']}/settlements")).status_code == 404
    live = await shared_stack.with_key(shop, mode="live", scopes=["settlements:read"])
    assert (await get(live, "/settlements"))["data"] == []
    for each in (other, of_other, live):
        await each.client.aclose()


@pytest.mark.parametrize(
    ("change", "charged"),
    [
        ("UPDATE settled_transactions SET amount_minor = amount_minor + 1", (2, 65_02)),
        ("UPDATE settled_transactions SET card_brand = NULL", (2, 65_00)),
        ("UPDATE settled_transactions SET told = NULL", (2, 65_00)),
        ("UPDATE settled_transactions SET merchant_id = NULL", None),
        ("DELETE FROM settled_transactions", None),
    ],
)
async def test_the_sums_of_a_batch_are_those_of_its_rows(
    shared_stack: Stack, shop: Shop, finance: Shop, change: str, charged: tuple[int, int] | None
) -> None:
    """Whoever changes a row: the comparison, a purge, or a gateway of the version before."""
    await shop.paid(25_00)
    await shop.paid(40_00)
    await settled(shared_stack, shop)
    account = await account_of(shared_stack, shop)
    assert await wrong_sums(shared_stack, account) == set()
    await shared_stack.fetch(f"{change} WHERE account = $1", account)
    assert await wrong_sums(shared_stack, account) == set()
    totals = [each["totals"][0]["charged"] for each in (await get(finance, "/settlements"))["data"]]
    assert totals == ([dict(zip(("count", "amount"), charged, strict=True))] if charged else [])


async def test_what_settled_before_there_were_sums_is_added_up(
    shared_stack: Stack, shop: Shop, finance: Shop
) -> None:
    await shop.paid(25_00)
    await settled(shared_stack, shop)
    before = await get(finance, "/settlements")
    await shared_stack.fetch("DELETE FROM settlement_sums")
    assert (await get(finance, "/settlements"))["data"] == []
    migration = dict(migrate.files())["0040_settlement_sums.sql"]
    start = migration.index("INSERT INTO settlement_sums\n")
    await shared_stack.fetch(migration[start : migration.index(";", start)])
    assert await get(finance, "/settlements") == before


async def test_what_is_asked_for_is_checked(shop: Shop, finance: Shop) -> None:
    for path in ("/settlements", "/settlements/1", "/payments/pay_1/settlements"):
        assert (await shop.client.get(path)).status_code == 403
    for path in ("/settlements/1", "/settlements/a%20b", "/payments/pay_1/settlements"):
        assert (await finance.client.get(path)).status_code == 404
    for query in (
        "from=2026-01-01T00:00:00Z&to=2026-11-01T00:00:00Z",
        "from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z",
        "from=yesterday",
        "limit=5",
    ):
        assert (await finance.client.get(f"/settlements?{query}")).status_code == 422
