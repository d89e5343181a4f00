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
"""All start at one moment of the wall clock, late enough for all to know of it."""


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
    """Run all orders to their end, and add up their tallies. `watch` gets the progress.

    Raises LoadFailed if one of them failed.
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
            reports = [worker.latest for worker in workers if worker.latest]
            if reports:
                watch(_together(reports))
        total = Tally()
        for worker in workers:
            total.add(worker.tally())
        return total
    finally:
        for worker in workers:
            worker.end()


def _together(reports: Sequence[dict[str, Any]]) -> Progress:
    slowest = max((each["recent"] for each in reports), key=lambda spread: spread.get("p99", 0))
    return Progress(
        at_s=max(each["at"] for each in reports),
        recent=slowest,
        **{
            name: sum(each[name] for each in reports)
            for name in ("done", "wrong", "dropped", "in_flight", "cpu_s")
        },
    )


class _Worker:
    """One generator process and its messages."""

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
        message = json.loads(line) if line else {"failed": "the generator ended at once"}
        if "failed" in message:
            raise LoadFailed(message["failed"])

    def say(self, message: dict[str, Any]) -> None:
        self._write(json.dumps(message))

    def listen(self) -> None:
        """Read its messages in a thread."""
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    @property
    def listening(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def tally(self) -> Tally:
        if "tally" not in self._last:
            raise LoadFailed("a generator ended without a result")
        return decode(msgspec.msgpack.decode(base64.b64decode(self._last["tally"])))

    def end(self) -> None:
        """Kill it if it still runs, and reap it."""
        if self._process.poll() is None and not self._last:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _follow(self) -> None:
        for line in self._output:
            message = json.loads(line)
            if "tally" in message:
                self._last = message
            else:
                self.latest = message

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    @property
    def _output(self) -> IO[str]:
        assert self._process.stdout is not None
        return self._process.stdout
