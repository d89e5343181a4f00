"""The merchants that a seed makes, and their habits. Pure.

Their ids lie side by side, in the first millisecond of 2020: no merchant of a real gateway can have
such an id, and all rows of a seed are found by a range of merchant ids.
"""

from itertools import accumulate
from random import Random
from typing import Final
from uuid import UUID

import msgspec

LOWEST: Final = UUID("016f5e66-e800-7000-a5ee-d00000000000")
HIGHEST: Final = UUID("016f5e66-e800-7000-a5ee-d0ffffffffff")
"""The bounds of the merchants' ids."""

_BIGGEST_SHARE: Final = 1 / 3
_TAIL: Final = 1.05
"""How fast the shares of the others fall: the n-th has 1 / n to this power."""
_COLOURS: Final = (
    *("Amber", "Blue", "Copper", "Crimson", "Golden", "Green", "Indigo", "Ivory", "Silver"),
    "Scarlet",
)
_PLACES: Final = (
    *("Harbor", "Hill", "Lake", "Market", "Meadow", "Mill", "Oak", "Orchard", "Park", "River"),
    *("Station", "Summit", "Valley", "Village"),
)
_TRADES: Final = (
    *("Bakery", "Bikes", "Books", "Cafe", "Cinema", "Clothing", "Coffee", "Flowers", "Furniture"),
    *("Games", "Garden", "Music", "Outdoor", "Pharmacy", "Photo", "Shoes", "Software", "Tea"),
    *("Tickets", "Toys"),
)
_CURRENCIES: Final = (("USD", 70), ("EUR", 10), ("GBP", 8), ("CAD", 8), ("JPY", 4))


class Shop(msgspec.Struct, frozen=True, gc=False):
    """One merchant and how it uses the gateway."""

    number: int
    id: bytes
    name: str
    share: float
    """Of all payments."""
    currencies: tuple[str, ...]
    """The first is that of nearly all payments."""
    captures_later: float
    """The share of payments that are authorized first and captured later."""
    knows_customers: bool
    """It sends customers with their references, mail and billing addresses."""
    tokens: float
    """The share of payments by a token of Accept.js."""
    descriptor: str | None
    login_id: bytes
    """The processor account that took its payments. It is not kept: nothing of a seed can ever be
    sent anywhere."""


def shops(merchants: int, seed: int) -> list[Shop]:
    """Return the merchants, the biggest first. The same for the same numbers."""
    rng = Random(f"easypay shops {seed}")  # noqa: S311 - repeatable on purpose
    shares = _shares(merchants)
    names = _names(rng, merchants)
    made = []
    for number in range(merchants):
        currency = "USD" if number == 0 else _drawn(rng, _CURRENCIES)
        other = rng.choice([code for code, _ in _CURRENCIES if code != currency])
        two = number == 0 or rng.random() < 0.2
        trade = names[number].split()[-1]
        made.append(
            Shop(
                number=number,
                id=(LOWEST.int + number).to_bytes(16, "big"),
                name=f"{names[number]} (seeded)",
                share=shares[number],
                currencies=(currency, "CAD" if number == 0 else other) if two else (currency,),
                captures_later=0.15 if number == 0 else rng.choice((0.0, 0.0, 0.0, 0.05, 0.3, 0.9)),
                knows_customers=number == 0 or rng.random() < 0.6,
                tokens=0.25 if number == 0 else rng.choice((0.0, 0.0, 0.5, 1.0)),
                descriptor=f"EP*{trade.upper()}" if rng.random() < 0.3 else None,
                login_id=(LOWEST.int + (1 << 40) + number).to_bytes(16, "big"),
            )
        )
    return made


def _shares(merchants: int) -> list[float]:
    if merchants == 1:
        return [1.0]
    tail = [1 / rank**_TAIL for rank in range(1, merchants)]
    return [_BIGGEST_SHARE, *((1 - _BIGGEST_SHARE) * each / sum(tail) for each in tail)]


def _names(rng: Random, merchants: int) -> list[str]:
    """Return names that all differ, with a number where the words are used up."""
    words = [f"{a} {b} {c}" for a in _COLOURS for b in _PLACES for c in _TRADES]
    rng.shuffle(words)
    return [
        words[n] if n < len(words) else f"No. {n // len(words) + 1} {words[n % len(words)]}"
        for n in range(merchants)
    ]


def _drawn(rng: Random, weighted: tuple[tuple[str, int], ...]) -> str:
    names, weights = zip(*weighted, strict=True)
    return str(rng.choices(names, cum_weights=list(accumulate(weights)))[0])
