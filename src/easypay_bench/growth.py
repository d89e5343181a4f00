"""Measure what many transactions cost the simulator: memory for each, and whether the last one is
as cheap as the first. Behind `make growth`.

    python -m easypay_bench.growth --transactions 1000000

It calls the wire in this process, from a request's bytes to the reply's, without HTTP: everything
that grows with the number of transactions is below that.
"""

import argparse
import gc
import sys
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
import psutil  # type: ignore[import-untyped]

from authorizenet_simulator import dispatch
from authorizenet_simulator.state.clock import Clock
from authorizenet_simulator.state.journal import Journal
from authorizenet_simulator.state.ledger import DEFAULT_KEY, DEFAULT_LOGIN, Ledger
from authorizenet_simulator.wire import json_wire, schema

_AUTHENTICATION: Final = f'{{"name":"{DEFAULT_LOGIN}","transactionKey":"{DEFAULT_KEY}"}}'
_SALE: Final = (
    '{"createTransactionRequest":{"merchantAuthentication":'
    + _AUTHENTICATION
    + ',"refId":"order-%d","transactionRequest":{"transactionType":"authCaptureTransaction",'
    '"amount":"12.50","payment":{"creditCard":{"cardNumber":"4111111111111111",'
    '"expirationDate":"2040-12","cardCode":"900"}},"order":{"invoiceNumber":"order-%d"}}}}'
)
_PAGE: Final = (
    '{"getUnsettledTransactionListRequest":{"merchantAuthentication":'
    + _AUTHENTICATION
    + ',"paging":{"limit":20,"offset":1}}}'
).encode()
_ROUNDS: Final = 200


class Cost(NamedTuple):
    """The cost of one request."""

    us: float
    """Microseconds of CPU."""
    calls: int
    """Functions called, in Python and C: exact, whatever else the machine does."""


class Growth(NamedTuple):
    """What was measured."""

    transactions: int
    bytes_each: float
    """Memory for one transaction."""
    first_sale: Cost
    last_sale: Cost
    first_page: Cost
    """The newest twenty of the unsettled list, with few transactions; below, with all."""
    last_page: Cost


def measure(transactions: int) -> Growth:
    """Measure many sales, each with its own invoice number."""
    clock = Clock()
    clock.stopped_ms = clock.now_ms()  # a clock that runs costs a call more at each new second
    ledger = Ledger(Journal(None), clock, seed=1)
    rules = schema.load()
    part = max(transactions // 100, 1)
    _sell(ledger, rules, 0, 20)
    _page(ledger, rules)
    gc.collect()
    before: int = psutil.Process().memory_info().rss
    first_page = _page(ledger, rules)
    first = _sell(ledger, rules, 20, part)
    _sell(ledger, rules, 20 + part, transactions - 2 * part)
    last = _sell(ledger, rules, 20 + transactions - part, part)
    gc.collect()
    each = (psutil.Process().memory_info().rss - before) / transactions
    return Growth(transactions, each, first, last, first_page, _page(ledger, rules))


def _calls(function: Callable[[], Any]) -> int:
    count = 0

    def seen(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(seen)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def _sell(ledger: Ledger, rules: schema.Schema, begin: int, count: int) -> Cost:
    """Return the mean of `count` sales, and the calls of the last."""

    def sell(number: int) -> None:
        reply = dispatch.answer(ledger, rules, json_wire.read((_SALE % (number, number)).encode()))
        if b'"responseCode":"1"' not in reply:
            raise RuntimeError(reply.decode())

    started = time.process_time_ns()
    for number in range(begin, begin + count - 1):
        sell(number)
    us = (time.process_time_ns() - started) / 1000 / max(count - 1, 1)
    return Cost(us, _calls(lambda: sell(begin + count - 1)))


def _page(ledger: Ledger, rules: schema.Schema) -> Cost:
    """Return the cheapest of several: the cost without disturbance."""

    def page() -> None:
        dispatch.answer(ledger, rules, json_wire.read(_PAGE))

    best = sys.maxsize
    for _ in range(_ROUNDS):
        started = time.process_time_ns()
        page()
        best = min(best, time.process_time_ns() - started)
    return Cost(best / 1000, _calls(page))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m easypay_bench.growth")
    parser.add_argument("--transactions", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true", help="for a program to read")
    options = parser.parse_args()
    found = measure(options.transactions)
    if options.json:
        sys.stdout.write(msgspec.json.encode(found._asdict()).decode() + "\n")
    else:
        sys.stdout.write(_as_text(found))


def _as_text(found: Growth) -> str:
    lines = [f"{found.transactions:,} sales, {found.bytes_each:.0f} bytes of memory each"]
    for name, first, last in (
        ("a sale", found.first_sale, found.last_sale),
        ("a page of 20", found.first_page, found.last_page),
    ):
        lines.append(
            f"{name}: {first.us:.0f} us, {first.calls} calls at first;"
            f" {last.us:.0f} us, {last.calls} calls at last"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
