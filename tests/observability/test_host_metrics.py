"""What a process and its host use."""

import gc
import os
from pathlib import Path

import psutil

from easypay.observability import host_metrics
from easypay.observability.metrics import Instruments


def test_every_figure_of_the_process_and_the_host_is_read() -> None:
    metrics = Instruments()
    found = {(each.family.name, *each.labels): each.value for each in host_metrics.read(metrics)}
    assert found["process_threads",] >= 1
    assert found["process_max_fds",] >= found["process_open_fds",] > 0
    assert found["system_cpu_logical_count",] == psutil.cpu_count()
    assert found["system_memory_usage_bytes", "available"] > 0
    assert found["system_filesystem_usage_bytes", "free"] > 0
    modes = {key[1] for key in found if key[0] == "system_cpu_time_seconds_total"}
    assert modes == {"user", "system", "idle", "iowait", "steal", "other"}
    assert all(value >= 0 for value in found.values())


def test_open_files_are_counted() -> None:
    before = host_metrics.open_files()
    opened = [os.dup(0) for _ in range(5)]
    assert host_metrics.open_files() == before + 5
    assert len(os.listdir("/proc/self/fd")) >= before + 5
    for file in opened:
        os.close(file)


def test_pauses_of_the_collector_are_measured_until_it_is_ended() -> None:
    metrics = Instruments()
    unwatch = host_metrics.watch_collector(metrics)
    gc.collect()
    unwatch()
    gc.collect()
    cells = metrics.registry.cells.own()["easypay_gc_pause_seconds", ("2",)]
    assert sum(cells[:-1]) == 1


def test_what_every_process_of_a_host_reads_is_counted_once(tmp_path: Path) -> None:
    first, second = Instruments(tmp_path), Instruments(tmp_path)
    first.host_cpu.set(100.0, "user")
    second.host_cpu.set(101.5, "user")
    text = second.registry.text().decode()
    assert 'system_cpu_time_seconds_total{cpu_mode="user"} 101.5' in text
    assert "# TYPE system_cpu_time_seconds_total counter" in text
