"""CPU time of processes, read from outside.

Linux counts in nanoseconds per thread (`schedstat`) and in hundredths of a second per process
(`stat`); elsewhere psutil is used. A process group is counted with its children that have ended:
PostgreSQL's backends come and go, and their time is added to the postmaster's.
"""

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil  # type: ignore[import-untyped]

_PROC: Final = Path("/proc")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_ON_LINUX: Final = sys.platform == "linux"


@dataclass(frozen=True, slots=True)
class Stat:
    """The fields of /proc/PID/stat, in clock ticks."""

    parent: int
    own_ticks: int
    ended_children_ticks: int


def parse_stat(text: str) -> Stat:
    """Parse a line of /proc/PID/stat. The command's name may contain spaces and brackets."""
    fields = text[text.rindex(")") + 2 :].split()
    user, system, ended_user, ended_system = (int(field) for field in fields[11:15])
    return Stat(int(fields[1]), user + system, ended_user + ended_system)


def process_s(pid: int) -> float:
    """Return the CPU seconds of one process, without its children; 0 if it has ended."""
    if not _ON_LINUX:
        return _psutil_s(pid)
    try:
        ticks_s = parse_stat((_PROC / str(pid) / "stat").read_text()).own_ticks / _TICKS_PER_S
        threads = (_PROC / str(pid) / "task").iterdir()
        precise_s = sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e9
    except (FileNotFoundError, ProcessLookupError):
        return _ticks_s(pid)
    # Only the coarse count includes threads that have ended.
    return precise_s if precise_s > ticks_s - 0.02 else ticks_s


def family_s(pid: int) -> float:
    """Return the CPU seconds of a process, its living descendants and its ended children."""
    if not _ON_LINUX:
        return _psutil_s(pid) + sum(_psutil_s(child) for child in _psutil_children(pid))
    stats = _all_stats()
    family = {pid}
    grown = True
    while grown:
        young = {each for each, stat in stats.items() if stat.parent in family} - family
        family |= young
        grown = bool(young)
    known = [(each, stats[each]) for each in family if each in stats]
    # A process that ends between the two readings is in the first: its parent lacks it yet.
    alive_s = sum(max(process_s(each), stat.own_ticks / _TICKS_PER_S) for each, stat in known)
    return alive_s + sum(stat.ended_children_ticks for _, stat in known) / _TICKS_PER_S


@dataclass(frozen=True, slots=True)
class Meter:
    """Reads the CPU seconds of named parts, and of the whole machine."""

    parts: Mapping[str, Callable[[], float]]

    def read(self) -> dict[str, float]:
        """Return the CPU seconds so far by part; `machine`: everything that runs here."""
        return {**{name: part() for name, part in self.parts.items()}, "machine": machine_s()}


def spent(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Return the CPU seconds between two readings of one meter, never below zero."""
    return {name: max(0.0, after[name] - before[name]) for name in before}


def processes(pids: Iterable[int]) -> Callable[[], float]:
    """Return a part made of these processes, without their children."""
    fixed = tuple(pids)
    return lambda: sum(process_s(pid) for pid in fixed)


def machine_s() -> float:
    """Return the CPU seconds that all cores were not idle."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - _guests(times))


def _guests(times: object) -> float:
    # Guest time is already in the user time; time stolen by a hypervisor is not ours.
    return sum(getattr(times, name, 0.0) for name in ("guest", "guest_nice", "steal"))


def _all_stats() -> dict[int, Stat]:
    found: dict[int, Stat] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                found[int(entry.name)] = parse_stat((entry / "stat").read_text())
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended meanwhile
    return found


def _ticks_s(pid: int) -> float:
    try:
        return parse_stat((_PROC / str(pid) / "stat").read_text()).own_ticks / _TICKS_PER_S
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def _psutil_s(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _psutil_children(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []
