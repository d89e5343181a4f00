"""Random sequences of requests with a processor that misbehaves: the money rules always hold.

Hypothesis drives the API of a real gateway and the simulator's faults. Once the faults stop and
every unknown has ended, `audit` checks the result.
"""

import asyncio
import json
import threading
import uuid
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from breadth import examples
from easypay.problem_table import PROBLEMS
from harness import Control, Gateway, Shop, Stack, all_known, audit

EXAMPLES = examples(8, 25)
FAULTS = (
    "drop_reply",
    "error_after",
    "error_before",
    "truncate",
    "garbage",
    "reset_before",
    "busy",
)
OTHERS = ["getTransactionDetailsRequest", "updateHeldTransactionRequest"]
STATUSES = {201, 202, 409, 422, 503}
amounts = st.integers(min_value=1, max_value=3000)


class Loop:
    """An event loop in its own thread, because hypothesis is synchronous and the stack is not."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout=60)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()


class Days(RuleBasedStateMachine):
    """A shop on a gateway, and what it and its processor may do."""

    payments = Bundle("payments")
    asked = Bundle("asked")

    def __init__(self, stack: Stack, gateway: Gateway, loop: Loop) -> None:
        super().__init__()
        self.loop = loop
        self.stack = Stack(stack.dsn, Control(stack.simulator.url), stack.folder)  # type: ignore[arg-type,union-attr]
        self.shop: Shop = loop.run(self.stack.shop(gateway))
        hold = {"login": self.shop.login, "held_above": "26.00"}
        loop.run(self.stack.simulator.post("/settings", **hold))

    def money(self, path: str, body: dict[str, Any]) -> tuple[Any, ...]:
        key = str(uuid.uuid4())
        answer = self.loop.run(self.shop.post(path, body, key=key))
        assert answer.status_code in STATUSES, answer.text
        return path, body, key, answer.status_code, answer.content

    @rule(target=payments, amount=amounts, capture=st.sampled_from(["automatic", "manual"]))
    def pay(self, amount: int, capture: str) -> Any:
        answer = self.loop.run(self.shop.pay(amount, capture=capture))
        assert answer.status_code in STATUSES, answer.text
        if answer.status_code in (201, 202):
            return answer.json()["id"]
        return multiple()

    @rule(target=asked, payment=payments, amount=st.none() | amounts)
    def capture(self, payment: str, amount: int | None) -> Any:
        body = {} if amount is None else {"amount": amount}
        return self.money(f"/payments/{payment}/capture", body)

    @rule(target=asked, payment=payments, amount=st.none() | amounts)
    def refund(self, payment: str, amount: int | None) -> Any:
        body = {} if amount is None else {"amount": amount}
        return self.money(f"/payments/{payment}/refunds", body)

    @rule(target=asked, payment=payments)
    def void(self, payment: str) -> Any:
        return self.money(f"/payments/{payment}/void", {})

    @rule(target=asked, payment=payments, action=st.sampled_from(["approve", "decline"]))
    def decide(self, payment: str, action: str) -> Any:
        return self.money(f"/payments/{payment}/{action}", {})

    @rule(request=consumes(asked))
    def repeat(self, request: tuple[Any, ...]) -> None:
        path, body, key, status, content = request
        again = self.loop.run(self.shop.post(path, body, key=key))
        kept = status in (409, 422) and PROBLEMS[json.loads(content)["code"]].kept
        if status in (201, 202) or kept:
            assert again.content == content
        reused = self.loop.run(self.shop.pay(1, key=key))
        if status in (201, 202):
            assert reused.status_code == 422

    @rule(
        kind=st.sampled_from(FAULTS),
        count=st.integers(1, 2),
        method=st.sampled_from(["createTransactionRequest"] * 3 + OTHERS),
    )
    def misbehave(self, kind: str, count: int, method: str) -> None:
        fault = {"kind": kind, "count": count, "login": self.shop.login, "method": method}
        self.loop.run(self.stack.simulator.post("/faults", **fault))

    @rule()
    def settle(self) -> None:
        self.loop.run(self.stack.simulator.post("/settle"))

    @invariant()
    def rules_that_hold_at_every_commit(self) -> None:
        assert self.loop.run(audit(self.stack, self.shop, settled=False)) == []

    def teardown(self) -> None:
        self.loop.run(self.quiet())

    async def quiet(self) -> None:
        await self.stack.simulator.clear_faults()
        await all_known(self.stack, self.shop)
        assert await audit(self.stack, self.shop) == []
        await self.shop.client.aclose()
        await self.stack.simulator.client.aclose()
        self.stack.sessions.end()


@pytest.mark.breadth
@pytest.mark.timeout(examples(120, 300))
def test_the_money_rules_hold_after_any_requests(shared_stack: Stack, gateway: Gateway) -> None:
    loop = Loop()
    try:
        run_state_machine_as_test(
            lambda: Days(shared_stack, gateway, loop),
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=15,
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        loop.stop()
