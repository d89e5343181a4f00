"""The generator processes of one run: started together, watched, and added up."""

import base64
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO, Any, Final

import msgspec

from easypay_bench.load import LoadFailed
from easypay_bench.loadtest.histograms import Tally, decode
from easypay_bench.loadtest.worker import Order

START_IN_S: Final = 0.3
"""All begin at one moment on the wall clock, soon enough for all to have heard of it."""


class Progress(msgspec.Struct, frozen=True):
    """What all generators together have done so far."""

    at_s: float
    done: int
    wrong: int
    dropped: int
    in_flight: int
    cpu_s: float
    recent: dict[str, float]
    """The slowest generator's spread over the last seconds, in milliseconds."""


def run(orders: Sequence[Order], watch: Callable[[Progress], None] = lambda _: None) -> Tally:
    """Run them all to their end, and add up what they measured. `watch` hears twice a second.

    Raises LoadFailed where one of them could not do its work.
    """
    workers = [_Worker(order) for order in orders]
    try:
        for worker in workers:
            worker.await_ready()
        start_at = time.time() + START_IN_S
        for worker in workers:
            worker.say({"start_at": start_at})
        for worker in workers:
            worker.listen()
        while any(worker.listening for worker in workers):
            time.sleep(0.25)
            told = [worker.latest for worker in workers if worker.latest]
            if told:
                watch(_together(told))
        total = Tally()
        for worker in workers:
            total.add(worker.tally())
        return total
    finally:
        for worker in workers:
            worker.end()


def _together(told: Sequence[dict[str, Any]]) -> Progress:
    slowest = max((each["recent"] for each in told), key=lambda spread: spread.get("p99", 0))
    return Progress(
        at_s=max(each["at"] for each in told),
        recent=slowest,
        **{
            name: sum(each[name] for each in told)
            for name in ("done", "wrong", "dropped", "in_flight", "cpu_s")
        },
    )


class _Worker:
    """One generator process and what it tells."""

    def __init__(self, order: Order) -> None:
        self.latest: dict[str, Any] = {}
        self._last: dict[str, Any] = {}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "easypay_bench.loadtest.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ},
        )
        self._thread: threading.Thread | None = None
        # The order holds an API key, so it goes through the pipe and not on the command line.
        self._write(msgspec.json.encode(order).decode())

    def await_ready(self) -> None:
        line = self._output.readline()
        told = json.loads(line) if line else {"failed": "the generator ended at once"}
        if "failed" in told:
            raise LoadFailed(told["failed"])

    def say(self, told: dict[str, Any]) -> None:
        self._write(json.dumps(told))

    def listen(self) -> None:
        """Follow what it tells, in a thread of its own."""
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    @property
    def listening(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def tally(self) -> Tally:
        if "tally" not in self._last:
            raise LoadFailed("a generator ended without telling what it measured")
        return decode(msgspec.msgpack.decode(base64.b64decode(self._last["tally"])))

    def end(self) -> None:
        """Kill it where it still runs, and reap it."""
        if self._process.poll() is None and not self._last:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _follow(self) -> None:
        for line in self._output:
            told = json.loads(line)
            if "tally" in told:
                self._last = told
            else:
                self.latest = told

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    @property
    def _output(self) -> IO[str]:
        assert self._process.stdout is not None
        return self._process.stdout
