"""The ordinary path beside that of another commit: `make bench` of both, in turn.

Each runs as a program of its own with the sources of its commit, so each has its own schema.
"""

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from easypay_bench.load import LoadFailed

ROOT: Final = Path(__file__).parents[3]
_TIMEOUT_S: Final = 300


class Cost(msgspec.Struct, frozen=True):
    """One run of `make bench`: payments per second, CPU and WAL for each payment."""

    per_s: float
    gateway_us: float
    postgres_us: float
    wal_bytes: float
    statements: float


class Pair(msgspec.Struct, frozen=True):
    """Two runs that followed each other."""

    before: Cost
    now: Cost


def sources(commit: str, folder: Path) -> Path:
    """Write the sources of a commit to a folder, and return the path to import them from. Raises
    LoadFailed if there is no such commit."""
    found = subprocess.run(  # noqa: S603  (our own command line)
        ["git", "-c", "safe.directory=*", "-C", str(ROOT), "archive", commit, "src"],  # noqa: S607
        capture_output=True,
        check=False,
    )
    if found.returncode:
        raise LoadFailed(f"--base {commit}: {found.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(found.stdout)) as archive:
        # Python 3.11 before 3.11.4 has no filters. These are our own commit's files.
        if hasattr(tarfile, "data_filter"):
            archive.extractall(folder, filter="data")
        else:
            archive.extractall(folder)  # noqa: S202
    return folder / "src"


def pairs(
    base: Path, count: int, seconds: float, folder: Path, say: Callable[[str], None]
) -> list[Pair]:
    """Run both in turn, every other time in the reverse order. Raises LoadFailed."""
    found, here = [], ROOT / "src"
    for number in range(count):
        order = (base, here) if number % 2 == 0 else (here, base)
        costs = {each: _cost(each, seconds, folder) for each in order}
        found.append(Pair(costs[base], costs[here]))
        say(f"pair {number + 1}: {costs[base].per_s:,.0f}/s, now {costs[here].per_s:,.0f}/s")
    return found


def _cost(path: Path, seconds: float, folder: Path) -> Cost:
    result = folder / "bench.json"
    command = [
        *(sys.executable, "-m", "easypay_bench", "--quick", "--json", str(result)),
        *("--seconds", f"{seconds:g}", "--warmup", "2", "--unloaded", "0.5", "--counted", "100"),
    ]
    try:
        done = subprocess.run(  # noqa: S603  (our own command line)
            command,
            env={**os.environ, "PYTHONPATH": str(path)},
            cwd=folder,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LoadFailed(f"make bench did not end within {_TIMEOUT_S} s") from None
    if done.returncode:
        raise LoadFailed(f"make bench failed: {done.stderr.decode()[-400:]}")
    run = (found := json.loads(result.read_text()))["runs"][0]
    return Cost(
        per_s=run["payments_per_s"],
        gateway_us=run["cpu_us"]["gateway"],
        postgres_us=run["cpu_us"]["postgres"],
        wal_bytes=run["wal_bytes_per_payment"],
        statements=found["counters"]["statements_per_payment"] or 0.0,
    )
