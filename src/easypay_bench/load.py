"""A load for a stretch of time: how many payments were taken, how long each took, at what cost.

The closed model: every connection sends its next request when the last is answered. The peak it
finds must not be the generator's own, so wrk makes the load where it is installed, and a lean
generator in Python where it is not; either says what it cost.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Final

from easypay_bench.payment_request import AMOUNTS, LOWEST_MINOR, Orders

_REPLY_TIMEOUT_S: Final = 30
_RESULT: Final = "easypay-bench "


class LoadFailed(Exception):
    """The generator did not do its work, so there is no figure."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to send, where, and how long."""

    host: str
    port: int
    orders: Orders
    connections: int
    seconds: float
    first_number: int = 0
    """Runs with the same orders must not overlap in their numbers."""


@dataclass(frozen=True, slots=True)
class Load:
    """What came of it. Latencies are in milliseconds, from sending to the whole reply."""

    generator: str
    connections: int
    seconds: float
    replies: int
    cpu_s: float
    """The generator's own."""
    latency_ms: dict[str, float]
    wrong: dict[str, int] = field(default_factory=dict)
    """Anything but a reply with the right status: what, and how often."""
    cut_off: int = 0
    """At most so many requests were under way when the generator left."""


def choose(wanted: str) -> str:
    """`wrk` or `python`. Raises LoadFailed where wrk is asked for and not there."""
    if wanted == "auto":
        return "wrk" if shutil.which("wrk") else "python"
    if wanted == "wrk" and not shutil.which("wrk"):
        raise LoadFailed("wrk is not installed; --generator python needs nothing")
    return wanted


def run(generator: str, job: Job, on_start: Callable[[], None] = lambda: None) -> Load:
    """Runs one load to its end. `on_start` is called when the connections may begin to send."""
    return _run_wrk(job, on_start) if generator == "wrk" else _run_python(job, on_start)


def run_reads(
    host: str, port: int, api_key: str, paths: Sequence[str], *, connections: int, seconds: float
) -> Load:
    """GETs by wrk, over the paths in turn. Raises LoadFailed where wrk is not there."""
    choose("wrk")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as listed:
        listed.write("\n".join(paths))
        listed.flush()
        environment = {"EASYPAY_BENCH_PATHS": listed.name, "EASYPAY_BENCH_KEY": api_key}
        return _wrk("reads.lua", host, port, connections, seconds, environment)


def _run_wrk(job: Job, on_start: Callable[[], None]) -> Load:
    environment = {
        "EASYPAY_BENCH_REQUEST": job.orders.template,
        "EASYPAY_BENCH_LOWEST": str(LOWEST_MINOR),
        "EASYPAY_BENCH_AMOUNTS": str(AMOUNTS),
        "EASYPAY_BENCH_FIRST": str(job.first_number),
    }
    return _wrk(
        "payments.lua", job.host, job.port, job.connections, job.seconds, environment, on_start
    )


def _wrk(
    script_name: str,
    host: str,
    port: int,
    connections: int,
    seconds: float,
    environment: Mapping[str, str],
    on_start: Callable[[], None] = lambda: None,
) -> Load:
    """What a script needs comes through the environment: it holds an API key."""
    program = shutil.which("wrk") or "wrk"
    parts = [resources.files("easypay_bench") / name for name in (script_name, "done.lua")]
    with (
        tempfile.NamedTemporaryFile("w", suffix=".lua") as script,
        tempfile.TemporaryFile() as said,
    ):
        script.write("\n".join(part.read_text() for part in parts))
        script.flush()
        command = [
            program, "--threads", "1", "--connections", str(connections),
            "--duration", f"{max(1, round(seconds))}s", "--timeout", f"{_REPLY_TIMEOUT_S}s",
            "--script", script.name, f"http://{host}:{port}/",
        ]  # fmt: skip
        on_start()
        process = subprocess.Popen(  # noqa: S603  (our own command line)
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )
        cpu_s = _reap(process)
        said.seek(0)
        text = said.read().decode(errors="replace")
    results = [line for line in text.splitlines() if line.startswith(_RESULT)]
    if process.returncode != 0 or not results:
        raise LoadFailed(f"wrk ended with {process.returncode}: {text.strip()[-400:]}")
    result: dict[str, int] = json.loads(results[0].removeprefix(_RESULT))
    wrong = {name: result[name] for name in ("connect", "read", "write", "status", "timeout")}
    return Load(
        generator="wrk",
        connections=connections,
        seconds=result["duration_us"] / 1e6,
        replies=result["requests"] - result["status"],
        cpu_s=cpu_s,
        latency_ms={
            name: result[name] / 1000
            for name in ("p50", "p75", "p90", "p95", "p99", "p99.9", "max")
        },
        wrong={name: count for name, count in wrong.items() if count},
        cut_off=connections,
    )


def _reap(process: "subprocess.Popen[bytes]") -> float:
    """Waits for the process; the CPU seconds it has used."""
    try:
        _, status, used = os.wait4(process.pid, 0)
    except BaseException:
        process.kill()
        process.wait()
        raise
    process.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_utime + used.ru_stime


def _run_python(job: Job, on_start: Callable[[], None]) -> Load:
    order = {
        "host": job.host,
        "port": job.port,
        "template": job.orders.template,
        "connections": job.connections,
        "seconds": job.seconds,
        "first_number": job.first_number,
    }
    with (
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(
            [sys.executable, "-m", "easypay_bench.generator"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
            if process.stdout.readline() == "ready\n":
                on_start()
                process.stdin.write("go\n")
                process.stdin.flush()
            answer = process.stdout.readline()
            if process.wait() != 0 or not answer:
                complaints.seek(0)
                last = complaints.read().decode(errors="replace").strip().splitlines()[-1:]
                raise LoadFailed(f"the generator failed: {' '.join(last)}")
        except BaseException:
            process.kill()
            raise
    result: dict[str, Any] = json.loads(answer)
    return Load(generator="python", connections=job.connections, **result)
