"""kill -9 between begin and reply, for merchants who check duplicates: the guard outlives the
process, and the same key again is no duplicate of itself."""

import asyncio

import httpx
import pytest

from harness import QUICK, Gateway, Shop, Stack, audit, until


async def checking_shop(stack: Stack, gateway: Gateway, action: str) -> Shop:
    shop = await stack.shop(gateway)
    sql = "UPDATE merchants SET duplicates = $2 WHERE merchant_id = $1"
    await stack.fetch(sql, shop.merchant_id, action)
    return shop


async def killed(stack: Stack, shop: Shop, failpoint: str, key: str) -> None:
    """Send a payment to a gateway that dies at this point."""
    doomed = await stack.gateway(**QUICK | {"failpoint": failpoint})
    at_doomed = shop.at(doomed.url)
    with pytest.raises(httpx.TransportError):
        await at_doomed.pay(key=key)
    await at_doomed.client.aclose()


async def test_a_guard_and_its_reply_outlive_the_process(stack: Stack) -> None:
    gateway = await stack.gateway(**QUICK)
    await (await stack.shop(gateway)).paid()
    connected = "SELECT FROM pg_stat_activity WHERE application_name LIKE 'easypay begin-checked%'"
    ours = " AND datname = current_database()"
    assert await stack.fetch(connected + ours) == [], "who does not check costs no connection"
    flags = await checking_shop(stack, gateway, "flag")
    rejects = await checking_shop(stack, gateway, "reject")
    first = (await flags.paid())["id"]
    await asyncio.gather(
        killed(stack, flags, "after_reply", "second"), killed(stack, rejects, "after_begin", "lost")
    )

    # Charged, and the process died before it could say so. Its twin is in the reply all the same.
    async def replies() -> httpx.Response | None:
        answer = await flags.pay(key="second")
        return answer if answer.status_code != 409 else None

    found = await until(replies, what="the killed request has its reply")
    assert (found.status_code, found.headers["idempotency-replayed"]) == (201, "true")
    assert found.json()["status"] == "captured"
    assert found.json()["possible_duplicate_of"] == first
    assert len(await stack.simulator.truth(login=flags.login)) == 2

    # Begun and never sent. Until that is proven it counts; its own key never calls it a duplicate.
    own: set[str] = set()
    others: list[str] = []

    async def taken() -> bool:
        answer = (await rejects.pay(key="lost")).json()
        own.add(answer.get("code") or answer["status"])
        answer = (await rejects.pay(key="other")).json()
        others.append(answer.get("code") or answer["status"])
        return others[-1] == "captured"

    await until(taken, what="the payment that was never sent fails and counts no more")
    assert own <= {"request_in_progress", "failed"}
    assert set(others) == {"duplicate_payment", "captured"}
    assert (await rejects.pay(key="lost")).json()["status"] == "failed"
    truth = await stack.simulator.truth(login=rejects.login)
    assert len(truth) == 1, "only the other key was charged"
    for shop in (flags, rejects):
        assert await audit(stack, shop) == []
        await shop.client.aclose()
