"""Filters of GET /payments find exactly the payments that fit, in order, page by page."""

import asyncio
from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest

from harness import AMEX, MASTERCARD, VISA, Shop, Stack, card, until

Payment = dict[str, Any]

FILTERS: dict[str, Callable[[Payment, Any], bool]] = {
    "status": lambda p, wanted: p["status"] == wanted,
    "currency": lambda p, wanted: p["currency"] == wanted,
    "amount_from": lambda p, wanted: p["amount"] >= wanted,
    "amount_to": lambda p, wanted: p["amount"] <= wanted,
    "last4": lambda p, wanted: p["payment_method"]["last4"] == wanted,
    "decline_code": lambda p, wanted: p["decline_code"] == wanted,
    "refunded": lambda p, wanted: (p["refunded_amount"] > 0) == (wanted == "true"),
    "order_reference": lambda p, wanted: p["order_reference"] == wanted,
    "customer_reference": lambda p, wanted: p["customer_reference"] == wanted,
    "processor_transaction_id": lambda p, wanted: p["processor"]["transaction_id"] == wanted,
}
VALUES: dict[str, tuple[Any, ...]] = {
    "status": ("captured", "authorized", "declined", "voided", "failed"),
    "currency": ("USD", "EUR"),
    "amount_from": (700, 2000),
    "amount_to": (700, 2000),
    "last4": ("1111", "0015", "9999"),
    "decline_code": ("insufficient_funds", "do_not_honor", "card_declined"),
    "refunded": ("true", "false"),
    "order_reference": ("order-1", "order-2", "none"),
    "customer_reference": ("anna", "none"),
}
BOTH = {"status": "captured", "last4": "1111", "amount_from": 700, "order_reference": "order-1"}


@pytest.fixture
async def sold(stack: Stack) -> tuple[Shop, list[Payment]]:
    """Return a shop with payments of every kind, and these payments, newest first."""
    gateway = await stack.gateway()
    shop = await stack.shop(gateway)

    async def make(number: int) -> None:
        over: dict[str, Any] = {"order_reference": f"order-{number % 3}"}
        if number % 4 == 0:
            over["customer_reference"] = "anna"
        if number % 5 == 1:
            over["billing_address"] = {"postal_code": "46282"}  # declined
        method = card(
            (VISA, MASTERCARD, AMEX)[number % 3], cvc="9070" if number % 3 == 2 else "907"
        )
        capture = "manual" if number % 7 == 0 else "automatic"
        answer = await shop.pay(100 * number, payment_method=method, capture=capture, **over)
        assert answer.status_code == 201, answer.text
        if number % 7 == 0 and number % 2 == 0:
            await shop.void(answer.json()["id"])

    await asyncio.gather(*(make(number) for number in range(1, 31)))
    payments = await shop.all("/payments")

    async def all_found() -> bool:
        # One that has changed since its row was written is in no list.
        found = [await listed(shop, {"status": status}) for status in VALUES["status"]]
        return sum(map(len, found)) == len(payments)

    await until(all_found, what="the search table has every payment as it is")
    return shop, payments


async def listed(shop: Shop, query: dict[str, Any], *, limit: int = 7) -> list[str]:
    """Return the ids of a filtered list, page by page."""
    ids: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        answer = await shop.client.get("/payments", params={**query, "limit": limit, **cursor})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        ids += [payment["id"] for payment in page["data"]]
        if not page["has_more"]:
            return ids
        cursor = {"cursor": page["next_cursor"]}


async def test_each_filter_and_each_pair_finds_exactly_what_fits(
    sold: tuple[Shop, list[Payment]],
) -> None:
    shop, payments = sold

    def expected(query: dict[str, Any]) -> list[str]:
        return [p["id"] for p in payments if all(FILTERS[n](p, v) for n, v in query.items())]

    transaction = payments[3]["processor"]["transaction_id"]
    questions = [{name: value} for name, values in VALUES.items() for value in values]
    questions += [{a: BOTH[a], b: BOTH[b]} for a, b in combinations(BOTH, 2)]
    questions += [{"processor_transaction_id": transaction}, BOTH]
    found = await asyncio.gather(*(listed(shop, query) for query in questions))
    assert dict(zip(map(str, questions), found, strict=True)) == {
        str(query): expected(query) for query in questions
    }
    assert sum(map(bool, found)) > len(questions) // 2, "most questions find something"

    oldest = await listed(shop, {"status": "captured", "order": "oldest"})
    assert oldest == expected({"status": "captured"})[::-1]
    for query in ({"last4": "1111", "brand": "visa"}, {"brand": "visa"}):
        assert await listed(shop, query) == expected({"last4": "1111"})
    page = await shop.client.get("/payments?status=captured&page=2&size=3")
    assert [p["id"] for p in page.json()["data"]] == expected({"status": "captured"})[3:6]
    assert page.headers["x-total-count"] == str(len(expected({"status": "captured"})))


