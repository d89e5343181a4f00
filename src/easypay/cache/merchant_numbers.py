"""Each merchant's number, which is a part of the keys of all its values.

Who deletes the number makes all these values unreachable; the next reader makes a new one. A
merchant of whom nothing was read with leave lately has no number, so a change of its payments need
not be told to anybody. That, and the numbers, are remembered here while changes are heard of.

What is remembered may be a second old. So a number begins to be used only some time after it was
made, when every process knows of it: it says when, by the database's clock.
"""

import secrets
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import hiredis

from easypay.cache.connection import CacheUnavailable, Word
from easypay.cache.database_clock import DatabaseClock
from easypay.cache.link import SILENT_S, Link
from easypay.cache.servers import Servers

SETTLES_S: Final = SILENT_S + 0.2
"""How old a number must be before it is used, in seconds."""
_LIFE_S: Final = 86_400
_MOST: Final = 10_000
_ASK_WITHIN_S: Final = 1.0
Command = tuple[Word, ...]


class MerchantNumbers:
    """The numbers as this process knows them. `settles_s`: how old one must be to be used."""

    def __init__(self, servers: Servers, clock: DatabaseClock, settles_s: float) -> None:
        self._servers = servers
        self._clock = clock
        self._settles_us = int(settles_s * 1_000_000)
        self._numbers: OrderedDict[str, bytes] = OrderedDict()
        self.without: set[UUID] = set()
        """Merchants of whom nothing is cached. Only to be believed while changes are heard of."""
        self._changes = 0

    async def of(self, merchant: str) -> bytes | None:
        """Return the number of a merchant, after making one if there is none. None if it may not be
        used yet. Raises CacheUnavailable."""
        number = self._numbers.get(merchant) if self._servers.hears() else None
        if number is None:
            number = await self._ask(merchant)
        if number is None:
            return None
        made_us = int(number[:16], 16)
        age_us = self._clock.earliest_now() - made_us
        return number if age_us >= self._settles_us else None

    async def now(self, merchants: Sequence[str]) -> dict[str, bytes]:
        """Return the numbers of those merchants who have one. Raises CacheUnavailable."""
        numbers: dict[str, bytes] = {}
        asked: dict[Link, list[str]] = {}
        for merchant in dict.fromkeys(merchants):
            known = self._numbers.get(merchant) if self._servers.hears() else None
            if known is None:
                asked.setdefault(self.link_of(f"merchant:{merchant}"), []).append(merchant)
            else:
                numbers[merchant] = known
        for link, those in asked.items():
            before = self._changes
            found = await done(
                link, [("GET", merchant_key(link, each)) for each in those], _ASK_WITHIN_S
            )
            for merchant, number in zip(those, found, strict=True):
                if _is_number(number):
                    numbers[merchant] = number
                if before == self._changes:  # nothing was heard meanwhile
                    self._remember(merchant, number)
        return numbers

    def link_of(self, name: str) -> Link:
        """Return the server that has a name. Raises CacheUnavailable."""
        link = self._servers.link_of(name.encode())
        if link is None:
            raise CacheUnavailable("no server has this name")
        return link

    def changed(self, merchant: str) -> bool:
        """Forget a number that was made or deleted. Whether values of the merchant may be here."""
        self._changes += 1
        try:
            self.without.discard(UUID(merchant))
        except ValueError:
            return False
        full = len(self._numbers) >= _MOST
        return self._numbers.pop(merchant, None) is not None or full

    def clear(self) -> None:
        """Forget all numbers."""
        self._changes += 1
        self._numbers.clear()
        self.without.clear()

    async def _ask(self, merchant: str) -> bytes | None:
        link = self.link_of(f"merchant:{merchant}")
        key = merchant_key(link, merchant)
        made = f"{self._clock.latest_now():016x}{secrets.token_hex(8)}"
        before = self._changes
        _, number = await link.ask(("SET", key, made, "NX", "EX", _LIFE_S), ("GET", key))
        if not _is_number(number):
            raise CacheUnavailable("the merchant has no number")
        if before != self._changes:
            # Maybe this number was deleted, and then nobody would be told of a change under it.
            self.without.discard(UUID(merchant))
            return None
        self._remember(merchant, number)
        return bytes(number)

    def _remember(self, merchant: str, number: Any) -> None:
        if _is_number(number):
            self._numbers[merchant] = number
            self.without.discard(UUID(merchant))
            if len(self._numbers) > _MOST:
                self._numbers.popitem(last=False)
        elif number is None and len(self.without) < _MOST:
            self.without.add(UUID(merchant))


def merchant_key(link: Link, merchant: str) -> bytes:
    """Return where a merchant's number is."""
    return b"%b{merchant:%b}" % (link.prefix, merchant.encode())


async def done(link: Link, commands: list[Command], within_s: float) -> list[Any]:
    """Return the answers to some commands. Raises CacheUnavailable if one is a refusal."""
    answers = await link.ask(*commands, within_s=within_s)
    if any(isinstance(each, hiredis.ReplyError) for each in answers):
        raise CacheUnavailable("a command was refused")
    return answers


def _is_number(answer: Any) -> bool:
    if not isinstance(answer, bytes) or len(answer) != 32:
        return False
    try:
        int(answer, 16)
    except ValueError:
        return False
    return True
