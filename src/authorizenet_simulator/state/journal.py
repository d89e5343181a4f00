"""The state file: one JSON line for each event, written before the reply is sent.

A line handed to the operating system survives a crash of the process, but is not synced to disk:
a power cut may lose the newest. An incomplete last line is dropped on opening.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from authorizenet_simulator.state import (
    customer_profiles,
    device_sessions,
    events,
    hosted_tokens,
    returned_items,
    split_tenders,
    subscriptions,
    webhooks,
)

Event = (
    events.Event
    | customer_profiles.Event
    | device_sessions.Event
    | subscriptions.Event
    | hosted_tokens.Event
    | split_tenders.Event
    | returned_items.Event
    | webhooks.Event
)
"""All events: the transactions' and those of each store."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Event).decode


class Journal:
    """Collects the events of one request and writes them at once; without a path, nothing."""

    __slots__ = ("_fd", "_path", "_pending")

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._fd = -1 if path is None else _open(path)
        self._pending: list[bytes] = []

    def add(self, event: Event) -> None:
        if self._fd >= 0:
            self._pending.append(_encode(event))

    def flush(self) -> None:
        """Hand the collected events to the operating system. Raises OSError (disk full)."""
        if self._pending:
            self._pending.append(b"")
            data = b"\n".join(self._pending)
            self._pending.clear()
            _write(self._fd, data)

    def replay(self) -> Iterator[Event]:
        """Yield the file's events, oldest first, then truncate it after the last whole line."""
        if self._path is None:
            return
        whole = 0
        with self._path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    event = _decode(line)
                except msgspec.MsgspecError as error:
                    raise ValueError(f"{self._path}, line {number}: {error}") from None
                whole += len(line)
                yield event
        os.ftruncate(self._fd, whole)

    def rewrite(self, events: Iterable[Event]) -> None:
        """Replace the file atomically by one with only `events`."""
        self._pending.clear()
        if self._path is None:
            return
        fresh = self._path.with_name(self._path.name + ".new")
        fresh.unlink(missing_ok=True)
        fd = _open(fresh)
        _write(fd, b"".join(_encode(event) + b"\n" for event in events))
        fresh.replace(self._path)
        os.close(self._fd)
        self._fd = fd

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
