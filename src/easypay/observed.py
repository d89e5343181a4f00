"""`@observed("name")` measures an async function: how long it takes, and how it ends.

    @observed("a pass over an account")
    async def run(self) -> None: ...

What is measured goes to the process's histogram (`easypay_function_duration_seconds`) once
`observe_with` was called; before, it goes nowhere. A call costs one more coroutine, two readings of
the clock and one cell of the histogram: about a microsecond. So it stands on work that takes
milliseconds, such as a chore or a pass over an account, and never on what every payment runs
through: groups, statements and calls to the processor have histograms of their own.

A function that is cancelled or fails is measured, too. The exception passes as it is.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

from easypay.clock import stopwatch

P = ParamSpec("P")
R = TypeVar("R")
Observe = Callable[..., None]


def _nowhere(took_s: float, function: str, result: str) -> None:
    """Until the process has metrics."""


_sink: Final[list[Observe]] = [_nowhere]


def observe_with(observe: Observe) -> None:
    """Give what is measured to `observe(seconds, function, result)` from now on."""
    _sink[0] = observe


def observed(
    name: str,
) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Coroutine[Any, Any, R]]]:
    """Return the decorator. `name` is a label of the metric: a constant, for people."""

    def decorate(function: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        @wraps(function)
        async def measured(*args: P.args, **kwargs: P.kwargs) -> R:
            begun = stopwatch()
            result = "error"
            try:
                answer = await function(*args, **kwargs)
                result = "ok"
                return answer
            except asyncio.CancelledError:
                result = "cancelled"
                raise
            finally:
                _sink[0](stopwatch() - begun, name, result)

        return measured

    return decorate
