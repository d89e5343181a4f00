"""Standard error that never blocks: a process whose log nobody reads keeps working.

A full pipe or terminal takes no more until somebody reads. What it does not take waits in a bounded
buffer, which is offered again a tenth of a second later. Lines that find no room are dropped,
counted, and reported once lines get through again.

Lines of which there are many (`gather`) are written together, once per turn of the event loop. The
others are written at once, after those gathered before them, so lines stay in order. Gathered lines
are in memory only: `kill -9` loses those of one turn. Every other end of the process writes them.

Only this process may become non-blocking: O_NONBLOCK on the descriptor itself would hold for every
process that shares it. So a pipe is opened a second time, and each send to a socket sets a flag.
"""

import asyncio
import json
import os
import select
import socket
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from easypay.clock import log_time, now

MOST_BYTES: Final = 1 << 20
MOST_GATHERED_BYTES: Final = 1 << 16
_AGAIN_S: Final = 0.1


class LogOutput:
    """Writes whole lines to a descriptor: at once, later or never."""

    def __init__(self, descriptor: int) -> None:
        self._write = _writer(descriptor)
        self._left = b""
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0
        self._dropped = 0
        self._is_scheduled = False
        # The collector may run while it is held, and end a task whose error is logged.
        self._lock = threading.RLock()

    def write(self, lines: bytes) -> None:
        """Write lines now, each with its end. Never blocks, never raises."""
        with self._lock:
            self._take(b"".join([*self._gathered_lines(), lines]))

    def gather(self, line: bytes) -> None:
        """Write a line, with its end, at the end of this turn of the running loop; earlier if many
        lines have been gathered. Never blocks."""
        with self._lock:
            if not self._gathered:
                asyncio.get_running_loop().call_soon(self.flush)
            self._gathered.append(line)
            self._gathered_bytes += len(line)
            if self._gathered_bytes > MOST_GATHERED_BYTES:
                self._take(b"".join(self._gathered_lines()))

    def flush(self) -> None:
        """Write what was gathered, and try to write what is left."""
        with self._lock:
            if self._gathered:
                self._take(b"".join(self._gathered_lines()))
            elif self._left or self._dropped:
                self._offer(b"")

    def _gathered_lines(self) -> list[bytes]:
        lines, self._gathered = self._gathered, []
        self._gathered_bytes = 0
        return lines

    def _take(self, lines: bytes) -> None:
        """Write lines, or keep what finds no room now, or drop and count what never will."""
        if self._left or self._dropped:
            self._offer(b"")
        fits = len(self._left) + len(lines) <= MOST_BYTES and not self._dropped
        if fits or not self._left:
            self._offer(lines)
        else:
            self._dropped += lines.count(b"\n")
        if self._left:
            self._schedule()

    def _offer(self, more: bytes) -> None:
        """Write what is left and then `more`; keep the rest."""
        data = self._left + more
        reported = 0  # lines that the report being written counts as dropped
        try:
            while data or self._dropped:
                if not data:
                    reported, self._dropped = self._dropped, 0
                    data = _report(reported)
                data = data[self._write(data) :]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:  # nobody will ever read it, or the disk is full
            self._dropped += reported or data.count(b"\n")
            data = b""
        self._left = data

    def _schedule(self) -> None:
        if self._is_scheduled:
            return
        with suppress(RuntimeError):  # no loop runs: the next line or flush tries again
            asyncio.get_running_loop().call_later(_AGAIN_S, self._again)
            self._is_scheduled = True

    def _again(self) -> None:
        self._is_scheduled = False
        self.flush()
        with self._lock:
            if self._left:
                self._schedule()


def _report(dropped: int) -> bytes:
    line = {
        "time": log_time(now()),
        "level": "warning",
        "logger": __name__,
        "message": f"{dropped} lines were dropped: nobody read them, or the disk is full",
    }
    return json.dumps(line).encode() + b"\n"


def _writer(descriptor: int) -> Callable[[bytes], int]:
    """Return a function that writes to this kind of descriptor without waiting."""
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISSOCK(mode):
            connected = socket.socket(fileno=os.dup(descriptor))
            return lambda data: connected.send(data, socket.MSG_DONTWAIT)
        if stat.S_ISREG(mode):
            return lambda data: os.write(descriptor, data)
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        reopened = os.open(f"/proc/self/fd/{descriptor}", flags)
    except OSError:  # not Linux, or another user's pipe
        return partial(_write_if_it_has_room, descriptor)
    return lambda data: os.write(reopened, data)


def _write_if_it_has_room(descriptor: int, data: bytes) -> int:
    """Write if there is room: a writable pipe takes PIPE_BUF bytes, if nobody else writes now."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    if not poll.poll(0):
        raise BlockingIOError
    return os.write(descriptor, data[: select.PIPE_BUF])
