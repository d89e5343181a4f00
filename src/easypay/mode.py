"""The two worlds of a merchant, which never mix."""

from enum import StrEnum
from typing import Final


class Mode(StrEnum):
    """Whether money is real."""

    TEST = "test"
    LIVE = "live"


MODE: Final = {mode.value: mode for mode in Mode}
"""By name: ten times as fast as `Mode(name)`."""
