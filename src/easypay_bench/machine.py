"""Facts about the machine and the commit of a measurement."""

import os
import platform
import subprocess
import timeit
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]


def facts() -> dict[str, Any]:
    """Return the machine and the commit, to tell whether two results may be compared."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "--short=12", "HEAD"),
        "modified": bool(_git("status", "--porcelain", "--", ":/src")),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cores": _cores(),
        "memory_mib": psutil.virtual_memory().total >> 20,
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "object_ns": round(_object_ns()),
    }


def file_system(path: Path) -> str:
    """Return its type (ext4, tmpfs, ...): in memory, a durable commit costs nothing."""
    mounts = psutil.disk_partitions(all=True)
    holding = [each for each in mounts if path.is_relative_to(each.mountpoint)]
    if not holding:
        return "unknown"
    return str(max(holding, key=lambda each: len(each.mountpoint)).fstype)


class _Object:
    def __init__(self, value: int) -> None:
        self.value = value


def _object_ns() -> float:
    """Return the nanoseconds this interpreter takes to make an object and read it: builds of one
    Python version differ by a factor of two, depending on their optimization."""
    return min(timeit.repeat(lambda: _Object(1).value, number=100_000, repeat=5)) * 1e4


def _git(*arguments: str) -> str:
    """Return git's output for this file's checkout; empty if there is none."""
    try:
        done = subprocess.run(  # noqa: S603
            ["git", "-C", str(Path(__file__).parent), *arguments],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
