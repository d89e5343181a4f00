"""Measure what traces cost a gateway for each payment: off, at ten percent, and all of them.

    python -m easypay_bench.tracing_cost --rounds 5 --seconds 4

Three stacks run, and get the same load in turn, each round in another order, so that what else the
machine does disturbs all of them. What counts is the difference within a round. The collector takes
spans, and reads none.
"""

import argparse
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Final

from easypay_bench import cpu, load
from easypay_bench.load import Job, LoadFailed
from easypay_bench.payment_request import orders
from easypay_bench.stack import Stack, own, shop

RATES: Final[Mapping[str, str | None]] = {"off": None, "10%": "0.1", "100%": "1"}
_WARMUP_S: Final = 2.0
_NUMBERS: Final = 1_000_000
"""Each load has its own range of numbers, so no key is used twice."""


@dataclass
class Side:
    """A gateway, and what each of its loads cost."""

    stack: Stack
    job: Job
    gateway_us: list[float] = field(default_factory=list)
    """CPU for each payment, microseconds."""
    payments: int = 0


@contextmanager
def collector() -> Iterator[str]:
    """Run a collector that takes everything, and yield its address."""

    class Taker(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Taker)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def measured(directory: Path, *, rounds: int, seconds: float, connections: int) -> dict[str, Side]:
    """Return each side with the cost of each round. Raises LoadFailed, StackFailed."""
    generator = load.choose("auto", seconds)
    with ExitStack() as parts:
        url = parts.enter_context(collector())
        sides = {}
        for place, (name, rate) in enumerate(RATES.items()):
            folder = directory / str(place)
            folder.mkdir()
            settings = {} if rate is None else {"traces_url": url, "traces_rate": rate}
            stack = parts.enter_context(own(folder, settings=settings))
            merchant = parts.enter_context(shop(stack))
            host = f"{stack.host}:{stack.port}"
            job = Job(stack.host, stack.port, orders(host, merchant.api_key), connections, seconds)
            sides[name] = Side(stack, job)
        for side in sides.values():
            _load(generator, side, _WARMUP_S, 0)
        for number in range(rounds):
            for name in _turned(list(sides), number):
                side = sides[name]
                side.gateway_us.append(_load(generator, side, seconds, number + 1))
        return sides


def _turned(names: list[str], number: int) -> list[str]:
    """Return the order of a round: each is first as often as the others."""
    at = number % len(names)
    return names[at:] + names[:at]


def _load(generator: str, side: Side, seconds: float, number: int) -> float:
    """Load one side, and return the gateway's CPU for each payment, in microseconds."""
    used = cpu.processes(side.stack.gateway_pids)
    before = 0.0

    def start() -> None:
        nonlocal before
        before = used()

    job = Job(
        side.job.host,
        side.job.port,
        side.job.orders,
        side.job.connections,
        seconds,
        number * _NUMBERS,
    )
    done = load.run(generator, job, start)
    spent_s = used() - before
    if done.wrong or not done.replies:
        raise LoadFailed(f"not all payments were answered 201: {done.wrong}")
    side.payments += done.replies
    return spent_s / done.replies * 1e6


def more_than_off(costs: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, float, float]]:
    """Return what each side costs more than `off`, of the same round: least, median and most."""
    return {
        name: (min(more), median(more), max(more))
        for name, each in costs.items()
        if name != "off"
        for more in [[on - off for on, off in zip(each, costs["off"], strict=True)]]
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--rounds", type=int, default=5, help="loads of each side (5)")
    options.add_argument("--seconds", type=float, default=4.0, help="of each load (4)")
    options.add_argument("--connections", type=int, default=64, help="of each load (64)")
    asked = options.parse_args(arguments)
    # As with Ctrl-C, every started program is stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="easypay-bench-") as directory:
        sides = measured(
            Path(directory),
            rounds=asked.rounds,
            seconds=asked.seconds,
            connections=asked.connections,
        )
    costs = {name: side.gateway_us for name, side in sides.items()}
    lines = [
        f"CPU of the gateway for each payment, us; {asked.rounds} rounds, "
        f"{sum(side.payments for side in sides.values())} payments",
        f"   off {median(costs['off']):7.1f}  median",
        *(
            f"{name:>6} {least:+7.1f} {middle:+7.1f} {most:+7.1f}  more: least, median, most"
            for name, (least, middle, most) in more_than_off(costs).items()
        ),
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
