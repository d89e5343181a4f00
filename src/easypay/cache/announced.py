"""Refuses answers that announce more elements than an honest server sends.

The reader of the protocol (hiredis) makes a list as soon as an answer has announced its length:
thirteen bytes cost two seconds of the event loop and a gigabyte. So the announcements are looked at
before it gets them. Only the first line of each element is read; the bytes of strings are skipped.
"""

from typing import Final

MOST: Final = 100_000
"""Elements of one answer, those of lists within lists too. Whoever has changed so many keys at once
makes us forget all of them."""
_LONGEST_LINE: Final = 64 * 1024
"""Bytes of a line that has not come whole."""
_STRINGS: Final = frozenset(b"$=!")
"""What comes before the length of a string, in bytes: it follows, and ends with CR and LF."""
_COUNTED: Final = _STRINGS | frozenset(b"*~%>|")
"""And before the number of elements: of a list, set, map, push, attributes."""
_PAIRS: Final = frozenset(b"%|")
"""Each of their elements is two."""
_BESIDE: Final = ord("|")
"""Attributes: what they belong to follows them."""


class Announced:
    """Reads along with what one connection brings."""

    __slots__ = ("_all", "_begun", "_left", "_skip")

    def __init__(self) -> None:
        self._all = 0
        """Elements that the answer has announced by now."""
        self._left = 0
        """Elements of it that are still to come."""
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
            if kind in _STRINGS and number >= 0:  # -1: there is no string
                at += number + 2
            self._count(kind, 0 if kind in _STRINGS else max(0, number))
        self._skip = max(0, at - end)
        self._begun = data[at:]
        if len(self._begun) > _LONGEST_LINE:
            raise ValueError("a line of it does not end")

    def _count(self, kind: int, number: int) -> None:
        """Count an element, and the elements that it announces. Raises ValueError if its answer has
        announced too many by now."""
        if self._left == 0:  # a new answer
            self._left, self._all = 1, 0
        if kind != _BESIDE:
            self._left -= 1
        more = 2 * number if kind in _PAIRS else number
        self._left += more
        self._all += more
        if self._all > MOST:
            raise ValueError(f"it announces lists of more than {MOST:,} elements")
