"""The questions: pages of payments with each filter, and statistics. Each is asked many times, of
merchants of every size, for what is frequent, what is rare and what is not there.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from random import Random
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

import msgspec

from easypay import clock, ids
from easypay.payments.lists import Span
from easypay.payments.model import Status
from easypay.payments.search import Filters
from easypay.payments.statistics import Interval, Question
from easypay.seeding.processor_answers import DECLINES
from easypay_bench.finding.examples import Examples, Payment, Shop

_OF_THE_BIGGEST: Final = 0.5
_MISSING: Final = 0.15
"""Share of the questions for something that is not there."""
_ANY: Final = 0.25
"""Share of the questions for one of all possible values: many of them are rare."""
_CURRENCIES: Final = ("USD", "EUR", "GBP", "CAD", "JPY", "SEK")
_BRANDS: Final = ("visa", "mastercard", "amex", "discover", "jcb")
_CODES: Final = tuple(sorted({each.decline_code for each in DECLINES}))
_QUARTER: Final = timedelta(minutes=15)
_FIRST: Final = UUID(int=0)


class Page(msgspec.Struct, frozen=True):
    """The first page of a list."""

    span: Span
    filters: Filters = Filters()


class Draw:
    """Draws what to ask, the same for the same examples and number."""

    def __init__(self, examples: Examples, number: int) -> None:
        self.examples = examples
        self.rng = Random(number)  # noqa: S311 - repeatable on purpose

    def shop(self) -> Shop:
        if self.rng.random() < _OF_THE_BIGGEST:
            return self.examples.shops[0]
        return self.rng.choice(self.examples.shops)

    def payment(self, shop: Shop) -> Payment:
        """Return one of a shop's payments, or one of the biggest shop's if it has none."""
        return self.rng.choice(shop.payments or self.examples.shops[0].payments)

    def one_of(self, usual: str | None, possible: tuple[str, ...]) -> str:
        """Return the usual value, or any of those that are possible."""
        if usual is None or self.rng.random() < _ANY:
            return self.rng.choice(possible)
        return usual

    def is_missing(self) -> bool:
        """Whether to ask for something that is not there."""
        return self.rng.random() < _MISSING

    def moment(self) -> datetime:
        return self.examples.since + self.rng.random() * (self.examples.until - self.examples.since)


# the parts of a question ------------------------------------------------------------------------

Parts = dict[str, Any]
Part = Callable[[Draw, Shop, Payment], Parts]
"""Returns filters, and the bounds `created_from` and `created_to` of the list."""


def _status(draw: Draw, shop: Shop, payment: Payment) -> Parts:
    return {"status": Status(draw.one_of(payment.status, tuple(Status)))}


def _currency(draw: Draw, shop: Shop, payment: Payment) -> Parts:
    return {"currency": draw.one_of(payment.currency, _CURRENCIES)}


def _customer(draw: Draw, shop: Shop, payment: Payment) -> Parts:
    there = payment.customer_reference or "c-0"
    return {"customer_reference": "nobody" if draw.is_missing() else there}


def _order(draw: Draw, shop: Shop, payment: Payment) -> Parts:
    there = payment.order_reference or "0-0-0"
    return {"order_reference": "nothing" if draw.is_missing() else there}


def _created(draw: Draw, shop: Shop, payment: Payment) -> Parts:
    at = draw.moment()
    long = timedelta(hours=1) * draw.rng.choice((1, 24, 24 * 7, 24 * 30, 24 * 365))
    return {"created_from": at, "created_to": at + long}


def _amount(draw: Draw, shop: Shop, payment: Payment) -> Parts:
    amount = payment.amount_minor
    low, high = draw.rng.choice(((1.0, 1.0), (1.0, 1.0), (0.98, 1.02), (0.5, 2.0)))
    return {"amount_from": int(amount * low), "amount_to": int(amount * high)}


def _amount_from(draw: Draw, shop: Shop, payment: Payment) -> Parts:
    return {"amount_from": payment.amount_minor}


def _card(draw: Draw, shop: Shop, payment: Payment) -> Parts:
    last4 = f"{draw.rng.randrange(10_000):04}" if draw.is_missing() else payment.last4 or "1111"
    return {"last4": last4, "brand": draw.one_of(payment.brand, _BRANDS)}


def _decline(draw: Draw, shop: Shop, payment: Payment) -> Parts:
    return {"decline_code": draw.one_of(payment.decline_code, _CODES)}


def _transaction(draw: Draw, shop: Shop, payment: Payment) -> Parts:
    there = payment.transaction_id or "60000000000"
    return {"processor_transaction_id": "1" if draw.is_missing() else there}


def _reference(draw: Draw, shop: Shop, payment: Payment) -> Parts:
    there = draw.rng.choice(shop.references or draw.examples.shops[0].references)
    return {"processor_reference": ids.reference(ids.new_id()) if draw.is_missing() else there}


def _refunded(draw: Draw, shop: Shop, payment: Payment) -> Parts:
    return {"refunded": True}


PAGES: Final[Mapping[str, tuple[Part, ...]]] = MappingProxyType(
    {
        "first page": (),
        "status": (_status,),
        "customer_reference": (_customer,),
        "order_reference": (_order,),
        "created_from and created_to": (_created,),
        "amount_from and amount_to": (_amount,),
        "amount_from": (_amount_from,),
        "currency": (_currency,),
        "last4 with brand": (_card,),
        "decline_code": (_decline,),
        "processor_transaction_id": (_transaction,),
        "processor_reference": (_reference,),
        "refunded=true": (_refunded,),
        "status, created": (_status, _created),
        "status, currency": (_status, _currency),
        "status, customer_reference": (_status, _customer),
        "decline_code, created": (_decline, _created),
        "last4 with brand, amount": (_card, _amount),
    }
)
"""By the question's name, what the page is asked for. The last five are the pairs."""
DEEP: Final = "page at depth"


