"""Measure what traces cost a gateway for each payment: off, at ten percent, and all of them.

    python -m easypay_bench.tracing_cost --rounds 20

The gateways share a database and a simulator. They get the same load in turn, a second each, every
round in another order, so that what else the machine does disturbs all of them. What counts is the
difference within a round; its median has an interval of 95 of 100 from the bootstrap over rounds.
Two gateways run without traces: their difference shows what the measurement itself makes up. The
collector takes spans, counts their bytes, and reads none.
"""

import argparse
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Final

from easypay_bench import cpu, load
from easypay_bench.load import Job, LoadFailed
from easypay_bench.payment_request import orders
from easypay_bench.stack import another_gateway, own, shop

RATES: Final[Mapping[str, str | None]] = {"off": None, "off too": None, "10%": "0.1", "100%": "1"}
_SLOW: Final = {"traces_slow_s": "600", "traces_slow_own_s": "600"}
"""At its peak a gateway misses its targets, and keeps up to 50 traces a second besides its rate."""
_WARMUP_S: Final = 2.0
_SETTLE_S: Final = 1.3
"""After a load, its last spans leave within a second. Sending them belongs to its cost."""
_NUMBERS: Final = 1_000_000
"""Each load has its own range of numbers, so no key is used twice."""
_DRAWS: Final = 2_000
_OUTSIDE: Final = 0.025
"""The share of draws on either side of the interval."""


@dataclass
class Side:
    """A gateway, and what each of its loads cost."""

    used: Callable[[], float]
    """The CPU seconds of the gateway so far."""
    job: Job
    gateway_us: list[float] = field(default_factory=list)
    """CPU for each payment, microseconds."""
    payments: int = 0
    taken: int = 0
    """Bytes that the collector took during its loads."""


@contextmanager
def collector() -> Iterator[tuple[str, Callable[[], int]]]:
    """Run a collector that takes everything. Yield its address, and how many bytes it took."""
    taken = 0

    class Taker(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            nonlocal taken
            taken += len(self.rfile.read(int(self.headers["content-length"])))
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
        yield f"http://127.0.0.1:{server.server_port}", lambda: taken
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def measured(directory: Path, *, rounds: int, seconds: float, connections: int) -> dict[str, Side]:
    """Return each side with the cost of each round. Raises LoadFailed, StackFailed."""
    generator = load.choose("auto", seconds)
    with ExitStack() as parts:
        url, taken = parts.enter_context(collector())
        stack = parts.enter_context(own(directory))
        merchant = parts.enter_context(shop(stack))
        sides = {}
        for name, rate in RATES.items():
            settings = {} if rate is None else {"traces_url": url, "traces_rate": rate, **_SLOW}
            made = parts.enter_context(another_gateway(stack, settings))
            asked = orders(f"{made.host}:{made.port}", merchant.api_key)
            job = Job(made.host, made.port, asked, connections, seconds)
            sides[name] = Side(cpu.processes(made.gateway_pids), job)
        for side in sides.values():
            _load(generator, replace(side.job, seconds=_WARMUP_S), side.used)
        for number in range(rounds):
            for name in _turned(list(sides), number):
                side, before = sides[name], taken()
                job = replace(side.job, first_number=(number + 1) * _NUMBERS)
                spent_s, payments = _load(generator, job, side.used)
                side.gateway_us.append(spent_s / payments * 1e6)
                side.payments += payments
                side.taken += taken() - before
        return sides


def _turned(names: list[str], number: int) -> list[str]:
    """Return the order of a round: each is first as often as the others."""
    at = number % len(names)
    return names[at:] + names[:at]


def _load(generator: str, job: Job, used: Callable[[], float]) -> tuple[float, int]:
    """Load one side. Return the gateway's CPU seconds, and the payments."""
    before = 0.0

    def start() -> None:
        nonlocal before
        before = used()

    done = load.run(generator, job, start)
    time.sleep(_SETTLE_S)
    spent_s = used() - before
    if done.wrong or not done.replies:
        raise LoadFailed(f"not all payments were answered 201: {done.wrong}")
    return spent_s, done.replies


def more_than_off(costs: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, float, float]]:
    """Return what each side costs more than `off` of the same round: the median over the rounds,
    and the ends of its interval."""
    return {
        name: _median_and_interval([on - off for on, off in zip(each, costs["off"], strict=True)])
        for name, each in costs.items()
        if name != "off"
    }


def _median_and_interval(values: Sequence[float]) -> tuple[float, float, float]:
    draw = random.Random(0)  # noqa: S311  (the same rounds give the same interval)
    drawn = sorted(median(draw.choices(values, k=len(values))) for _ in range(_DRAWS))
    outside = int(_DRAWS * _OUTSIDE)
    return median(values), drawn[outside], drawn[-1 - outside]


def lines(sides: Mapping[str, Side]) -> list[str]:
    """Return the table."""
    off = median(sides["off"].gateway_us)
    costs = {name: side.gateway_us for name, side in sides.items()}
    rounds, payments = len(costs["off"]), sum(side.payments for side in sides.values())
    return [
        f"CPU of the gateway for each payment; {rounds} rounds, {payments} payments",
        f"    off {off:7.1f} us",
        *(
            f"{name:>7} {more:+7.1f} us ({least:+.1f} to {most:+.1f}), {more / off:+.1%} "
            f"({least / off:+.1%} to {most / off:+.1%}), "
            f"{sides[name].taken / max(sides[name].payments, 1):.0f} bytes of spans"
            for name, (more, least, most) in more_than_off(costs).items()
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--rounds", type=int, default=20, help="loads of each side (20)")
    options.add_argument("--seconds", type=float, default=1.0, help="of each load (1)")
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
    sys.stdout.write("\n".join(lines(sides)) + "\n")


if __name__ == "__main__":
    main()
