"""What clients get who allow an answer to be some time old, and what all others get."""

import asyncio
import itertools
from typing import Any

import httpx
import pytest

from easypay.api.conditional import version_tag
from easypay.merchants import admin
from harness.metrics import counted
from harness.processes import Gateway
from harness.sessions import connected
from harness.shop import Shop
from harness.stack import Stack
from harness.waiting import until

OLD: dict[str, str] = {"cache_control": "max-age=1"}
"""For more, the gateway would follow the feed, and drop the payment once more when its own event
gets its place."""


async def get(shop: Shop, path: str, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await shop.client.get(path, headers=named)


async def reads(shop: Shop, kind: str, result: str) -> float:
    return await counted(shop.url, "easypay_cache_requests_total", cache=kind, result=result)


async def allow(stack: Stack, shop: Shop, milliseconds: int) -> None:
    """Set how old the merchant allows answers to be, and wait until the gateway knows."""
    async with connected(stack.dsn) as connection:
        await admin.update_merchant(connection, shop.merchant_id, read_staleness_ms=milliseconds)
    paid = await shop.paid()

    async def knows() -> bool:
        first = await shop.client.get(f"/payments/{paid['id']}")
        second = await shop.client.get(f"/payments/{paid['id']}")
        return ("age" in second.headers or "age" in first.headers) == (milliseconds > 0)

    await until(knows, what="the gateway knows the merchant's setting")


async def test_with_leave_a_payment_is_read_once(shop: Shop) -> None:
    paid = await shop.paid()
    path = f"/payments/{paid['id']}"
    before = await reads(shop, "payment", "miss")
    answers = await asyncio.gather(*(get(shop, path, **OLD) for _ in range(50)))
    queries = await reads(shop, "payment", "miss") - before
    assert queries in (1, 2), "a second one if the payment's own event gets its place just then"
    assert {answer.text for answer in answers} == {(await get(shop, path)).text}
    assert sum("age" not in answer.headers for answer in answers) == queries
    assert {answer.headers.get("age", "0") for answer in answers} == {"0"}
    assert {answer.headers["etag"] for answer in answers} == {version_tag(2).decode()}


async def test_without_leave_every_answer_is_new(shop: Shop, second_gateway: Gateway) -> None:
    """Two gateways, one of which has just put the payment into its cache."""
    elsewhere = shop.at(second_gateway.url)
    paid = await shop.paid(capture="manual")
    path = f"/payments/{paid['id']}"
    for each in (shop, elsewhere):
        assert (await get(each, path, **OLD)).json()["status"] == "authorized"
    assert (await shop.capture(paid["id"])).status_code == 201
    for headers in ({}, {"cache_control": "no-cache"}, {"cache_control": "max-age=0"}):
        for each in (shop, elsewhere):
            answer = await get(each, path, **headers)
            assert answer.json()["status"] == "captured"
            assert "age" not in answer.headers


async def test_the_gateway_that_records_an_outcome_forgets_what_was(shop: Shop) -> None:
    paid = await shop.paid(capture="manual")
    path = f"/payments/{paid['id']}"
    assert (await get(shop, path, **OLD)).json()["status"] == "authorized"
    await shop.capture(paid["id"])
    assert (await get(shop, path, **OLD)).json()["status"] == "captured"
    await shop.refund(paid["id"])
    assert (await get(shop, path, **OLD)).json() == await shop.payment(paid["id"])


async def test_if_none_match_is_answered_from_the_cache(shop: Shop) -> None:
    path = f"/payments/{(await shop.paid())['id']}"

    async def is_answered() -> bool:
        """On a busy machine the first answer may be too old by then."""
        tag = (await get(shop, path, **OLD)).headers["etag"]
        unchanged = await get(shop, path, if_none_match=tag, **OLD)
        assert unchanged.status_code == 304
        assert unchanged.content == b""
        assert (await get(shop, path, if_none_match='"v1"', **OLD)).status_code == 200
        return unchanged.headers.get("age") == "0"

    await until(is_answered, what="a 304 comes from the cache")


async def test_who_asks_first_with_a_tag_leaves_a_whole_answer_for_others(shop: Shop) -> None:
    async def is_left() -> bool:
        """On a busy machine the first answer may be too old by then: then with another payment."""
        path = f"/payments/{(await shop.paid())['id']}"
        first = await get(shop, path, if_none_match=version_tag(2).decode(), **OLD)
        assert first.status_code == 304
        assert "age" not in first.headers
        second = await get(shop, path, **OLD)
        assert second.status_code == 200
        return second.headers.get("age") == "0"

    await until(is_left, what="the second answer comes from the cache")


async def test_a_merchant_may_allow_it_for_all_its_reads(shop: Shop, shared_stack: Stack) -> None:
    await allow(shared_stack, shop, 900)
    path = f"/payments/{(await shop.paid(capture='manual'))['id']}"

    async def is_cached() -> bool:
        """On a busy machine the answer before may be too old by then."""
        return "age" in (await get(shop, path)).headers

    await until(is_cached, what="an answer comes from the cache")
    assert "age" not in (await get(shop, path, cache_control="no-cache")).headers
    assert "age" not in (await get(shop, path, cache_control="max-age=0")).headers


async def test_a_payment_that_is_not_there_is_asked_for_once(shop: Shop) -> None:
    numbers = itertools.count(1)

    async def is_asked_for_once() -> bool:
        """On a busy machine the first answer may be too old for the last: then another payment."""
        path = f"/payments/pay_{'0' * 12}70008000{next(numbers):012}"
        before = await reads(shop, "payment", "miss")
        for _ in range(5):
            answer = await get(shop, path, **OLD)
            assert answer.status_code == 404
            assert answer.json()["code"] == "not_found"
        return await reads(shop, "payment", "miss") == before + 1

    await until(is_asked_for_once, what="five answers of one look")


async def test_no_merchant_gets_anothers_payment(shop: Shop, shared_stack: Stack) -> None:
    path = f"/payments/{(await shop.paid())['id']}"
    assert (await get(shop, path, **OLD)).status_code == 200
    stranger = await shared_stack.shop(shared_stack.only_gateway)
    async with stranger.client:
        assert (await get(stranger, path, **OLD)).status_code == 404


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/payments", "payments"),
        ("/payments?status=captured&limit=5", "payments"),
        ("/payments?page=1&size=2", "payments"),
        ("/refunds", "refunds"),
        ("/payments/stats", "statistics"),
        ("/payments/duplicates", "duplicates"),
    ],
)
async def test_a_first_page_is_read_once(shop: Shop, path: str, kind: str) -> None:
    await shop.paid()
    before = await reads(shop, kind, "miss")
    answers = [await get(shop, path, **OLD)]
    assert "age" not in answers[0].headers

    async def is_cached() -> bool:
        """On a busy machine the answer before may be too old by then."""
        answers.append(await get(shop, path, **OLD))
        return answers[-1].headers.get("age") == "0"

    await until(is_cached, what="an answer comes from the cache")
    assert answers[-1].content == answers[-2].content
    read = sum("age" not in answer.headers for answer in answers)
    assert await reads(shop, kind, "miss") == before + read
    await get(shop, path)
    assert await reads(shop, kind, "miss") == before + read


async def test_later_pages_and_expanded_payments_are_read_each_time(shop: Shop) -> None:
    paid = await shop.paid()
    await shop.paid()
    page: Any = (await get(shop, "/payments?limit=1", **OLD)).json()
    for path in (
        f"/payments?limit=1&cursor={page['next_cursor']}",
        f"/payments/{paid['id']}?expand=refunds",
    ):
        for _ in range(2):
            assert "age" not in (await get(shop, path, **OLD)).headers
