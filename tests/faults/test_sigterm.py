"""SIGTERM under load: nothing that was accepted is lost, nothing becomes unknown."""

import asyncio
import uuid
from collections import Counter

import httpx

from harness import QUICK, Shop, Stack, audit, until

CLIENTS = 48


async def test_a_stop_under_load_loses_nothing(stack: Stack) -> None:
    gateway = await stack.gateway(**{**QUICK, "processor_deadline_s": "10"})
    shop: Shop = await stack.shop(gateway)
    await stack.simulator.slow(shop.login, ms=100)
    met: Counter[str] = Counter()
    unanswered: list[str] = []

    async def client(number: int) -> None:
        """Pays on a connection of its own until nobody listens any more."""
        async with httpx.AsyncClient(timeout=30) as own:
            while True:
                key = str(uuid.uuid4())
                try:
                    answer = await own.post(
                        f"{gateway.url}/api/v1/payments",
                        headers={
                            "authorization": f"Bearer {shop.secret}",
                            "idempotency-key": key,
                        },
                        json={
                            "amount": 100 + number,
                            "currency": "USD",
                            "payment_method": {
                                "type": "card",
                                "card": {
                                    "number": "4111111111111111",
                                    "exp_month": 12,
                                    "exp_year": 2035,
                                    "cvc": "907",
                                },
                            },
                        },
                    )
                except httpx.ConnectError:
                    met["refused"] += 1
                    return
                except httpx.TransportError as error:
                    met[type(error).__name__] += 1
                    unanswered.append(key)
                    return
                met[str(answer.status_code)] += 1

    clients = [asyncio.create_task(client(number)) for number in range(CLIENTS)]

    async def busy() -> bool:
        return met["201"] >= 2 * CLIENTS

    await until(busy)
    code = await asyncio.to_thread(gateway.terminate)
    await asyncio.gather(*clients)

    assert code == 0, gateway.said()
    assert set(met) == {"201", "refused"}, met
    assert met["refused"] == CLIENTS
    assert unanswered == []
    rows = await stack.fetch("SELECT status, count(*) AS n FROM payments GROUP BY status")
    assert [(row["status"], row["n"]) for row in rows] == [("captured", met["201"])]
    assert await stack.fetch("SELECT 1 FROM unresolved_operations") == []
    assert await audit(stack, shop) == []


async def test_readiness_goes_before_the_door_closes(stack: Stack) -> None:
    gateway = await stack.gateway(**{**QUICK, "drain_s": "2"})
    shop: Shop = await stack.shop(gateway)
    await shop.paid()
    stop = asyncio.create_task(asyncio.to_thread(gateway.terminate))
    async with httpx.AsyncClient(base_url=gateway.url) as client:

        async def draining() -> httpx.Response | None:
            answer = await client.get("/readyz")
            return answer if answer.status_code == 503 else None

        answer = await until(draining, within_s=5)
        assert answer.text == "not ready: draining\n"
        assert answer.headers["connection"] == "close"
        assert (await client.get("/livez")).status_code == 200
        assert (await shop.pay()).status_code == 201, "what still arrives is still served"
    assert await stop == 0
