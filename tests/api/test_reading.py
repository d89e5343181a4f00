"""Reading over HTTP: lists, their order and pages, refunds and operations by id, expansion."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest

from harness import QUICK, Gateway, Shop, Stack, http_client, until
from harness.metrics import counted


@pytest.fixture
async def busy_shop(simulated: Stack, shop: Shop) -> tuple[Shop, list[str]]:
    """Return a shop with five payments, oldest first. Two refunds of the second, one of the third.

    A part of a payment can be refunded only after it settled."""
    payments = [(await shop.paid())["id"] for _ in range(5)]
    await simulated.simulator.post("/settle")
    for payment, amount in ((1, 300), (2, 400), (1, 200)):
        answer = await shop.refund(payments[payment], amount)
        assert answer.status_code == 201, answer.text
    return shop, payments


async def _get(shop: Shop, path: str, **params: str) -> Any:
    answer = await shop.client.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def _refused(shop: Shop, path: str, **params: str) -> dict[str, str]:
    answer = await shop.client.get(path, params=params)
    assert answer.status_code == 422, answer.text
    (field,) = answer.json()["errors"]
    return dict(field)


def _ids(page: Any) -> list[str]:
    return [row["id"] for row in page["data"]]


# Order and cursors ------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["newest", "oldest"])
async def test_following_the_cursor_skips_and_repeats_nothing_while_payments_arrive(
    shop: Shop, order: str
) -> None:
    before = [(await shop.paid())["id"] for _ in range(4)]
    seen: list[str] = []
    cursor: dict[str, str] = {}
    arrived: list[str] = []
    while True:
        page = await _get(shop, "/payments", limit="2", order=order, **cursor)
        seen += _ids(page)
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
        if len(arrived) < 2:
            arrived.append((await shop.paid())["id"])
    expected = before[::-1] if order == "newest" else before + arrived
    assert seen == expected


async def test_a_cursor_is_good_only_for_its_list_and_order(
    busy_shop: tuple[Shop, list[str]],
) -> None:
    shop, _ = busy_shop
    cursor = (await _get(shop, "/payments", limit="1"))["next_cursor"]
    for path, params in (
        ("/payments", {"order": "oldest"}),
        ("/payments", {"created_to": "2030-01-01T00:00:00Z"}),
        ("/refunds", {}),
    ):
        field = await _refused(shop, path, cursor=cursor, **params)
        assert field["pointer"] == "?cursor"
    field = await _refused(shop, "/payments", order="first")
    assert field["pointer"] == "?order"
    assert "newest or oldest" in field["detail"]


# Refunds and operations -------------------------------------------------------------------------


async def test_refunds_of_all_payments_are_listed_newest_first(
    busy_shop: tuple[Shop, list[str]],
) -> None:
    shop, payments = busy_shop
    first = await _get(shop, "/refunds", limit="2")
    assert [row["amount"] for row in first["data"]] == [200, 400]
    rest = await _get(shop, "/refunds", limit="2", cursor=first["next_cursor"])
    assert [(row["amount"], row["payment_id"]) for row in rest["data"]] == [(300, payments[1])]
    assert rest["next_cursor"] is None
    oldest = await _get(shop, "/refunds", order="oldest")
    assert [row["amount"] for row in oldest["data"]] == [300, 400, 200]
    assert oldest["data"][0]["processor"]["name"] == "authorize_net"
    assert (await _get(shop, "/refunds", created_from="2200-01-01T00:00:00Z"))["data"] == []


async def test_the_location_of_a_refund_leads_to_it(
    simulated: Stack, shop: Shop, gateway: Gateway
) -> None:
    payment = (await shop.paid())["id"]
    await simulated.simulator.post("/settle")
    answer = await shop.refund(payment, 100, key="back")
    location = answer.headers["location"]
    assert location == f"/api/v1/refunds/{answer.json()['id']}"
    again = await shop.refund(payment, 100, key="back")
    assert again.headers["location"] == location
    async with http_client(base_url=gateway.url) as client:
        found = await client.get(location, headers={"authorization": f"Bearer {shop.secret}"})
    assert found.json() == answer.json()


async def test_an_operation_is_read_by_its_id(busy_shop: tuple[Shop, list[str]]) -> None:
    shop, payments = busy_shop
    for listed in await shop.all(f"/payments/{payments[1]}/operations"):
        assert await _get(shop, f"/operations/{listed['id']}") == listed
    sale = (await shop.all(f"/payments/{payments[0]}/operations"))[0]["id"]
    for path in (
        f"/refunds/{sale.replace('op_', 're_')}",  # it is no refund
        f"/operations/{payments[0]}",
        "/operations/op_0",
        f"/refunds/re_{'0' * 32}",
    ):
        answer = await shop.client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_nobody_reads_the_refunds_and_operations_of_others(
    busy_shop: tuple[Shop, list[str]], simulated: Stack, gateway: Gateway
) -> None:
    shop, payments = busy_shop
    operations = await shop.all(f"/payments/{payments[1]}/operations")
    other = await simulated.shop(gateway)
    assert await other.all("/refunds") == []
    for row in operations:
        for path in (f"/operations/{row['id']}", f"/refunds/{row['id'].replace('op_', 're_')}"):
            assert (await other.client.get(path)).status_code == 404
    await other.client.aclose()


# Expansion --------------------------------------------------------------------------------------


async def test_payments_are_shown_with_their_refunds_and_operations(
    busy_shop: tuple[Shop, list[str]],
) -> None:
    shop, payments = busy_shop
    page = await _get(shop, "/payments", expand="refunds,operations")
    assert _ids(page) == payments[::-1]
    for row in page["data"]:
        for children in ("refunds", "operations"):
            listed = await shop.all(f"/payments/{row['id']}/{children}")
            assert row[children] == {"data": listed, "has_more": False}
        alone = await _get(shop, f"/payments/{row['id']}", expand="refunds")
        assert alone == {name: value for name, value in row.items() if name != "operations"}
    assert [len(row["refunds"]["data"]) for row in page["data"]] == [0, 0, 1, 2, 0]
    plain = await shop.client.get(f"/payments/{payments[1]}")
    assert "refunds" not in plain.json()
    assert "etag" in plain.headers
    answer = await shop.client.get(
        f"/payments/{payments[1]}",
        params={"expand": "operations"},
        headers={"if-none-match": plain.headers["etag"]},
    )
    assert answer.status_code == 200, "operations change without the payment's version"
    assert answer.headers["etag"] != plain.headers["etag"]
    for wrong in ("merchant", "customer,customer", "", "refunds,refunds", "refunds, operations"):
        assert (await _refused(shop, "/payments", expand=wrong))["pointer"] == "?expand"


async def test_of_many_operations_the_oldest_twenty_are_shown(simulated: Stack, shop: Shop) -> None:
    payment = (await shop.paid())["id"]
    await simulated.simulator.post("/settle")
    answers = await asyncio.gather(*(shop.refund(payment, 1 + n) for n in range(21)))
    assert {answer.status_code for answer in answers} == {201}
    (row,) = (await _get(shop, "/payments", expand="refunds"))["data"]
    listed = await shop.all(f"/payments/{payment}/refunds")
    assert row["refunds"] == {"data": listed[:20], "has_more": True}
    assert len(listed) == 21


# Numbered pages ---------------------------------------------------------------------------------


async def test_pages_by_number_have_totals_in_body_and_headers(
    busy_shop: tuple[Shop, list[str]],
) -> None:
    shop, payments = busy_shop
    answer = await shop.client.get("/payments", params={"page": "2", "size": "2"})
    assert answer.json()["pagination"] == {
        "page": 2, "size": 2, "total": 5, "pages": 3, "total_is_estimate": False,
    }  # fmt: skip
    assert _ids(answer.json()) == payments[::-1][2:4]
    headers = {name: answer.headers[name] for name in ("x-total-count", "x-page", "x-size")}
    assert headers == {"x-total-count": "5", "x-page": "2", "x-size": "2"}
    assert "x-total-is-estimate" not in answer.headers
    page = await _get(shop, "/payments", page="3", size="2", order="oldest", expand="refunds")
    assert _ids(page) == payments[4:]
    assert page["data"][0]["refunds"]["data"] == []
    beyond = await _get(shop, "/payments", page="9")
    assert (beyond["data"], beyond["pagination"]["total"]) == ([], 5)
    nothing = await _get(shop, "/payments", size="5", created_to="2020-01-01T00:00:00Z")
    assert (nothing["data"], nothing["pagination"]["pages"]) == ([], 0)


async def test_pages_end_where_the_counting_ends_and_say_how_to_go_on(shop: Shop) -> None:
    field = await _refused(shop, "/payments", page="101", size="100")
    assert field["pointer"] == "?page"
    assert "10000" in field["detail"]
    assert "created_to" in field["detail"]
    assert "next_cursor" in field["detail"]
    assert (await _get(shop, "/payments", page="100", size="100"))["data"] == []
    for params in ({"limit": "5"}, {"cursor": "a"}):
        field = await _refused(shop, "/payments", page="1", **params)
        assert field["code"] == "contradiction"
    for params in ({"page": "0"}, {"page": "x"}, {"size": "101"}):
        assert (await _refused(shop, "/payments", **params))["code"] == "invalid"


# Reading never stands in the way of money -------------------------------------------------------


@pytest.fixture
async def narrow(stack: Stack) -> AsyncIterator[tuple[Stack, Gateway, Shop]]:
    """Return a gateway with one connection for reading, and one place in the queue for it."""
    gateway = await stack.gateway(
        **QUICK,
        database_reading_connections="1",
        reading_queue="1",
        reading_timeout_s="30",
        database_patience_s="30",
    )
    shop = await stack.shop(gateway)
    yield stack, gateway, shop
    await shop.client.aclose()


async def test_money_moves_while_every_reading_connection_is_stuck(
    narrow: tuple[Stack, Gateway, Shop],
) -> None:
    """One list is stuck in the database, another waits for its turn, a third is refused. Meanwhile
    a payment is taken and repeated, and the resolver ends an unknown outcome."""
    stack, _, shop = narrow
    assert await shop.all("/payments") == []  # from here on the reading connection is open
    ((backend,),) = await stack.fetch(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'easypay reading 1'"
    )
    os.kill(backend, signal.SIGSTOP)
    try:
        lists = [  # different ones: those who ask the same share a read
            asyncio.create_task(shop.client.get("/payments", params={"limit": limit}))
            for limit in (1, 2, 3)
        ]
        done, _ = await asyncio.wait(lists, return_when=asyncio.FIRST_COMPLETED)
        refused = done.pop().result()
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert refused.headers["retry-after"] == "1"
        assert "1 requests are reading and 1 wait" in refused.json()["detail"]

        first = await shop.pay(key="first")
        assert first.status_code == 201
        again = await shop.pay(key="first")
        assert again.headers["idempotency-replayed"] == "true"
        assert again.content == first.content
        await stack.simulator.fault("drop_reply", shop.login)
        unknown = await shop.pay(key="unknown")
        assert unknown.status_code == 202

        async def resolved() -> bool:
            return bool((await shop.payment(unknown.json()["id"]))["status"] == "captured")

        await until(resolved)
        assert sum(task.done() for task in lists) == 1, "the lists still wait"
    finally:
        os.kill(backend, signal.SIGCONT)
    answers = await asyncio.gather(*lists)
    assert sorted(answer.status_code for answer in answers) == [200, 200, 503]


# Shared reads -----------------------------------------------------------------------------------


async def test_a_list_shows_what_was_paid_before_it_was_asked_for_however_many_ask(
    shop: Shop,
) -> None:
    """Clients who ask at the same time share a read. None of them may be shown an older state."""
    paid: list[str] = []
    ended = asyncio.Event()

    async def ask() -> int:
        asked = 0
        while not ended.is_set():
            before = paid[-1:]
            page = await _get(shop, "/payments", limit="50")
            assert not before or before[0] in _ids(page)
            asked += 1
        return asked

    askers = [asyncio.create_task(ask()) for _ in range(16)]
    for _ in range(20):
        paid.append((await shop.paid())["id"])
    ended.set()
    assert min(await asyncio.gather(*askers)) > 0

    async def is_counted() -> bool:
        return await counted(shop.url, "easypay_shared_reads_total") > 0

    await until(is_counted, what="the metrics count shared reads")


async def test_shops_that_ask_the_same_at_once_get_each_their_own(
    simulated: Stack, gateway: Gateway, shop: Shop
) -> None:
    other = await simulated.shop(gateway)
    ids = {each: (await each.paid())["id"] for each in (shop, other)}

    async def ask(each: Shop) -> None:
        for _ in range(20):
            assert _ids(await _get(each, "/payments")) == [ids[each]]

    await asyncio.gather(*(ask(each) for each in (shop, other) for _ in range(8)))