async def test_an_operation_is_found_by_the_number_that_the_processor_shows(
    sold: tuple[Shop, list[Payment]],
) -> None:
    shop, payments = sold
    wanted = payments[5]["id"]
    (operation, *_) = (await shop.client.get(f"/payments/{wanted}/operations")).json()["data"]
    assert await listed(shop, {"processor_reference": operation["reference"]}) == [wanted]
    for more, total in (({}, 1), ({"amount_to": 1}, 0), ({"last4": "9999", "status": "voided"}, 0)):
        query = {"processor_reference": operation["reference"], "page": 1, **more}
        page = (await shop.client.get("/payments", params=query)).json()
        assert (len(page["data"]), page["pagination"]["total"]) == (total, total), more
    mistyped = await shop.client.get("/payments?processor_reference=abc")
    assert mistyped.json()["errors"][0]["pointer"] == "?processor_reference"


async def test_a_cursor_works_only_with_its_filters(sold: tuple[Shop, list[Payment]]) -> None:
    shop, _ = sold
    first = (await shop.client.get("/payments?status=captured&limit=2")).json()
    for query in ("status=declined", "status=captured&currency=USD", "", "order=oldest"):
        answer = await shop.client.get(f"/payments?{query}&cursor={first['next_cursor']}")
        assert answer.status_code == 422, query


async def test_a_payment_whose_outcome_is_unknown_is_found_as_processing(stack: Stack) -> None:
    gateway = await stack.gateway(unknown_first_inquiry_s="60")
    shop = await stack.shop(gateway)
    await stack.simulator.fault("drop_reply", shop.login)
    answer = await shop.pay(1234, order_reference="lost")
    assert answer.status_code == 202, answer.text
    lost = [answer.json()["id"]]

    async def is_found() -> bool:
        return await listed(shop, {"status": "processing"}) == lost

    await until(is_found, what="the search table has the payment")
    assert await listed(shop, {"status": "processing", "order_reference": "lost"}) == lost
    assert await listed(shop, {"status": "processing", "amount_from": 2000}) == []
    other = await shop.paid(order_reference="lost")

    async def are_found() -> bool:
        return await listed(shop, {"order_reference": "lost"}) == [other["id"], *lost]

    await until(are_found, what="the search table has the other one")
    oldest = {"order_reference": "lost", "order": "oldest"}
    assert await listed(shop, oldest) == [*lost, other["id"]]
    for filters in ({"currency": "USD"}, {"last4": "1111"}, {"last4": "1111", "brand": "visa"}):
        assert await listed(shop, filters) == [other["id"], *lost], filters
    assert await listed(shop, {"order_reference": "lost", "status": "captured"}) == [other["id"]]
    page = (await shop.client.get("/payments?order_reference=lost&page=2&size=1")).json()
    assert [each["id"] for each in page["data"]] == lost
    assert (page["pagination"]["total"], page["pagination"]["total_is_estimate"]) == (2, False)
    exporter = await stack.with_key(shop, scopes=["payments:export"])
    export = await exporter.client.get("/payments/export?order_reference=lost")
    assert export.text.splitlines()[-1].startswith("rows,2,")
    await exporter.client.aclose()

    # However many of them there are, each is found, and the total is exact.
    await stack.fetch(
        "INSERT INTO unresolved_operations"
        " (merchant_id, operation_id, payment_id, since, next_inquiry_at)"
        " SELECT $1, gen_random_uuid(), (left(lowest_id_at(now() + interval '1 hour')::text, 24)"
        "        || lpad(to_hex(n), 12, '0'))::uuid, now(), now() + interval '1 day'"
        "   FROM generate_series(1, 1000) AS n",
        shop.merchant_id,
    )
    assert await listed(shop, {"order_reference": "lost"}) == [other["id"], *lost]
    page = (await shop.client.get("/payments?order_reference=lost&page=1&size=5")).json()
    assert (page["pagination"]["total"], page["pagination"]["total_is_estimate"]) == (2, False)
    assert await listed(shop, {"status": "processing", "order_reference": "lost"}) == lost


@pytest.mark.parametrize(
    "query",
    ["status=paid", "currency=usd", "amount_from=-1", "amount_to=1.5", "last4=11", "brand=",
     "refunded=yes", "order_reference=", "status=captured&status=declined"],
)  # fmt: skip
async def test_a_bad_filter_is_named(shop: Shop, query: str) -> None:
    answer = await shop.client.get(f"/payments?{query}")
    assert answer.status_code == 422
    name = query.partition("=")[0]
    assert [error["pointer"] for error in answer.json()["errors"]] == [f"?{name}"]
