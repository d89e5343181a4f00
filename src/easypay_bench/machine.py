"""Where a measurement was taken, and of what."""

import os
import platform
import subprocess
import timeit
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]


def facts() -> dict[str, Any]:
    """The machine and the commit: enough to tell whether two results may be compared."""
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
    """Its kind (ext4, tmpfs, ...): on one in memory, a durable commit costs nothing."""
    mounts = psutil.disk_partitions(all=True)
    holding = [each for each in mounts if path.is_relative_to(each.mountpoint)]
    if not holding:
        return "unknown"
    return str(max(holding, key=lambda each: len(each.mountpoint)).fstype)


class _Object:
    def __init__(self, value: int) -> None:
        self.value = value


def _object_ns() -> float:
    """How long this interpreter takes to make an object and read it, in nanoseconds: builds of
    one version of Python differ by two, as they were optimized or not."""
    return min(timeit.repeat(lambda: _Object(1).value, number=100_000, repeat=5)) * 1e4


def _git(*arguments: str) -> str:
    """What git says of the checkout this file lies in; empty where there is none."""
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
    """Those this process may use."""
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
