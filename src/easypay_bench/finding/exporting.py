"""How fast payments are exported through the API, in how much memory, and what payments beside an
export lose."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import perf_counter
from typing import Final

import msgspec

from easypay import clock
from easypay.clock import rfc3339
from easypay_bench import load
from easypay_bench.load import Job, LoadFailed
from easypay_bench.payment_request import orders
from easypay_bench.stack import Stack, shop

_PIECE: Final = 1 << 20
_TIMEOUT_S: Final = 60
_SPAN: Final = timedelta(days=365)
"""An export of the biggest merchant's last year: of ten million payments a million rows."""


class Exported(msgspec.Struct, frozen=True):
    """An export as CSV through the API."""

    rows: int
    seconds: float
    memory_mib: float
    """How much the gateway's resident memory grew at most meanwhile."""
    payments_beside: list[float]
    """Payments per second beside an export, as shares of those alone just before; one per pair."""

    @property
    def per_s(self) -> float:
        """Rows per second."""
        return self.rows / self.seconds


def measured(stack: Stack, key: str, *, pairs: int, seconds: float) -> Exported:
    """Export alone, then beside payments. `key` may export.

    Raises LoadFailed if an export is cut off, and what `load.run` and `shop` raise.
    """
    before_mib, most_mib = _memory_mib(stack), 0.0
    begun = perf_counter()
    last = b""
    for piece in _export(stack, key):
        last = (last + piece)[-200:]
        most_mib = max(most_mib, _memory_mib(stack))
    took_s = perf_counter() - begun
    return Exported(
        _rows(last), took_s, max(0.0, most_mib - before_mib), _beside(stack, key, pairs, seconds)
    )


def _beside(stack: Stack, key: str, pairs: int, seconds: float) -> list[float]:
    generator, shares = load.choose("auto", seconds), []
    with shop(stack) as merchant:
        order = orders(f"{stack.host}:{stack.port}", merchant.api_key)

        def payments_per_s(number: int) -> float:
            job = Job(stack.host, stack.port, order, 64, seconds, number * 1_000_000)
            done = load.run(generator, job)
            return done.replies / done.seconds

        payments_per_s(1)  # to warm up
        for pair in range(pairs):
            alone = payments_per_s(2 * pair + 2)
            with _exporting(stack, key):
                shares.append(payments_per_s(2 * pair + 3) / alone)
    return shares


@contextmanager
def _exporting(stack: Stack, key: str) -> Iterator[None]:
    """Export for the length of the block, again and again."""
    ends = threading.Event()

    def run() -> None:
        while not ends.is_set():
            for _ in _export(stack, key):
                if ends.is_set():
                    return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join(_TIMEOUT_S)


def _export(stack: Stack, key: str) -> Iterator[bytes]:
    connection = http.client.HTTPConnection(stack.host, stack.port, timeout=_TIMEOUT_S)
    try:
        since = rfc3339(clock.now() - _SPAN)
        headers = {"Authorization": f"Bearer {key}", "Accept": "text/csv"}
        connection.request("GET", f"/api/v1/payments/export?created_from={since}", headers=headers)
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise LoadFailed(f"the export was refused: {answer.status} {answer.read()!r}")
        while piece := answer.read(_PIECE):
            yield piece
    finally:
        connection.close()


def _rows(last: bytes) -> int:
    """Return the number of rows in the last line. Raises LoadFailed."""
    line = last.rstrip(b"\n").rpartition(b"\n")[2]
    name, _, number = line.partition(b",")
    if name != b"rows":
        raise LoadFailed(f"the export was cut off: it ends in {line!r}")
    return int(number.partition(b",")[0])


def _memory_mib(stack: Stack) -> float:
    """Return the resident memory of the gateway's processes."""
    total_kib = 0
    for pid in stack.gateway_pids:
        with open(f"/proc/{pid}/status", encoding="ascii") as status:
            total_kib += next(int(each.split()[1]) for each in status if each.startswith("VmRSS:"))
    return total_kib / 1024
