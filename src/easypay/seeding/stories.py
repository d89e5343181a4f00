"""What became of each payment: a story of one or more operations. Pure, and the same for one seed.

A story ends where the seed's present is reached: what would come later has not happened yet.
Moments are microseconds since 1970, as in all of `seeding`.
"""

from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from itertools import accumulate
from random import Random
from typing import Final

import msgspec

from easypay.money import EXPONENT
from easypay.payment_details import DETAIL_EXAMPLES, DETAIL_FIELDS, PaymentDetails
from easypay.processors.base import Absent, Approved, Declined, HeldForReview, Rejected
from easypay.seeding import processor_answers as answers
from easypay.seeding.days import DAY_US, Day, moments
from easypay.seeding.processor_answers import Checks
from easypay.seeding.shops import Shop

Outcome = Approved | Declined | Rejected | HeldForReview | Absent

_SECOND_US: Final = 1_000_000
_HOUR_US: Final = 3600 * _SECOND_US
_DEADLINE_US: Final = 10 * _SECOND_US
_CALL_US: Final = 30 * _SECOND_US
"""No call takes longer, so a payment is made at least so long before the present."""
_OUTAGE: Final = 40
"""Just now the processor does not answer: of so many of the newest payments every second outcome is
unknown."""


class Step(msgspec.Struct, gc=False):
    """One operation of a payment, or the processor's release of an authorization (`expiry`)."""

    kind: str
    id: bytes
    event_id: bytes
    amount_minor: int
    begun_us: int
    processor_us: int
    ended_us: int
    outcome: Outcome | None
    """None: not known yet."""
    transaction_id: str | None = None
    auth_code: str | None = None
    reply_lost: bool = False
    """The call's own answer never came; an inquiry found the outcome."""


class Told(msgspec.Struct, gc=False):
    """One payment: what the merchant sent, and what happened to it."""

    shop: Shop
    id: bytes
    mode: str
    created_us: int
    amount_minor: int
    currency: str
    capture: str
    method: str
    brand: str | None
    last4: str | None
    exp_month: int | None
    exp_year: int | None
    fingerprint: bytes | None
    checks: Checks
    network_id: str | None
    details: PaymentDetails
    customer: bytes | None
    address: bytes | None
    metadata: bytes | None
    steps: list[Step]


_BRANDS: Final = ("visa", "mastercard", "amex", "discover")
_BRANDS_SUMS: Final = (60, 90, 96, 100)
_DESCRIPTIONS: Final = ("Gift card", "Online order", "Monthly plan", "Deposit", "Repair", "Tickets")
_NEWER_TEXTS: Final = tuple(DETAIL_EXAMPLES.get(name) for name in DETAIL_FIELDS[4:])
"""Texts that were added to payments later: each is the example of its field."""
_STREETS: Final = ("Main St", "Oak Ave", "Park Rd", "Mill Lane", "Station St", "High St")
_CITIES: Final = (
    *(("Springfield", "62701", "US"), ("Portland", "97201", "US"), ("Bellevue", "98004", "US")),
    *(("Toronto", "M5H 2N2", "CA"), ("Leeds", "LS1 4AP", "GB"), ("Graz", "8010", "AT")),
)
_ADDRESSES: Final = [
    (
        f'{{"first_name":"Alex","last_name":"Sample","line1":"{n} {street}","city":"{city}",'
        f'"postal_code":"{code}","country":"{country}"}}'
    ).encode()
    for n in (1, 7, 12, 48)
    for street in _STREETS
    for city, code, country in _CITIES
]
_METADATA: Final = [
    f'{{"cart":"{n}","channel":"{channel}"}}'.encode()
    for channel in ("web", "app", "phone")
    for n in (1017, 2204, 3390, 4815)
]
_LOW62: Final = (1 << 62) - 1
_YEAR_US: Final = 365.2425 * DAY_US


def _prices() -> dict[str, list[int]]:
    """Return usual amounts in minor units, many small and few large ones."""
    rng = Random("easypay prices")  # noqa: S311 - repeatable on purpose
    prices = [max(1.0, min(rng.lognormvariate(3.6, 0.9), 5_000.0)) for _ in range(4096)]
    cents = [round(each) * 100 - rng.choice((0, 1, 5, 50, 1, 10)) for each in prices]
    return {
        currency: cents if EXPONENT[currency] == 2 else [each + 10 - each % 10 for each in cents]
        for currency in ("USD", "EUR", "GBP", "CAD", "JPY")
    }


