"""The comparison of HTTP/1.1 with HTTP/2 runs, and its clients speak the version they stand for."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness import free_port

TOOL = Path(__file__).parents[2] / "tools" / "http_versions.py"


def test_every_client_is_measured_at_every_concurrency() -> None:
    if shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin") is None:
        pytest.skip("nginx is not installed: run tests/install-servers as root")
    command = [sys.executable, str(TOOL), "--rounds", "1", "--requests", "8"]
    done = subprocess.run(
        [*command, "--port", str(free_port())], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines()[2:]]
    assert [(int(row[0]), row[1].strip()) for row in rows] == [
        (in_flight, client)
        for in_flight in (1, 8, 64)
        for client in ("ours, HTTP/1.1", "h2 alone, HTTP/2", "httpx, HTTP/1.1", "httpx, HTTP/2")
    ]
