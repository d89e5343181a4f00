"""Where a process spends its CPU time: py-spy looks at it from outside, a hundred times a second.

The process does nothing for it, and nothing at all while nobody looks. py-spy reads the memory of
the process, which the system allows to its own child if the process says so, and else to root.
"""

import asyncio
import ctypes
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from easypay.clock import monotonic
from easypay.observability.profiles.model import CannotProfile, Profile, folded, profile, refusals

RATE: Final = 100
_ENDS_WITHIN_S: Final = 30.0
_PR_SET_PTRACER: Final = 0x59616D61
_RIGHTS: Final = (
    "the system does not let this user look into that process: run the command as root (sudo), or "
    "in a container with --cap-add SYS_PTRACE, or ask the gateway itself with --url, which needs "
    "no rights"
)


def program() -> str:
    """Return where py-spy is. Raises CannotProfile."""
    beside = Path(sys.executable).with_name("py-spy")
    found = str(beside) if beside.exists() else shutil.which("py-spy")
    if found is None:
        raise CannotProfile("py-spy is not installed there: pip install 'easypay[profiling]'")
    return found


async def take(pid: int, seconds: float, stop: asyncio.Event) -> Profile:
    """Return the profile of a process: over so many seconds, or until `stop` is set.

    Raises CannotProfile. If it is cancelled, nothing is left running.
    """
    begun = monotonic()
    with refusals(), TemporaryDirectory(prefix="easypay-profile-") as directory:
        out = Path(directory) / "stacks"
        with _children_may_look() if pid == os.getpid() else nullcontext():
            # It is not given the environment, where the secrets are.
            spy = await asyncio.create_subprocess_exec(
                *(program(), "record", "--pid", str(pid), "--rate", str(RATE), "--format", "raw"),
                *("--nonblocking", "--duration", str(max(1, round(seconds))), "--output", str(out)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={"PATH": os.defpath},
            )
            try:
                said = await _ended(spy, seconds, stop)
            finally:
                with suppress(ProcessLookupError):
                    spy.kill()
                await spy.wait()
        if spy.returncode or not out.exists():  # what a full disk took of it is no profile
            raise CannotProfile(_why(said))
        return await asyncio.to_thread(_read, out, pid, monotonic() - begun)


def _read(out: Path, pid: int, took_s: float) -> Profile:
    return profile("cpu", pid, took_s, folded(out.read_text("utf-8", "replace")))


async def _ended(spy: asyncio.subprocess.Process, seconds: float, stop: asyncio.Event) -> str:
    """Wait until it has ended. Return what it said. Raises CannotProfile if it does not end."""
    talk = asyncio.create_task(spy.communicate())
    stopped = asyncio.create_task(stop.wait())
    try:
        async with asyncio.timeout(seconds + _ENDS_WITHIN_S):
            await asyncio.wait({talk, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not talk.done():
                spy.send_signal(signal.SIGINT)  # it writes what it has
            said, _ = await talk
            return said.decode(errors="replace")
    except TimeoutError:
        raise CannotProfile("py-spy did not end in time") from None
    finally:
        talk.cancel()
        stopped.cancel()


@contextmanager
def _children_may_look() -> Iterator[None]:
    """Let the children of this process look into it, where Linux asks for that (Yama): a child
    that was started first would find itself refused."""
    _prctl(os.getpid())
    try:
        yield
    finally:
        _prctl(0)


def _prctl(looker: int) -> None:
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(looker), 0, 0, 0)


def _why(said: str) -> str:
    if "ermission" in said or "not permitted" in said:
        return _RIGHTS
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    reason = next((line for line in lines if "Error" in line), lines[-1] if lines else "")
    return f"py-spy has no profile of it: {reason[:200] or 'it said nothing'}"
