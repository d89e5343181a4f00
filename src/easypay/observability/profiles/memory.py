"""Which lines took the memory that this process has more of at the end than at the begin.

memray counts every allocation inside the process, so a process is slower meanwhile; it costs
nothing before and after. What it wrote is read by another process.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec

from easypay.clock import monotonic
from easypay.observability.profiles.model import (
    CannotProfile,
    Profile,
    Stack,
    profile,
    refusals,
)

_READ_WITHIN_S: Final = 60.0
_DEEPEST: Final = 60


async def take(seconds: float, stop: asyncio.Event) -> Profile:
    """Return what was taken within so many seconds, or until `stop` is set, and not given back.

    Raises CannotProfile.
    """
    memray = await asyncio.to_thread(_memray)  # a quarter of a second, the first time
    begun = monotonic()
    with refusals(), TemporaryDirectory(prefix="easypay-profile-") as directory:
        file = Path(directory) / "allocations"
        try:
            tracker = memray.Tracker(
                destination=memray.FileDestination(file, overwrite=True),
                trace_python_allocators=False,
                file_format=memray.FileFormat.AGGREGATED_ALLOCATIONS,
            )
            async with _tracking(tracker):
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), seconds)
        except RuntimeError as error:
            raise CannotProfile(f"memray: {error}") from None
        return await _read_elsewhere(file, monotonic() - begun)


def _memray() -> Any:
    try:
        import memray
    except ImportError:
        raise CannotProfile(
            "memray is not installed there: pip install 'easypay[profiling]'"
        ) from None
    return memray


@asynccontextmanager
async def _tracking(tracker: Any) -> AsyncIterator[None]:
    """Track from right above the event loop, for memray loses the frames that were below a task.
    However the block ends, the tracker has ended, too."""
    loop = asyncio.get_running_loop()
    begun: asyncio.Future[None] = loop.create_future()
    runs = False

    def begin() -> None:
        nonlocal runs
        try:
            tracker.__enter__()
        except RuntimeError as error:  # somebody else's tracker runs
            begun.set_exception(error)
        else:
            runs = True
            begun.set_result(None)

    beginning = loop.call_soon(begin)
    try:
        await begun
        yield
    finally:
        beginning.cancel()
        if runs:
            tracker.__exit__(None, None, None)


async def _read_elsewhere(file: Path, took_s: float) -> Profile:
    reader = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, str(file), str(os.getpid()), str(took_s)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        async with asyncio.timeout(_READ_WITHIN_S):
            text, _ = await reader.communicate()
    except TimeoutError:
        raise CannotProfile("what memray wrote could not be read in time") from None
    finally:
        with suppress(ProcessLookupError):
            reader.kill()
        await reader.wait()
    if reader.returncode:
        raise CannotProfile("what memray wrote cannot be read: see the log")
    return msgspec.json.decode(text, type=Profile)


def read(file: str) -> list[Stack]:
    """Return what was taken and not given back, by stack."""
    import memray

    from easypay.observability.blocked_loop import shortened

    found: list[Stack] = []
    records: Any = memray.FileReader(file).get_leaked_allocation_records(merge_threads=True)
    for record in records:
        frames = [f"{name} ({shortened(path)}:{line})" for name, path, line in record.stack_trace()]
        found.append(Stack(tuple(reversed(frames[:_DEEPEST])), record.size))
    return found


if __name__ == "__main__":
    _, path, pid, took = sys.argv
    found = profile("memory", int(pid), float(took), read(path))
    sys.stdout.buffer.write(msgspec.json.encode(found))
