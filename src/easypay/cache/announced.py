"""Refuses answers that announce more elements than an honest server sends.

The reader of the protocol (hiredis) makes a list as soon as an answer has announced its length:
thirteen bytes cost two seconds of the event loop and a gigabyte. So the announcements are looked at
before it gets them. Only the first line of each element is read; the bytes of strings are skipped.
"""

from typing import Final

MOST: Final = 100_000
"""Elements of one list. Whoever has changed so many keys at once makes us forget all of them."""
_LONGEST_LINE: Final = 64 * 1024
"""Bytes of a line that has not come whole."""
_STRINGS: Final = frozenset(b"$=!")
"""What comes before the length of a string, in bytes: it follows, and ends with CR and LF."""
_COUNTED: Final = _STRINGS | frozenset(b"*~%>|")
"""And before the number of elements: of a list, set, map, push, attributes."""


class Announced:
    """Reads along with what one connection brings."""

    __slots__ = ("_begun", "_skip")

    def __init__(self) -> None:
        self._skip = 0
        """Bytes of a string that are still to come."""
        self._begun = b""
        """A line that has not come whole."""

    def check(self, data: bytes) -> None:
        """Look at what has come next. Raises ValueError if it must not be read: a list that is too
        long, a line that does not end, or what is not the protocol."""
        at, end = self._skip, len(data)
        if at >= end:
            self._skip = at - end
            return
        if self._begun:
            data = self._begun + data
            end = len(data)
        while at < end:
            line_end = data.find(b"\r\n", at)
            if line_end < 0:
                break
            kind = data[at]
            number = int(data[at + 1 : line_end]) if kind in _COUNTED else 0
            at = line_end + 2
            if kind not in _STRINGS:
                if number > MOST:
                    raise ValueError(f"it announces a list of more than {MOST:,} elements")
            elif number >= 0:  # -1: there is no string
                at += number + 2
        self._skip = max(0, at - end)
        self._begun = data[at:]
        if len(self._begun) > _LONGEST_LINE:
            raise ValueError("a line of it does not end")
