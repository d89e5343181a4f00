"""One small run over a whole stack has every result and accounts for every payment.

No time is checked, because a busy machine must not fail this test.
"""

import json
import subprocess
import sys
from pathlib import Path


def test_a_small_run_accounts_for_every_payment(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    command = [
        sys.executable, "-m", "easypay_bench", "--quick", "--generator", "python",
        "--connections", "8", "--seconds", "0.5", "--warmup", "0.2", "--unloaded", "0.2",
        "--counted", "50", "--json", str(results),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads(results.read_text())
    assert "4111111111111111" not in results.read_text() + done.stdout + done.stderr

    [run] = data["runs"]
    assert run["load"]["replies"] > 0
    assert run["load"]["wrong"] == {}
    assert set(run["load"]["latency_ms"]) == {"p50", "p75", "p90", "p95", "p99", "p99.9", "max"}
    assert set(run["cpu_us"]) == {"gateway", "postgres", "simulator", "generator"}
    assert all(cost > 0 for cost in run["cpu_us"].values())

    assert data["accounting"]["wrong"] == []
    assert data["accounting"]["payments"] > run["load"]["replies"] + data["unloaded"]["payments"]
    assert data["database"]["fsync"] == "on"
    assert len(data["bars"]) == 6
    assert data["counters"]["statements_per_payment"] == 2  # only begin and record
    assert data["counters"]["wal_bytes"] > 0
    assert "each captured here and sold once there" in " ".join(done.stdout.split())
