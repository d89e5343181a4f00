"""What a process and its host use: files, threads, disk, network, CPU, memory, and the collector's
pauses. Read in a thread every few seconds, since some of it takes the system a millisecond."""

import asyncio
import gc
import logging
import os
import resource
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple

import psutil  # type: ignore[import-untyped]

from easypay.clock import stopwatch
from easypay.observability.metric_registry import Family
from easypay.observability.metrics import Instruments

log = logging.getLogger(__name__)

EVERY_S: Final = 10.0
_MODES: Final = ("user", "system", "idle", "iowait", "steal")
_LOOPBACK: Final = "lo"


class Figure(NamedTuple):
    """A value for a metric."""

    family: Family
    value: float
    labels: tuple[str, ...] = ()


async def keep_reading(instruments: Instruments) -> None:
    """Copy the figures into the metrics every ten seconds, until cancelled."""
    unwatch = watch_collector(instruments)
    try:
        while True:
            for figure in await asyncio.to_thread(read, instruments):
                figure.family.set(figure.value, *figure.labels)
            await asyncio.sleep(EVERY_S)
    finally:
        unwatch()


def read(metrics: Instruments) -> list[Figure]:
    """Return the figures of this process and its host, without what the system does not tell."""
    found: list[Figure] = []
    for part in (_process, _cpu, _memory, _disk, _network, _filesystem):
        with suppress(OSError, psutil.Error, NotImplementedError, AttributeError):
            found += part(metrics)
    return found


def _process(metrics: Instruments) -> list[Figure]:
    process = psutil.Process()
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = [
        Figure(metrics.open_files, open_files()),
        Figure(metrics.most_files, most),
        Figure(metrics.threads, process.num_threads()),
    ]
    with suppress(psutil.Error, AttributeError):  # not on every system, or not allowed
        io = process.io_counters()
        found.append(Figure(metrics.process_disk, io.read_bytes, ("read",)))
        found.append(Figure(metrics.process_disk, io.write_bytes, ("write",)))
    return found


def open_files() -> int:
    """Return how many descriptors are open. Linux 6.2 and newer count them; before they are
    listed, which takes milliseconds if there are thousands."""
    try:
        return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))
    except OSError:
        return int(psutil.Process().num_fds())


def _cpu(metrics: Instruments) -> list[Figure]:
    times = psutil.cpu_times()._asdict()
    # Linux counts the time of guests in `user` as well.
    total = sum(value for mode, value in times.items() if not mode.startswith("guest"))
    known = {mode: float(times.get(mode, 0.0)) for mode in _MODES}
    known["other"] = max(0.0, total - sum(known.values()))
    return [
        *(Figure(metrics.host_cpu, value, (mode,)) for mode, value in known.items()),
        Figure(metrics.host_cpus, psutil.cpu_count() or 1),
    ]


def _memory(metrics: Instruments) -> list[Figure]:
    memory = psutil.virtual_memory()
    return [
        Figure(metrics.host_memory, memory.total - memory.available, ("used",)),
        Figure(metrics.host_memory, memory.available, ("available",)),
    ]


def _disk(metrics: Instruments) -> list[Figure]:
    disks = psutil.disk_io_counters()
    if disks is None:
        return []
    return [
        Figure(metrics.host_disk, disks.read_bytes, ("read",)),
        Figure(metrics.host_disk, disks.write_bytes, ("write",)),
    ]


def _network(metrics: Instruments) -> list[Figure]:
    cards = psutil.net_io_counters(pernic=True)
    others = [io for name, io in cards.items() if name != _LOOPBACK]
    return [
        Figure(metrics.host_network, sum(io.bytes_recv for io in others), ("receive",)),
        Figure(metrics.host_network, sum(io.bytes_sent for io in others), ("transmit",)),
    ]


def _filesystem(metrics: Instruments) -> list[Figure]:
    usage = psutil.disk_usage(".")
    return [
        Figure(metrics.host_filesystem, usage.used, ("used",)),
        Figure(metrics.host_filesystem, usage.free, ("free",)),
    ]


def watch_collector(metrics: Instruments) -> Callable[[], None]:
    """Time every run of Python's collector from now on. Returns what ends it."""
    begun = 0.0

    def watch(phase: str, info: dict[str, Any]) -> None:
        nonlocal begun
        if phase == "start":
            begun = stopwatch()
        else:
            metrics.gc_pause.observe(stopwatch() - begun, str(info["generation"]))

    gc.callbacks.append(watch)
    return lambda: gc.callbacks.remove(watch)
