"""`easypay cache stats` shows what the gateways count."""

from easypay.command_line.cache import rows_of

METRICS = """
# TYPE easypay_cache_requests_total counter
easypay_cache_requests_total{cache="payment",result="hit"} 7.0
easypay_cache_requests_total{cache="payment",result="shared"} 2.0
easypay_cache_requests_total{cache="payment",result="miss"} 3.0
easypay_cache_requests_total{cache="payment",result="stale"} 1.0
easypay_cache_requests_total{cache="api_keys",result="miss"} 1.0
"""


def test_each_cache_is_a_row_with_its_counts() -> None:
    keys, payment = rows_of(METRICS)
    assert (keys.cache, keys.hit, keys.miss, keys.share) == ("api_keys", 0, 1, 0)
    assert (payment.hit, payment.shared, payment.miss, payment.stale) == (7, 2, 3, 1)
    assert payment.share == 75
