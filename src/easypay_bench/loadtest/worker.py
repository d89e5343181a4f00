"""One generator process (`python -m easypay_bench.loadtest.worker`).

It reads its order as one JSON line, opens its connections and says so, waits for the start,
reports its progress, and at the end its tally. Everything due is started by the clock: if the
gateway or this process is slow, the wait counts.
"""

import asyncio
import base64
import json
import random
import re
import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter, time
from typing import Any, Final

import msgspec
import uvloop

from easypay_bench.generator import cpu_s
from easypay_bench.loadtest.connections import Answer, Connections, Lost
from easypay_bench.loadtest.histograms import Tally
from easypay_bench.loadtest.scenarios import (
    Line,
    Memory,
    Scenario,
    Shop,
    Unexpected,
    mix,
    replaying,
)
from easypay_bench.loadtest.schedule import Schedule, due

_TIMING: Final = re.compile(rb"(total|processor);dur=([0-9.]+)")


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """The work of one generator."""

    host: str
    port: int
    api_key: str
    schedule: Schedule
    weights: dict[str, float]
    replay: list[Line] = []
    connections: int
    max_in_flight: int
    warmup_s: float
    answer_within_s: float = 30.0
    """From when it was sent; a later answer counts as wrong."""
    index: int = 0
    processes: int = 1
    seed: int = 1


