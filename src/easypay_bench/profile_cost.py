"""Measure what a profile costs a gateway while it is taken: payments a second, and its CPU time.

    python -m easypay_bench.profile_cost                    # CPU, the bar is 5 %
    python -m easypay_bench.profile_cost --what memory      # no bar: it is known to cost much

Loads without and with a profile take turns on one gateway, so that both meet the same machine. The
profiler itself needs some of another core: on a machine whose cores are all busy, the load
generator among them, payments a second show that, too. The gateway's own CPU does not.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from statistics import median
from typing import Final

from easypay_bench import cpu, load
from easypay_bench.http_calls import call
from easypay_bench.load import Job, LoadFailed
from easypay_bench.payment_request import orders
from easypay_bench.stack import Stack, own, shop

BAR: Final = 0.05
_AROUND_S: Final = 2
"""A profile runs so much longer than its load, which needs some time to begin."""
_NUMBERS_PER_LOAD: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class Side:
    """One load."""

    payments_per_s: float
    gateway_us: float
    """The gateway's CPU for each payment, microseconds."""


def measured(stack: Stack, what: str, pairs: int, seconds: float) -> list[tuple[Side, Side]]:
    """Return pairs of loads, without and with a profile. Raises LoadFailed, StackFailed."""
    generator = load.choose("auto", seconds)
    found = []
    with shop(stack) as merchant:
        job = Job(stack.host, stack.port, orders(f"{stack.host}:{stack.port}", merchant.api_key),
                  64, seconds)  # fmt: skip
        _load(stack, generator, job)  # warms up
        for pair in range(pairs):
            sides: dict[bool, Side] = {}
            for turn, profiled in enumerate((pair % 2 == 1, pair % 2 == 0)):
                number = (2 * pair + turn + 1) * _NUMBERS_PER_LOAD
                with _profile(stack, what, seconds) if profiled else _nothing():
                    sides[profiled] = _load(stack, generator, replace(job, first_number=number))
            found.append((sides[False], sides[True]))
    return found


def _load(stack: Stack, generator: str, job: Job) -> Side:
    used = cpu.processes(stack.gateway_pids)
    before = used()
    done = load.run(generator, job)
    if done.wrong or not done.replies:
        raise LoadFailed(f"{done.replies} payments, and wrong answers: {done.wrong}")
    return Side(done.replies / done.seconds, (used() - before) / done.replies * 1e6)


@contextmanager
def _profile(stack: Stack, what: str, seconds: float) -> Iterator[None]:
    """Take a profile while the block runs. Raises StackFailed if there is none."""
    body = {"what": what, "seconds": ceil(seconds) + _AROUND_S}
    with ThreadPoolExecutor(1) as pool:
        url = f"{stack.api_url}/api/v1/admin/profiles"
        taking = pool.submit(call, "POST", url, body, bearer=stack.admin_key)
        yield
        taking.result()


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def lines(found: Sequence[tuple[Side, Side]], what: str) -> list[str]:
    """Return the table, and what a profile costs: the median over the pairs."""
    shown = [f"{what} profile       payments/s           gateway CPU, us a payment"]
    shown += ["          without   with  change     without   with  change"]
    slower, dearer = [], []
    for number, (off, on) in enumerate(found, 1):
        slower.append(on.payments_per_s / off.payments_per_s - 1)
        dearer.append(on.gateway_us / off.gateway_us - 1)
        shown.append(
            f"pair {number:3d}  {off.payments_per_s:8.0f} {on.payments_per_s:6.0f}"
            f" {slower[-1]:+7.1%}    {off.gateway_us:8.0f} {on.gateway_us:6.0f} {dearer[-1]:+7.1%}"
        )
    shown.append(f"median    {median(slower):+23.1%}    {median(dearer):+23.1%}")
    if what != "memory":
        met = "met" if median(dearer) <= BAR else "MISSED"
        shown.append(f"the bar, at most {BAR:.0%} more CPU in the gateway: {met}")
    return shown


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--what", choices=("cpu", "wait", "memory"), default="cpu")
    options.add_argument("--pairs", type=int, default=3)
    options.add_argument("--seconds", type=float, default=4.0, help="of each load")
    asked = options.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="easypay-bench-") as directory:
        with own(Path(directory)) as stack:
            found = measured(stack, asked.what, asked.pairs, asked.seconds)
    sys.stdout.write("\n".join(lines(found, asked.what)) + "\n")


if __name__ == "__main__":
    main()
