"""Measure what it costs to compress a page of 100 payments, and to find its ETag.

    python -m easypay_bench.compressing

CPU time of this thread, the best of many rounds: other work on the machine only adds to it.
docs/decisions/0030 has the figures that chose the codecs and their levels.
"""

import random
import string
import time
import zlib
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from msgspec.structs import replace

from easypay import ids
from easypay.api import paging
from easypay.api.compression import CODINGS, compressed
from easypay.api.conditional import version_tag
from easypay.api.example_stories import stories
from easypay.api.examples import AT, CURSOR
from easypay.api.http import encode
from easypay.payments.views import payment_view

BAR_US: Final = 150
_ROWS: Final = 100
_ROUNDS: Final = 300
_LETTERS: Final = string.ascii_uppercase + string.digits
_BRANDS: Final = ("visa", "visa", "mastercard", "amex", "discover")


def page() -> bytes:
    """Return a page as busy shops have it: what differs between payments differs here, too."""
    chance = random.Random(7)  # noqa: S311 - the same page each time
    payment = next(iter(stories().values())).payment
    rows, at = [], AT
    for _ in range(_ROWS):
        at -= timedelta(seconds=chance.expovariate(0.05))
        answer = replace(
            payment.answer,
            transaction_id=str(chance.randrange(10**10, 10**11)),
            auth_code="".join(chance.choices(_LETTERS, k=6)),
            network_transaction_id="".join(chance.choices(_LETTERS, k=24)),
        )
        details = replace(
            payment.details,
            order_reference=f"order-{chance.randrange(10**7)}",
            customer_reference=f"customer-{chance.randrange(10**6)}",
            description=chance.choice((None, f"Two tickets, row {chance.randrange(60)}")),
        )
        rows.append(
            replace(
                payment,
                id=UUID(int=ids.lowest_id_at(at).int + chance.getrandbits(62)),
                answer=answer,
                details=details,
                amount_minor=chance.randrange(100, 200_000),
                card_last4=f"{chance.randrange(10_000):04d}",
                card_brand=chance.choice(_BRANDS),
                created_at=at,
                updated_at=at + timedelta(milliseconds=chance.randrange(100, 900)),
            )
        )
    return encode(paging.Page([payment_view(each) for each in rows], True, CURSOR))


def cost_us(call: Callable[[], Any]) -> float:
    """Return the CPU time of a call in microseconds."""
    best = float("inf")
    for _ in range(_ROUNDS):
        begun = time.thread_time()
        call()
        best = min(best, time.thread_time() - begun)
    return best * 1e6


def main() -> None:
    """Print the costs."""
    body = page()
    calls: Mapping[str, Callable[[], bytes]] = {
        **{coding.decode(): partial(compressed, body, coding) for coding in CODINGS},
        "gzip by zlib, level 1": partial(zlib.compress, body, 1, wbits=31),
        "the ETag": partial(version_tag, 2, body),
    }
    print(f"a page of {_ROWS} payments, {len(body):,} bytes; the bar is {BAR_US} µs")  # noqa: T201
    for name, call in calls.items():
        print(f"  {name:22} {cost_us(call):6.0f} µs   {len(call()):7,} bytes")  # noqa: T201


if __name__ == "__main__":
    main()
