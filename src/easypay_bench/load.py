"""A load for some time: how many payments were taken, how long each took, at what cost.

The closed model: each connection sends its next request when the last is answered. The generator
must not limit the peak, so wrk makes the load if it is installed, else a lean generator in Python.
Both report their own CPU.
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
    """The generator failed, so there is no figure."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to send, where, and how long."""

    host: str
    port: int
    orders: Orders
    connections: int
    seconds: float
    first_number: int = 0
    """Runs with the same orders must use different numbers."""


@dataclass(frozen=True, slots=True)
class Load:
    """The result of a load. Latencies are in milliseconds, from sending to the whole reply."""

    generator: str
    connections: int
    seconds: float
    replies: int
    cpu_s: float
    """The generator's own CPU."""
    latency_ms: dict[str, float]
    wrong: dict[str, int] = field(default_factory=dict)
    """Everything but a reply with the right status -> how often."""
    cut_off: int = 0
    """The most requests that were in flight when the generator ended."""


def choose(wanted: str, seconds: float = 1) -> str:
    """Return `wrk` or `python`. Raises LoadFailed if wrk is wanted and not installed.

    `seconds`: how long the load is to last. wrk takes whole seconds only.
    """
    if wanted == "auto":
        return "wrk" if seconds >= 1 and shutil.which("wrk") else "python"
    if wanted == "wrk" and not shutil.which("wrk"):
        raise LoadFailed("wrk is not installed: install it, or use --generator python")
    return wanted


def run(generator: str, job: Job, on_start: Callable[[], None] = lambda: None) -> Load:
    """Run one load to its end. `on_start` is called when the connections may start to send."""
    return _run_wrk(job, on_start) if generator == "wrk" else _run_python(job, on_start)


def run_reads(
    host: str,
    port: int,
    api_key: str,
    paths: Sequence[str],
    *,
    connections: int,
    seconds: float,
    headers: Mapping[str, str] | None = None,
) -> Load:
    """GET the paths in turn by wrk, with these headers. Raises LoadFailed if wrk is not
    installed."""
    choose("wrk")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as listed:
        listed.write("\n".join(paths))
        listed.flush()
        lines = [f"{name}: {value}" for name, value in (headers or {}).items()]
        environment = {
            "EASYPAY_BENCH_PATHS": listed.name,
            "EASYPAY_BENCH_KEY": api_key,
            "EASYPAY_BENCH_HEADERS": "\n".join(lines),
        }
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
    """Run wrk. The script's input comes through the environment, as it holds an API key."""
    program = shutil.which("wrk") or "wrk"
    parts = [resources.files("easypay_bench") / name for name in (script_name, "done.lua")]
    with (
        tempfile.NamedTemporaryFile("w", suffix=".lua") as script,
        tempfile.TemporaryFile() as output,
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
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )
        cpu_s = _reap(process)
        output.seek(0)
        text = output.read().decode(errors="replace")
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
    """Wait for the process; return the CPU seconds it has used."""
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
