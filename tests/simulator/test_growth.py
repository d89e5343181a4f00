"""A day of load must neither slow the simulator down nor fill the memory."""

import subprocess
import sys
from typing import Any

import msgspec


def test_cost_does_not_grow_with_the_number_of_transactions() -> None:
    command = [sys.executable, "-m", "easypay_bench.growth", "--transactions", "20000", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    found: dict[str, Any] = msgspec.json.decode(done.stdout)
    assert found["transactions"] == 20_000
    assert 300 < found["bytes_each"] < 1000
    (_, first_sale), (_, last_sale) = found["first_sale"], found["last_sale"]
    (_, first_page), (_, last_page) = found["first_page"], found["last_page"]
    assert first_sale == last_sale > 10
    assert first_page == last_page > 100
