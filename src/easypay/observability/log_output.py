"""Standard error that never blocks: a process whose log nobody reads goes on working.

A pipe or terminal that is full takes no more until somebody reads. What it does not take waits in a
bounded buffer, which is offered again a tenth of a second later; what finds no room is dropped,
counted, and said once lines get through again.

The way of not blocking must be ours alone: O_NONBLOCK on the descriptor itself would hold for
every process that shares it. So a pipe is opened a second time, and a socket is asked for each
send.
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
_AGAIN_S: Final = 0.1


class LogOutput:
    """Writes whole lines to a descriptor, at once or later or not at all."""

    def __init__(self, descriptor: int) -> None:
        self._write = _way_to(descriptor)
        self._left = b""
        self._dropped = 0
        self._is_scheduled = False
        self._lock = threading.Lock()

    def write(self, lines: bytes) -> int:
        """Take lines, each with its end. Never blocks, never raises."""
        with self._lock:
            if self._left or self._dropped:
                self._offer(b"")
            fits = len(self._left) + len(lines) <= MOST_BYTES and not self._dropped
            if fits or not self._left:
                self._offer(lines)
            else:
                self._dropped += lines.count(b"\n")
            if self._left:
                self._schedule()
        return len(lines)

    def flush(self) -> None:
        """Offer what is left."""
        with self._lock:
            if self._left or self._dropped:
                self._offer(b"")

    def _offer(self, more: bytes) -> None:
        """Write what is left and then `more`; the rest is left."""
        data = self._left + more
        said = 0  # how many are told of as dropped by the line that is being written
        try:
            while data or self._dropped:
                if not data:
                    said, self._dropped = self._dropped, 0
                    data = _said(said)
                data = data[self._write(data) :]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:  # nobody will ever read it, or the disk is full
            self._dropped += said or data.count(b"\n")
            data = b""
        self._left = data

    def _schedule(self) -> None:
        if self._is_scheduled:
            return
        with suppress(RuntimeError):  # no loop runs: the next line or the end offers it again
            asyncio.get_running_loop().call_later(_AGAIN_S, self._again)
            self._is_scheduled = True

    def _again(self) -> None:
        self._is_scheduled = False
        self.flush()
        with self._lock:
            if self._left:
                self._schedule()


def _said(dropped: int) -> bytes:
    line = {
        "time": log_time(now()),
        "level": "warning",
        "logger": __name__,
        "message": f"{dropped} lines were dropped: nobody read them, or the disk is full",
    }
    return json.dumps(line).encode() + b"\n"


def _way_to(descriptor: int) -> Callable[[bytes], int]:
    """How to write to this kind of descriptor without waiting."""
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISSOCK(mode):
            connected = socket.socket(fileno=os.dup(descriptor))
            return lambda data: connected.send(data, socket.MSG_DONTWAIT)
        if stat.S_ISREG(mode):
            return lambda data: os.write(descriptor, data)
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        ours = os.open(f"/proc/self/fd/{descriptor}", flags)
    except OSError:  # another system than Linux, or another user's pipe
        return partial(_write_if_it_has_room, descriptor)
    return lambda data: os.write(ours, data)


def _write_if_it_has_room(descriptor: int, data: bytes) -> int:
    """A pipe that is writable takes PIPE_BUF bytes at once, if nobody else writes just then."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    if not poll.poll(0):
        raise BlockingIOError
    return os.write(descriptor, data[: select.PIPE_BUF])
