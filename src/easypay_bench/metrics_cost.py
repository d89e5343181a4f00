"""What it costs to measure: the metrics of one payment, timed by themselves."""

import tempfile
import timeit
from pathlib import Path
from typing import Final

from easypay.observability.metrics import Instruments

_ROUNDS: Final = 20_000


def request_us() -> float:
    """Microseconds for all that is counted of one payment's request, as a gateway counts it: into
    the array that its processes share. What is counted of a group of payments is not in it."""
    with tempfile.TemporaryDirectory(prefix="easypay-bench-") as directory:
        told = Instruments(Path(directory))

        def count() -> None:
            told.requests.observe(0.004, "POST", "/api/v1/payments", "201")
            told.own_time.observe(0.003, "/api/v1/payments")
            told.processor_calls.observe(0.001, "authorize_net", "sale")
            told.operations.add("sale", "approved")

        count()  # finds its places
        return min(timeit.repeat(count, number=_ROUNDS, repeat=3)) / _ROUNDS * 1e6
