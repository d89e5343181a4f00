"""Time that a test moves by itself: the clocks of the database and the simulator, together.

The gateway counts ages and due times by `db_now()`, so hours pass as fast as its resolver notices
them.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from harness import Simulator, Stack, until

FAST = {
    # The production schedule by the database's clock, checked twenty times a second.
    "resolver_poll_s": "0.05",
    "processor_deadline_s": "0.5",
    "drain_s": "0.1",
}


class DrivenTime:
    """The two clocks of a stack that has its own simulator."""

    def __init__(self, stack: Stack) -> None:
        assert isinstance(stack.simulator, Simulator)
        self._stack = stack
        self._shifted_s = 0.0

    async def advance(
        self, seconds: float, *, once: Callable[[], Awaitable[Any]] | None = None
    ) -> None:
        """Move both clocks ahead. `once`: the gateway's follows the simulator's when this holds,
        so that the processor has done something before the gateway can inquire."""
        self._shifted_s += seconds
        if once is None:
            await self._stack.move_clock(self._shifted_s)
        await self._stack.simulator.post("/clock", advance_s=seconds)
        if once is not None:
            await until(once, what="the processor has done what was due")
            await self._stack.move_clock(self._shifted_s)

    async def until(
        self,
        condition: Callable[[], Awaitable[Any]],
        *,
        step_s: float,
        at_most_s: float,
        what: str = "",
    ) -> Any:
        """Move time in steps until the condition returns a true value; return that.

        Between two steps the resolver does all that is due.
        """
        passed = 0.0
        while True:
            await self.settles()
            value = await condition()
            if value:
                return value
            assert passed < at_most_s, f"not within {at_most_s} s of driven time: {what}"
            await self.advance(step_s)
            passed += step_s

    async def settles(self) -> None:
        """Wait until nothing is due and no process works on an account."""

        async def quiet() -> bool:
            due = await self._stack.value(
                "SELECT (SELECT count(*) FROM unresolved_operations"
                "         WHERE next_inquiry_at <= db_now())"
                "     + (SELECT count(*) FROM watched_operations WHERE next_look_at <= db_now())"
                "     + (SELECT count(*) FROM account_passes WHERE leased_until > db_now())"
            )
            return bool(due == 0)

        await until(quiet, within_s=30, what="the resolver has nothing to do")
