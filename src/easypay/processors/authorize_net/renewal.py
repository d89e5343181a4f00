"""Replaces connections that are old, or lead to an address that their host no longer has.

One after another, so that a changed address causes no rush of handshakes, and no request waits
for one: the old connection is used until the new one is there. If none can be opened, the old
ones stay in use.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from easypay.clock import monotonic
from easypay.processors.authorize_net.connection import Connection
from easypay.processors.host_names import Addresses, NoAddress

AGE_S: Final = 600.0
CHECK_EVERY_S: Final = 5.0
_NOTHING_KNOWN: Final = Addresses((), frozenset())


async def renew(
    look_up: Callable[[], Awaitable[Addresses]],
    connections: Callable[[], Sequence[Connection]],
    replace: Callable[[Connection], Awaitable[bool]],
    *,
    age_s: float,
    check_every_s: float,
) -> None:
    """Look after the connections to one host until none is left.

    The name is looked up again when its time to live is over, but not more often than every
    `check_every_s`.
    """
    while connections():
        await asyncio.sleep(check_every_s)
        try:
            addresses = await look_up()
        except NoAddress:
            addresses = _NOTHING_KNOWN
        oldest = monotonic() - age_s
        for each in connections():
            outdated = each.opened_at < oldest or addresses.lack(each.address)
            usable = each.opened_at and not (each.closed or each.retired)
            if usable and outdated and not await replace(each):
                break
