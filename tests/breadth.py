"""How much a random test does: some of it in the suite, all of it in `make breadth`.

A test of which `make breadth` runs more is marked `breadth`. It has every kind of check in the
suite, too, with fewer examples.
"""

import os
from typing import Final

TIMES: Final = int(os.environ.get("EASYPAY_BREADTH", "0"))
"""0 in the suite. `make breadth` sets 1, and `make breadth TIMES=10` sets 10."""


def examples(in_suite: int, alone: int) -> int:
    """Return how many examples, seeds or requests a test takes: `in_suite`, or in `make breadth`
    TIMES as many as `alone`."""
    return alone * TIMES if TIMES else in_suite
