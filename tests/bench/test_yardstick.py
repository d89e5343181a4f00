"""The yardstick must stay the same for years, and work on today's schema."""

import hashlib
import json
import subprocess
import sys

from easypay_bench import yardstick
from easypay_bench.yardstick import Pair, Rate
from easypay_bench.yardstick_statements import BEGIN_SQL, RECORD_SQL

FROZEN = "1b20383d72011de2c80b32f23ca5eac7f91ef99c4e4f71187e83d23e32937388"


def test_the_statements_are_frozen() -> None:
    text = " ".join((BEGIN_SQL + RECORD_SQL).split())
    assert hashlib.sha256(text.encode()).hexdigest() == FROZEN, (
        "a yardstick that changes measures nothing; leave its SQL alone"
    )


def test_it_runs_alone_and_every_payment_is_begun_and_recorded() -> None:
    command = [
        sys.executable, "-m", "easypay_bench", "yardstick",
        "--in-flight", "4", "16", "--seconds", "0.3", "--runs", "1", "--json",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    rates = json.loads(done.stdout)
    assert [rate["in_flight"] for rate in rates] == [4, 16]
    for rate in rates:
        assert rate["payments_per_s"] > 0
        assert rate["python_us"] > 0
        assert rate["postgres_us"] > 0


def test_it_uses_the_gateways_settings_of_group_commit() -> None:
    default = yardstick.groups_of({})
    changed = yardstick.groups_of({"GROUPS_IN_FLIGHT": "4", "RESOLVER_POLL_S": "1"})

    assert (default.in_flight, default.size) == (2, 64)
    assert (changed.in_flight, changed.size) == (4, 64)


def test_the_gateway_is_compared_in_turn_with_the_yardstick() -> None:
    order: list[str] = []
    yardsticks, gateways = iter([1000.0, 2000.0, 1000.0]), iter([500.0, 800.0, 300.0])

    def measure(in_flight: int) -> Rate:
        order.append("yardstick")
        return Rate(in_flight, next(yardsticks), python_us=30.0 + len(order), postgres_us=60.0)

    def gateway(in_flight: int) -> float:
        order.append("gateway")
        assert in_flight == 64
        return next(gateways)

    found = yardstick.compare(64, 3, measure, gateway)

    assert order == ["yardstick", "gateway"] * 3
    assert found.pairs[1] == Pair(2000.0, 800.0)
    assert (found.lowest, found.ratio, found.highest) == (0.3, 0.4, 0.5)
    assert found.python_us == 33.0
