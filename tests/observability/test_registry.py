"""The metrics of many processes add up, whichever process answers and whichever has died."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from easypay.observability.call_metrics import summary
from easypay.observability.metric_registry import Registry

CHILD = """
import sys, time
from pathlib import Path
from easypay.observability.metric_registry import Registry
registry = Registry(Path(sys.argv[1]))
calls = registry.counter("calls_total", "calls", "route")
open_ = registry.gauge("open", "open")
lag = registry.gauge("lag", "lag", merge="max")
took = registry.histogram("took_seconds", "took", bounds=(0.1, 1.0))
for _ in range(int(sys.argv[2])):
    calls.add("/a")
open_.set(3)
lag.set(float(sys.argv[2]))
took.observe(0.05)
took.observe(5)
print("counted", flush=True)
time.sleep(60)
"""


def registry_with_families(directory: Path | None) -> Registry:
    registry = Registry(directory)
    registry.counter("calls_total", "calls", "route").add("/a")
    registry.gauge("open", "open").set(2)
    registry.gauge("lag", "lag", merge="max").set(7)
    registry.histogram("took_seconds", "took", bounds=(0.1, 1.0)).observe(0.1)
    return registry


def samples(registry: Registry) -> dict[str, float]:
    text = registry.text().decode()
    return {
        sample.name + "".join(f"[{value}]" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def child(directory: Path, calls: int) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(directory), str(calls)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "counted\n"
    return process


def end(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_a_single_process_shows_its_own_metrics() -> None:
    found = samples(registry_with_families(None))
    assert found["calls_total[/a]"] == 1
    assert found["took_seconds_bucket[0.1]"] == 1, "a bucket includes its upper bound"


def test_every_process_answers_with_the_sum_of_all(tmp_path: Path) -> None:
    others = [child(tmp_path, 10), child(tmp_path, 100)]
    try:
        found = samples(registry_with_families(tmp_path))
    finally:
        for other in others:
            end(other)
    assert found["calls_total[/a]"] == 111
    assert found["open"] == 8, "a sum"
    assert found["lag"] == 100, "the maximum"
    assert found["took_seconds_bucket[0.1]"] == 3
    assert found["took_seconds_bucket[1.0]"] == 3, "buckets are cumulative"
    assert found["took_seconds_bucket[+Inf]"] == found["took_seconds_count"] == 5
    assert found["took_seconds_sum"] == pytest.approx(10.2)


def test_counters_of_dead_processes_stay_and_their_gauges_go(tmp_path: Path) -> None:
    registry = registry_with_families(tmp_path)
    end(child(tmp_path, 10))
    found = samples(registry)
    assert found["calls_total[/a]"] == 11
    assert (found["open"], found["lag"]) == (2, 7)


def test_files_do_not_pile_up_over_restarts(tmp_path: Path) -> None:
    for _ in range(4):
        end(child(tmp_path, 10))
    registry = registry_with_families(tmp_path)
    assert samples(registry)["calls_total[/a]"] == 41
    assert len(list(tmp_path.glob("*.cells"))) == 1, "dead processes' files were merged"


def test_a_process_killed_while_it_merges_files_counts_nothing_twice(
    tmp_path: Path,
) -> None:
    """The merged file is in place, and the files it replaces are not deleted yet."""
    end(child(tmp_path, 10))
    kept = {path: path.read_bytes() for path in tmp_path.glob("*-*.*")}
    registry = registry_with_families(tmp_path)
    for path, content in kept.items():
        path.write_bytes(content)
    assert samples(registry)["calls_total[/a]"] == 11
    again = registry_with_families(tmp_path)
    assert samples(again)["calls_total[/a]"] == 12
    assert not any(path.exists() for path in kept)


def test_a_half_written_line_of_another_process_is_skipped(tmp_path: Path) -> None:
    other = child(tmp_path, 10)
    try:
        index = next(tmp_path.glob(f"{other.pid}-*.index"))
        with index.open("a") as file:
            file.write('["calls_total", ["/b')
        assert samples(registry_with_families(tmp_path))["calls_total[/a]"] == 11
    finally:
        end(other)


def test_too_many_label_values_are_refused() -> None:
    calls = Registry().counter("calls_total", "calls", "route")
    for number in range((1 << 16) - 1):
        calls.add(str(number))
    with pytest.raises(MemoryError, match="calls_total"):
        calls.add("one too many")


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("SELECT 1", "SELECT"),
        ("SELECT a FROM payments WHERE id = $1", "SELECT payments"),
        ("SELECT extract(epoch FROM now() - since) FROM unresolved_operations", "SELECT"
         " unresolved_operations"),
        ("WITH due AS (SELECT x FROM jobs FOR UPDATE SKIP LOCKED) UPDATE jobs j SET a = 1",
         "UPDATE jobs"),
        ("insert into keys values (1)", "INSERT keys"),
        ("DELETE FROM unresolved_operations WHERE a = $1", "DELETE unresolved_operations"),
        ("VACUUM", "OTHER"),
    ],
)  # fmt: skip
def test_statements_are_named_by_their_action_and_table(sql: str, name: str) -> None:
    assert summary(sql) == name


def test_the_process_that_asks_is_alive(tmp_path: Path) -> None:
    registry = registry_with_families(tmp_path)
    assert next(tmp_path.glob("*.index")).name.startswith(f"{os.getpid()}-")
    assert samples(registry)["open"] == 2
