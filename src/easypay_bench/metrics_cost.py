"""What measuring costs: the metrics of one payment, timed alone."""

import tempfile
import timeit
from pathlib import Path
from typing import Final

from easypay.observability.metrics import Instruments

_ROUNDS: Final = 20_000


def request_us() -> float:
    """Return the microseconds to count one payment's request as a gateway does: into the array
    that its processes share. What is counted per group of payments is excluded."""
    with tempfile.TemporaryDirectory(prefix="easypay-bench-") as directory:
        metrics = Instruments(Path(directory))

        def count() -> None:
            metrics.requests.observe(0.004, "POST", "/api/v1/payments", "201")
            metrics.own_time.observe(0.003, "/api/v1/payments")
            metrics.processor_calls.observe(0.001, "authorize_net", "sale")
            metrics.operations.add("sale", "approved")

        count()  # allocates the cells
        return min(timeit.repeat(count, number=_ROUNDS, repeat=3)) / _ROUNDS * 1e6
