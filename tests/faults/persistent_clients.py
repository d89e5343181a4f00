"""Clients that repeat each request with its key until it has a final response."""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable

import httpx

from harness import Shop, Stack, all_known, audit, until

ENDS = frozenset({200, 201, 202})
WAITS = frozenset({409, 503})
PAUSE_S = 0.1


class Load:
    """Paying clients, with counts of the statuses and connection errors they met."""

    def __init__(self) -> None:
        self.met: Counter[str] = Counter()
        self.answered: dict[str, httpx.Response] = {}
        """The final response to each key."""

    async def insist(
        self, key: str, ask: Callable[[str], Awaitable[httpx.Response]], *, within_s: float = 60
    ) -> httpx.Response:
        """Repeat until the response is final. A response that asks to wait must say for how long.

        Any other status fails the test at once.
        """
        ends = time.monotonic() + within_s
        while True:
            assert time.monotonic() < ends, f"{key} not answered within {within_s} s: {self.met}"
            try:
                answer = await ask(key)
            except httpx.TransportError as error:
                self.met[type(error).__name__] += 1
            else:
                self.met[str(answer.status_code)] += 1
                if answer.status_code not in WAITS:
                    assert answer.status_code in ENDS, (answer.status_code, answer.text)
                    self.answered[key] = answer
                    return answer
                assert int(answer.headers["retry-after"]) >= 1, answer.text
            await asyncio.sleep(PAUSE_S)

    async def run(self, shop: Shop, *, clients: int, until_stopped: asyncio.Event) -> None:
        """Let this many clients pay, one payment after another, until stopped."""

        async def client(number: int) -> None:
            while not until_stopped.is_set():
                amount = 100 + number
                await self.insist(
                    str(uuid.uuid4()), lambda key, amount=amount: shop.pay(amount, key=key)
                )

        await asyncio.gather(*(client(number) for number in range(clients)))

    async def reaches(self, count: int, *, within_s: float = 60) -> None:
        """Wait until this many more requests are answered."""
        goal = len(self.answered) + count

        async def enough() -> bool:
            return len(self.answered) >= goal

        await until(enough, within_s=within_s, what=f"{count} more answers, met: {self.met}")


async def assert_nothing_lost(stack: Stack, shop: Shop, load: Load) -> None:
    """Each acknowledged payment is as acknowledged, each key has one, and the audit is clean."""
    assert set(load.met) <= {str(status) for status in ENDS | WAITS}, "a connection was lost"
    await all_known(stack, shop)
    bodies = {key: answer.json() for key, answer in load.answered.items()}
    paid = {body["id"] for body in bodies.values()}
    assert len(paid) == len(bodies)
    listed = {payment["id"]: payment for payment in await shop.all("/payments")}
    for key, body in bodies.items():
        if load.answered[key].status_code == 201:
            assert listed[body["id"]] == body
        else:
            assert listed[body["id"]]["status"] in ("captured", "failed")
    assert set(listed) == paid
    truth = await stack.simulator.truth(login=shop.login)
    assert len(truth) == sum(each["status"] == "captured" for each in listed.values())
    assert await audit(stack, shop) == []