_PRICES: Final = _prices()


class Teller:
    """Tells the stories of a day. Each day has random numbers of its own, so days can be told in
    any order and by several processes."""

    def __init__(self, seed: int, shops: Sequence[Shop], until_us: int, payments: int) -> None:
        self._seed = seed
        self._shops = shops
        self._sums = list(accumulate(shop.share for shop in shops))
        self._until_us = until_us
        self._customers = [max(3, int(shop.share * payments / 3)) for shop in shops]
        self._rng = Random()  # noqa: S311 - a seed must be repeatable

    def day(self, day: Day) -> Iterator[Told]:
        """Tell the payments of one day, the earliest first."""
        rng = self._rng
        rng.seed(f"easypay {self._seed} {day.start_us}")
        latest = self._until_us - _CALL_US
        chosen = rng.choices(self._shops, cum_weights=self._sums, k=day.payments)
        for number, (at, shop) in enumerate(zip(moments(day, rng), chosen, strict=True)):
            told = self._asked(shop, min(at, latest), day, number)
            if self._is_in_outage(at, day.payments - number):
                self._create(told, None)
            else:
                sums, stories = _STORIES[told.capture]
                stories[bisect(sums, rng.random() * sums[-1])](self, told)
            yield told

    def _is_in_outage(self, at: int, left: int) -> bool:
        return left <= _OUTAGE and left % 2 == 0 and self._until_us - at < DAY_US

    # what the merchant sent -------------------------------------------------------------------

    def _asked(self, shop: Shop, at: int, day: Day, number: int) -> Told:
        rng = self._rng
        draw = rng.random
        currencies = shop.currencies
        currency = currencies[0] if len(currencies) == 1 or draw() < 0.92 else currencies[1]
        customer = int(self._customers[shop.number] * draw() ** 2)
        method, brand, last4, month, year, fingerprint = self._method(shop, customer, currency, at)
        bank, knows = method == "bank_account", shop.knows_customers
        return Told(
            shop=shop,
            id=self._id(at),
            mode="live" if draw() < 0.9 else "test",
            created_us=at,
            amount_minor=_PRICES[currency][rng.getrandbits(12)],
            currency=currency,
            capture="manual" if not bank and draw() < shop.captures_later else "automatic",
            method=method,
            brand=brand,
            last4=last4,
            exp_month=month,
            exp_year=year,
            fingerprint=fingerprint,
            checks=answers.BANK_CHECKS if bank else answers.CHECKS[
                bisect(answers.CHECKS_SUMS, draw() * answers.CHECKS_SUMS[-1])
            ],
            network_id=None if bank else self._letters(23),
            details=PaymentDetails(
                f"{day.start_us // DAY_US}-{shop.number}-{number}",
                f"c-{customer}" if knows else None,
                _DESCRIPTIONS[customer % 6] if draw() < 0.2 else None,
                shop.descriptor,
                *_NEWER_TEXTS,
            ),
            customer=(
                b'{"reference":"c-%d","email":"customer%d@example.com"}' % (customer, customer)
                if knows
                else None
            ),
            address=_ADDRESSES[customer % len(_ADDRESSES)] if knows else None,
            metadata=_METADATA[rng.getrandbits(3)] if draw() < 0.15 else None,
            steps=[],
        )  # fmt: skip

    def _method(
        self, shop: Shop, customer: int, currency: str, at: int
    ) -> tuple[str, str | None, str | None, int | None, int | None, bytes | None]:
        """Return a customer's payment method, always the same: type, brand, last four, expiry and
        the fingerprint of the number. There is no number: only its last digits are drawn, any of
        all that there are, as with the cards of many people."""
        whose = b"%d %d %d" % (self._seed, shop.number, customer)
        digest = blake2b(whose, digest_size=32).digest()
        last4 = f"{digest[1] % 100:02}{digest[2] % 100:02}"
        if currency == "USD" and digest[0] < 8:
            return "bank_account", "echeck", last4, None, None, digest
        brand = _BRANDS[bisect(_BRANDS_SUMS, digest[0] % 100)]
        if digest[3] < 256 * shop.tokens:
            return "accept_token", brand, last4, None, None, None
        year = 1971 + int(at / _YEAR_US) + digest[4] % 4
        return "card", brand, last4, 1 + digest[5] % 12, year, digest

    # steps ------------------------------------------------------------------------------------

    def _id(self, at: int) -> bytes:
        """Return a UUIDv7 of that moment."""
        random = self._rng.getrandbits(74)
        return (
            at // 1000 << 80 | 0x7 << 76 | random >> 62 << 64 | 1 << 63 | random & _LOW62
        ).to_bytes(16, "big")

    def _letters(self, length: int) -> str:
        """Return random letters and digits."""
        return self._rng.randbytes(length + 1 >> 1).hex().upper()[:length]

    def _create(self, told: Told, outcome: Outcome | None, *, reply_lost: bool = False) -> None:
        kind = "sale" if told.capture == "automatic" else "authorize"
        self._step(told, kind, told.created_us, told.amount_minor, outcome, reply_lost=reply_lost)

    def _step(
        self,
        told: Told,
        kind: str,
        at: int,
        amount_minor: int,
        outcome: Outcome | None,
        *,
        reply_lost: bool = False,
    ) -> bool:
        """Add an operation, unless it lies in the future. Returns whether it was added."""
        rng = self._rng
        if at + _CALL_US > self._until_us + (_CALL_US if kind in _CREATES else 0):
            return False
        processor_us = 110_000 + int(rng.expovariate(1 / 80_000)) % 9_000_000
        begun = at + 400 + rng.getrandbits(11)
        ended = begun + processor_us + 800 + rng.getrandbits(12)
        if reply_lost or outcome is None:
            processor_us = _DEADLINE_US + rng.getrandbits(14)
            ended = begun + processor_us + 900
        if reply_lost:
            ended += int((40 + 200 * rng.random()) * _SECOND_US)
        transaction_id, auth_code = self._named(told, kind, outcome)
        told.steps.append(
            Step(
                kind, self._id(at), self._id(ended), amount_minor, begun, processor_us, ended,
                outcome, transaction_id, auth_code, reply_lost,
            )
        )  # fmt: skip
        return True

    def _named(
        self, told: Told, kind: str, outcome: Outcome | None
    ) -> tuple[str | None, str | None]:
        """Return the processor's transaction id and authorization code of an operation."""
        if outcome is None or isinstance(outcome, Absent | Rejected):
            return None, None
        if kind not in _CREATES and (kind != "refund" or outcome is answers.VOIDED):
            first = told.steps[0]
            code = None if kind == "decline" else first.auth_code
            return first.transaction_id, code
        number = 60_000_000_000 + self._rng.getrandbits(33)
        if kind == "refund" or told.method == "bank_account" or isinstance(outcome, Declined):
            return str(number), None
        return str(number), self._letters(6)

    # stories ----------------------------------------------------------------------------------

    def taken(self, told: Told) -> None:
        """A sale, or an authorization and its capture some days later."""
        self._taken(told)

    def _taken(self, told: Told) -> tuple[int, int]:
        """Return when the money was taken and how much; never and nothing if that is to come."""
        self._create(told, answers.APPROVED)
        if told.capture == "automatic":
            return told.steps[-1].ended_us, told.amount_minor
        rng, amount = self._rng, told.amount_minor
        if rng.random() < 0.06 and amount > 100:
            amount = max(1, int(amount * rng.uniform(0.4, 0.95)))
        at = told.steps[-1].ended_us + int((2 + 70 * rng.random()) * _HOUR_US)
        return (at, amount) if self._step(told, "capture", at, amount, answers.APPROVED) else (0, 0)

    def declined(self, told: Told) -> None:
        at = bisect(answers.DECLINES_SUMS, self._rng.random() * answers.DECLINES_SUMS[-1])
        outcome = answers.DECLINES[at]
        told.checks = answers.FAILED_CHECKS.get(outcome.code, told.checks)
        told.network_id = None
        self._create(told, outcome)

    def rejected(self, told: Told) -> None:
        self._create(told, self._rng.choice(answers.REJECTIONS))

    def absent(self, told: Told) -> None:
        """The call was lost on its way: the resolver proved that it never arrived."""
        if self._until_us - told.created_us < 4 * DAY_US:
            return self._create(told, answers.APPROVED)  # it would still be watched
        return self._create(told, answers.ABSENT, reply_lost=True)

    def found(self, told: Told) -> None:
        """The answer was lost on its way: the resolver found the charge."""
        lost = self._until_us - told.created_us > _HOUR_US
        self._create(told, answers.APPROVED, reply_lost=lost)

    def refunded(self, told: Told) -> None:
        """All of it came back, after it had settled."""
        at, amount = self._taken(told)
        if amount:
            self._step(told, "refund", self._after_settlement(at), amount, answers.APPROVED)

    def refunded_in_part(self, told: Told) -> None:
        at, left = self._taken(told)
        for _ in range(1 + (self._rng.random() < 0.2)):
            amount = int(left * self._rng.uniform(0.1, 0.7))
            at = self._after_settlement(at)
            if amount == 0 or not self._step(told, "refund", at, amount, answers.APPROVED):
                return
            left -= amount

    def refund_refused(self, told: Told) -> None:
        at, amount = self._taken(told)
        if amount:
            self._step(told, "refund", self._after_settlement(at), amount, answers.REFUND_REJECTED)

    def undone(self, told: Told) -> None:
        """A full refund before settlement, which the processor did by a void."""
        at, amount = self._taken(told)
        if amount:
            self._step(told, "refund", self._soon(at), amount, answers.VOIDED)

    def voided(self, told: Told) -> None:
        """Cancelled before settlement: a sale, or an authorization that nobody captured."""
        self._create(told, answers.APPROVED)
        at = self._soon(told.steps[-1].ended_us)
        self._step(told, "void", at, told.amount_minor, answers.APPROVED)

    def reviewed(self, told: Told) -> None:
        """Held by a fraud filter until the merchant decided."""
        self._create(told, answers.HELD)
        rng = self._rng
        at = told.steps[-1].ended_us + int((1 + 110 * rng.random()) * _HOUR_US)
        if rng.random() < 0.3:
            self._step(told, "decline", at, told.amount_minor, answers.REVIEW_ENDED)
        elif (
            self._step(told, "approve", at, told.amount_minor, answers.APPROVED)
            and told.capture == "manual"
        ):
            self._step(told, "capture", self._soon(at), told.amount_minor, answers.APPROVED)

    def expired(self, told: Told) -> None:
        """Authorized and never captured: the processor let it go after thirty days."""
        self._create(told, answers.APPROVED)
        first = told.steps[0]
        at = told.created_us + 30 * DAY_US + int(self._rng.random() * 6 * _HOUR_US)
        if at + _CALL_US < self._until_us:
            event_id = self._id(at)
            told.steps.append(
                Step("expiry", first.id, event_id, told.amount_minor, at, 0, at, None)
            )

    def _soon(self, at: int) -> int:
        return at + int((0.1 + 10 * self._rng.random()) * _HOUR_US)

    def _after_settlement(self, at: int) -> int:
        return at + int((1.5 + min(self._rng.expovariate(1 / 9), 60)) * DAY_US)


_CREATES: Final = ("sale", "authorize")
_Story = Callable[[Teller, Told], None]
_BOTH: Final[tuple[tuple[int, _Story], ...]] = (
    (900, Teller.declined),
    (80, Teller.rejected),
    (25, Teller.absent),
    (15, Teller.found),
    (220, Teller.refunded),
    (140, Teller.refunded_in_part),
    (15, Teller.refund_refused),
    (40, Teller.undone),
    (80, Teller.reviewed),
)
_BY_CAPTURE: Final[dict[str, tuple[tuple[int, _Story], ...]]] = {
    "automatic": (*_BOTH, (40, Teller.voided), (8445, Teller.taken)),
    "manual": (*_BOTH, (450, Teller.voided), (250, Teller.expired), (7785, Teller.taken)),
}
"""How many of ten thousand payments have each story."""
_STORIES: Final = {
    capture: (list(accumulate(n for n, _ in told)), [story for _, story in told])
    for capture, told in _BY_CAPTURE.items()
}
