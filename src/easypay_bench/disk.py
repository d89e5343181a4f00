"""The cost of one durable write on this disk: the lower bound of a commit."""

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Final

WRITE_BYTES: Final = 8192
"""One page of PostgreSQL's WAL."""
_FILE_BYTES: Final = 1 << 20
_EVERY_S: Final = 0.05
_flush = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


@contextmanager
def watched(directory: Path) -> Iterator[list[float]]:
    """Write and flush a page of a preallocated file twenty times a second while the block lasts.

    Yields the list of durations, in milliseconds, which grows meanwhile. Raises OSError if
    `directory` cannot be written.
    """
    took_ms: list[float] = []
    over = threading.Event()

    def write(file: int) -> None:
        at = 0
        while not over.wait(_EVERY_S):
            begun = perf_counter()
            os.pwrite(file, bytes(WRITE_BYTES), at)
            _flush(file)
            took_ms.append((perf_counter() - begun) * 1000)
            at = (at + WRITE_BYTES) % _FILE_BYTES

    with tempfile.TemporaryFile(dir=directory, buffering=0) as held:
        held.write(bytes(_FILE_BYTES))
        os.fsync(held.fileno())
        watcher = threading.Thread(target=write, args=(held.fileno(),))
        watcher.start()
        try:
            yield took_ms
        finally:
            over.set()
            watcher.join()
