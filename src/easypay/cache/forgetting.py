"""Forgets everything of one merchant, from outside of the gateways: `easypay cache forget`."""

import asyncio
from typing import Final
from uuid import UUID

from easypay.cache.connection import CacheUnavailable
from easypay.cache.merchant_numbers import done, merchant_key
from easypay.cache.servers import servers_of
from easypay.cache.url import CacheUrl

_ANSWER_WITHIN_S: Final = 1.0
_LOOKS_EVERY_S: Final = 0.01


async def forget_merchant(url: CacheUrl, merchant_id: UUID, within_s: float) -> bool:
    """Delete the merchant's number in the shared cache: nothing that is cached of the merchant is
    found any more, and every gateway drops what it has. Return whether there was a number.

    Waits `within_s` at most for a server. Raises CacheUnavailable.
    """
    servers = servers_of(url, lambda _: None, lambda: None)
    connecting = asyncio.create_task(servers.run())
    name = f"merchant:{merchant_id.hex}"
    try:
        async with asyncio.timeout(within_s):
            # A cluster is known some time after it is connected to.
            while not servers.hears() or (link := servers.link_of(name.encode())) is None:
                if servers.why_away and not servers.is_cluster:  # of a cluster others may answer
                    raise CacheUnavailable(servers.why_away)
                await asyncio.sleep(_LOOKS_EVERY_S)
        key = merchant_key(link, merchant_id.hex)
        (deleted,) = await done(link, [("UNLINK", key)], _ANSWER_WITHIN_S)
    except TimeoutError:
        why = servers.why_away or "no answer"
        raise CacheUnavailable(why) from None
    finally:
        connecting.cancel()
        await asyncio.wait([connecting])
    return bool(deleted)
