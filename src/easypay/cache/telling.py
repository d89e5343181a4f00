"""Tells the shared cache what has changed, off the path of every reply.

Changes gather for some milliseconds and are deleted together. Those of merchants of whom nothing is
cached are dropped here: that is one look into a set for each payment. While the shared cache is
away they are kept, and told when it is back.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final
from uuid import UUID

from easypay.cache.caches import PaymentRef
from easypay.cache.connection import CacheUnavailable
from easypay.cache.link import Link
from easypay.cache.merchant_numbers import MerchantNumbers, done, merchant_key
from easypay.cache.names import payment_name
from easypay.cache.servers import Servers

log = logging.getLogger(__name__)

GATHERS_S: Final = 0.01
"""How long changes gather, in seconds: a fifth of the time within which all are to know. Each time
costs as much as some payments do."""
_TOLD_WITHIN_S: Final = 1.0
_AGAIN_S: Final = 0.1
_AT_ONCE: Final = 500
_MOST_KEPT: Final = 20_000
"""Changes that are remembered while the shared cache is away."""
_MOST_MERCHANTS: Final = 10_000
_MOST_COMPARED: Final = 500


class Telling:
    """What this process has changed and the shared cache does not know yet.

    `drop` forgets a name in this process: the server does not tell us of our own changes.
    """

    def __init__(
        self, servers: Servers, numbers: MerchantNumbers, drop: Callable[[str], None]
    ) -> None:
        self._servers = servers
        self._numbers = numbers
        self._drop = drop
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._due = asyncio.Event()
        self._changed: deque[PaymentRef] = deque()
        self._names: set[str] = set()
        self._merchants: set[str] = set()
        self._now: tuple[set[str], Sequence[PaymentRef]] = set(), ()
        """What is being deleted now."""
        self._is_telling = False
        self._round = asyncio.Event()
        """Set whenever something was told, or could not be."""

    @property
    def is_done(self) -> bool:
        """Whether everything has been told."""
        return not (self._is_telling or self._changed or self._names or self._merchants)

    async def all_told(self, within_s: float) -> bool:
        """Tell what is left, without gathering, and return whether that is done. Waits so many
        seconds at most, and only while the shared cache answers."""
        if self._timer is not None:
            self._timer.cancel()
            self._gathered()
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not self.is_done and self._servers.hears():
                    self._round.clear()
                    await self._round.wait()
        return self.is_done

    def payments(self, changed: Sequence[PaymentRef]) -> None:
        """Delete payments, soon."""
        self._changed.extend(changed)
        if self._timer is None:
            self._timer = self._loop.call_later(GATHERS_S, self._gathered)

    def name(self, name: str) -> None:
        """Delete one value, soon."""
        self._names.add(name)
        self._due.set()

    def merchant(self, merchant_id: UUID) -> None:
        """Delete everything of a merchant, soon."""
        self._merchants.add(merchant_id.hex)
        self._due.set()

    def has_changed(self, name: str) -> bool:
        """Whether this process has a change of this value that the shared cache does not know
        yet. Then what is there is older than what this process has answered."""
        names, changed = self._now
        if name in names or name in self._names:
            return True
        if not changed and not self._changed:
            return False
        if len(changed) + len(self._changed) > _MOST_COMPARED:
            return True
        kind, _, _, item = name.split(":", 3)
        if kind != "payment":
            return False
        payment_id = UUID(item)
        return any(each.payment_id == payment_id for each in (*changed, *self._changed))

    async def run(self) -> None:
        """Tell, until cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            merchants, names = self._merchants, self._names
            changed, self._changed = self._changed, deque()
            self._merchants, self._names = set(), set()
            self._now = names, changed
            self._is_telling = True
            try:
                await self._forget_merchants(merchants)
                await self._forget_names(names, changed)
            except CacheUnavailable:
                self._merchants |= merchants
                self._names |= names
                self._changed.extendleft(reversed(changed))
                self._bound()
                self._ended()
                await asyncio.sleep(_AGAIN_S)
                self._due.set()
            else:
                self._ended()

    def _ended(self) -> None:
        self._now, self._is_telling = (set(), ()), False
        self._round.set()

    def _gathered(self) -> None:
        self._timer = None
        without = self._numbers.without
        if without and self._servers.hears():
            left = [each for each in self._changed if each.merchant_id not in without]
            self._changed = deque(left)
        if self._changed:
            self._due.set()

    def _bound(self) -> None:
        """Remember merchants instead of very many payments; and not very many merchants."""
        if len(self._changed) + len(self._names) > _MOST_KEPT:
            self._merchants |= {each.merchant_id.hex for each in self._changed}
            self._merchants |= {name.split(":", 2)[1] for name in self._names}
            self._changed.clear()
            self._names.clear()
        if len(self._merchants) > _MOST_MERCHANTS:
            # Their values live on for at most a minute, and nobody gets one older than allowed.
            log.warning("the shared cache is not told of all that changed while it was away")
            self._merchants.clear()

    async def _forget_merchants(self, merchants: set[str]) -> None:
        for merchant in merchants:
            link = self._numbers.link_of(f"merchant:{merchant}")
            await done(link, [("UNLINK", merchant_key(link, merchant))], _TOLD_WITHIN_S)
            self._numbers.changed(merchant)

    async def _forget_names(self, names: set[str], changed: Sequence[PaymentRef]) -> None:
        of: dict[str, list[str]] = {}
        for name in names:
            of.setdefault(name.split(":", 2)[1], []).append(name)
        for each in changed:
            name = payment_name(each.merchant_id, each.mode, each.payment_id)
            of.setdefault(each.merchant_id.hex, []).append(name)
        numbers = await self._numbers.now([*of])
        for merchant, number in numbers.items():
            for link, here in self._by_link(of[merchant]).items():
                before = b"%b%b:{" % (link.prefix, number)
                keys = [b"%b%b}" % (before, name.encode()) for name in here]
                for start in range(0, len(keys), _AT_ONCE):
                    await self._delete(link, keys[start : start + _AT_ONCE])
            # Somebody may have read a value here just before it was deleted there.
            for name in of[merchant]:
                self._drop(name)

    def _by_link(self, names: list[str]) -> dict[Link, list[str]]:
        """Return the names that each server has."""
        if not self._servers.is_cluster:
            return {self._numbers.link_of(names[0]): names}
        found: dict[Link, list[str]] = {}
        for name in names:
            found.setdefault(self._numbers.link_of(name), []).append(name)
        return found

    async def _delete(self, link: Link, keys: list[bytes]) -> None:
        """Delete keys of one server. One of a cluster takes only keys that belong together."""
        if self._servers.is_cluster:
            await done(link, [("UNLINK", key) for key in keys], _TOLD_WITHIN_S)
        else:
            await done(link, [("UNLINK", *keys)], _TOLD_WITHIN_S)
