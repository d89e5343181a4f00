"""A clock that goes on while the machine sleeps."""

import time

import pytest

from easypay import clock
from easypay.processors.authorize_net import http_client


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="this system has no such clock")
def test_monotonic_time_counts_sleep_and_the_http_client_uses_it() -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    now = clock.monotonic()
    assert before <= now <= time.clock_gettime(time.CLOCK_BOOTTIME)
    assert http_client.monotonic is clock.monotonic