def page(parts: tuple[Part, ...], draw: Draw) -> Page:
    """Return the page to ask for."""
    shop = draw.shop()
    payment = draw.payment(shop)
    asked: Parts = {}
    for part in parts:
        asked |= part(draw, shop, payment)
    since, until = asked.pop("created_from", None), asked.pop("created_to", None)
    floor = _FIRST if since is None else ids.lowest_id_at(since)
    below = _newest() if until is None else min(ids.lowest_id_at(until), _newest())
    return Page(Span(shop.merchant_id, shop.mode, floor, below), Filters(**asked))


def deep_page(draw: Draw) -> Page:
    """Return the page after a cursor deep in the biggest merchant's list."""
    shop = draw.examples.shops[0]
    last = draw.rng.choice(draw.examples.deep)
    return Page(Span(shop.merchant_id, shop.mode, _FIRST, _newest()).continuing(last))


def _newest() -> UUID:
    """Return the bound that the API sets: above every id that a host has made by now."""
    return ids.lowest_id_at(clock.now() + timedelta(days=1))


# statistics -------------------------------------------------------------------------------------


class Stretch(msgspec.Struct, frozen=True):
    """A kind of question about time. `days`: how long; None: everything there is."""

    days: float | None
    interval: Interval
    by_brand: bool = False
    whole_quarters: bool = True


STRETCHES: Final[Mapping[str, Stretch]] = MappingProxyType(
    {
        "statistics of a day, by hour": Stretch(1, "hour"),
        "statistics of 30 days, by day and brand": Stretch(30, "day", by_brand=True),
        "statistics of a year, by month and brand": Stretch(365, "month", by_brand=True),
        "statistics of all months": Stretch(None, "none"),
        "statistics between any two moments": Stretch(400, "none", whole_quarters=False),
    }
)


def stretch(kind: Stretch, draw: Draw) -> Question:
    """Return the question to ask: half of them end now, the others at any time."""
    shop, examples = draw.shop(), draw.examples
    since, until = examples.since, examples.until
    if kind.days is not None:
        long = timedelta(days=kind.days if kind.whole_quarters else kind.days * draw.rng.random())
        if draw.rng.random() < 0.5:
            until = max(since + long, draw.moment())
        since = until - long
    if kind.whole_quarters:
        since, until = _quarter(since), _quarter(until)
    return Question(shop.merchant_id, shop.mode, since, until, kind.interval, kind.by_brand)


def _quarter(moment: datetime) -> datetime:
    start = moment.replace(minute=0, second=0, microsecond=0)
    return start + (moment - start) // _QUARTER * _QUARTER