class Generator:
    """The load of one process."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.connections = Connections(order.host, order.port)
        self.tally = Tally()
        self.in_flight = 0
        self.started = 0.0
        self._cpu_from_s = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        choose = random.Random(order.seed + order.index)  # noqa: S311
        self._next: Callable[[], Scenario]
        if order.replay:
            scenario = replaying(order.replay)
            self._next = lambda: scenario
        else:
            self._next = mix(order.weights, choose)
        self._memory = Memory(
            f"{order.host}:{order.port}", order.api_key, seed=order.seed * 1000 + order.index
        )

    async def run(self) -> None:
        """Run the whole schedule, warm-up first; then wait for what is in flight."""
        order = self.order
        self.started = perf_counter()
        if order.schedule.model == "closed":
            asyncio.get_running_loop().call_later(order.warmup_s, self._note_cpu)
            await asyncio.gather(*(self._closed_caller() for _ in range(order.connections)))
        else:
            if order.warmup_s:
                warmup = msgspec.structs.replace(
                    order.schedule, model="constant", seconds=order.warmup_s
                )
                await self._pace(warmup, 0.0)
            self._note_cpu()
            await self._pace(order.schedule, order.warmup_s)
        self.tally.cpu_s = cpu_s() - self._cpu_from_s
        if self._tasks:
            _, unfinished = await asyncio.wait(self._tasks, timeout=order.answer_within_s)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished)
        self.connections.close()

    @property
    def is_over(self) -> bool:
        """Whether the measured time is over; answers may still come."""
        return self.after_warmup_s(perf_counter()) >= self.order.schedule.seconds

    def after_warmup_s(self, moment: float) -> float:
        return moment - self.started - self.order.warmup_s

    def _note_cpu(self) -> None:
        self._cpu_from_s = cpu_s()

    async def _pace(self, schedule: Schedule, offset_s: float) -> None:
        order, loop = self.order, asyncio.get_running_loop()
        for at in due(schedule, index=order.index, processes=order.processes):
            moment = self.started + offset_s + at
            # Even if it is late it lets the answers in: they count from when they came.
            await asyncio.sleep(max(0.0, moment - perf_counter()))
            begin = _Due(self, moment)
            if begin.counts:
                self.tally.lateness.record(max(0.0, perf_counter() - moment))
            if self.in_flight >= order.max_in_flight:
                if begin.counts:
                    self.tally.dropped += 1
                    self.tally.second(begin.at_s).dropped += 1
                continue
            self.in_flight += 1
            task = loop.create_task(self._act(begin))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        # The last due moment is not the end: a rate covers the whole time.
        rest_s = self.started + offset_s + schedule.seconds - perf_counter()
        if rest_s > 0:
            await asyncio.sleep(rest_s)

    async def _closed_caller(self) -> None:
        while not self.is_over:
            self.in_flight += 1
            await self._act(_Due(self, perf_counter()))

    async def _act(self, begin: "_Due") -> None:
        try:
            await self._next()(Shop(self._memory, begin))
        except Unexpected:
            pass  # counted where it happened; the rest of this scenario makes no sense
        except (msgspec.MsgspecError, KeyError):
            if begin.counts:
                self.tally.failed("unreadable answer", begin.at_s)
        else:
            self.tally.ended += begin.counts and not self.is_over
        finally:
            self.in_flight -= 1


class _Due:
    """Sends the calls of one scenario. The first was due when the schedule says, each later one
    when the previous one was answered."""

    __slots__ = ("_generator", "at_s", "counts", "moment")

    def __init__(self, generator: Generator, due_at: float) -> None:
        self._generator = generator
        # The loop's timers have whole milliseconds and may fire early. A request sent early counts
        # from its sending, or that part of its latency would be lost.
        self.moment = min(due_at, perf_counter())
        self.at_s = generator.after_warmup_s(due_at)
        """When the call was due, in seconds since the warm-up ended."""
        self.counts = self.at_s >= 0
        if self.counts:
            generator.tally.due += 1
            generator.tally.second(self.at_s).due += 1

    async def __call__(
        self, name: str, request: bytes, good: Sequence[int], *, creates: bool
    ) -> Answer:
        generator = self._generator
        tally, moment, at_s = generator.tally, self.moment, self.at_s
        try:
            answer = await generator.connections.exchange(request, generator.order.answer_within_s)
        except (Lost, TimeoutError, asyncio.CancelledError) as error:  # cancelled: time is up
            what = "connection lost" if isinstance(error, Lost) else "no answer"
            tally.payments["unanswered"] += creates
            if self.counts:
                tally.failed(what, at_s)
            raise Unexpected(what) from error
        now = self.moment = perf_counter()
        self.at_s = generator.after_warmup_s(now)
        if creates:  # in the warm-up too: the accounting covers all payments
            tally.payments["create"] += answer.status in good
            tally.payments["unanswered"] += answer.status >= 500
        if not self.counts:
            if answer.status not in good:
                raise Unexpected(answer.status)
            return answer
        tally.statuses[str(answer.status)] += 1
        if answer.status not in good:
            tally.failed(f"status {answer.status}", at_s)
            raise Unexpected(answer.status)
        tally.answered(name, now - moment, at_s)
        tally.in_time += not generator.is_over
        timing = dict(_TIMING.findall(answer.head))
        if b"total" in timing:
            processor_s = float(timing.get(b"processor", 0)) / 1000
            tally.own.record(max(0.0, float(timing[b"total"]) / 1000 - processor_s))
            if processor_s:
                tally.processor.record(processor_s)
        return answer


async def _main() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))
    loop = asyncio.get_running_loop()
    order = msgspec.json.decode(await loop.run_in_executor(None, sys.stdin.readline), type=Order)
    generator = Generator(order)
    try:
        await generator.connections.connect(order.connections)
    except OSError as error:
        _say({"failed": f"cannot open {order.connections} connections: {error}"})
        return
    _say({"ready": order.connections})
    start_at = json.loads(await loop.run_in_executor(None, sys.stdin.readline))["start_at"]
    await asyncio.sleep(max(0.0, start_at - time()))
    ticker = loop.create_task(_report_progress(generator))
    await generator.run()
    ticker.cancel()
    packed = msgspec.msgpack.encode(generator.tally.encode())
    _say({"tally": base64.b64encode(packed).decode(), "lost": generator.connections.lost})


async def _report_progress(generator: Generator) -> None:
    """Report the progress twice a second."""
    while True:
        await asyncio.sleep(0.5)
        tally = generator.tally
        _say(
            {
                "at": perf_counter() - generator.started,
                "done": sum(each.count for each in tally.calls.values()),
                "wrong": sum(tally.wrong.values()),
                "dropped": tally.dropped,
                "in_flight": generator.in_flight,
                "cpu_s": cpu_s(),
                "recent": tally.recent(),
            }
        )


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def read_replay(path: Path) -> list[Line]:
    """Return the lines of a JSONL file. Raises ValueError that names a bad line."""
    lines = []
    for number, text in enumerate(path.read_bytes().splitlines(), 1):
        if not text.strip():
            continue
        try:
            lines.append(msgspec.json.decode(text, type=Line))
        except msgspec.MsgspecError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
    if not lines:
        raise ValueError(f"{path} has no requests")
    return lines


if __name__ == "__main__":
    uvloop.run(_main())
