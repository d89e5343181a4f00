"""Named points of the flow at which a test can have this process killed, as kill -9 would.

Disarmed in production: `reach` is then one comparison.
"""

import os
import signal
from typing import Final

NAMES: Final = frozenset({"after_begin", "before_send", "mid_send", "after_reply", "after_record"})

_armed: str | None = None


def arm(name: str | None) -> None:
    """Kill this process when it reaches `name`. Raises ValueError for a name that is no point."""
    global _armed
    if name is not None and name not in NAMES:
        raise ValueError(f"{name!r} is not a failpoint; there are {', '.join(sorted(NAMES))}")
    _armed = name


def reach(name: str) -> None:
    """This point of the flow is reached."""
    if _armed == name:
        os.kill(os.getpid(), signal.SIGKILL)
