"""What the shared cache says of itself: the lines of INFO, with its keys and its replicas' lag."""

import asyncio
from collections.abc import Mapping
from typing import Final

from easypay.cache.connection import CacheUnavailable
from easypay.cache.servers import servers_of
from easypay.cache.url import CacheUrl

_WITHIN_S: Final = 3.0
_LOOKS_EVERY_S: Final = 0.05
_SECTIONS: Final = ("memory", "clients", "stats", "keyspace", "replication")


async def info_of(url: CacheUrl) -> dict[str, float]:
    """Return the numbers of INFO by their names. Of a cluster nothing is read: each of its servers
    has its own. Raises CacheUnavailable."""
    servers = servers_of(url, lambda _: None, lambda: None)
    if servers.is_cluster:
        return {}
    connecting = asyncio.create_task(servers.run())
    try:
        async with asyncio.timeout(_WITHIN_S):
            while not servers.hears() or (link := servers.link_of(b"")) is None:
                if servers.why_away:
                    raise CacheUnavailable(servers.why_away)
                await asyncio.sleep(_LOOKS_EVERY_S)
        answers = await link.ask(*(("INFO", section) for section in _SECTIONS))
    except TimeoutError:
        raise CacheUnavailable(servers.why_away or "no answer") from None
    finally:
        connecting.cancel()
        await asyncio.wait([connecting])
    text = "\n".join(str(_text(each)) for each in answers)
    return numbers(dict(line.split(":", 1) for line in text.splitlines() if ":" in line))


def _text(answer: object) -> str:
    return answer.decode(errors="replace") if isinstance(answer, bytes) else str(answer)


def numbers(lines: Mapping[str, str]) -> dict[str, float]:
    """Return the numbers among the lines of INFO, with `keys` of all databases, and with
    `replication_lag`: the bytes that the last replica has yet to read."""
    found: dict[str, float] = {"keys": 0.0, "replication_lag": 0.0}
    for name, value in lines.items():
        parts = dict(part.split("=", 1) for part in value.split(",") if "=" in part)
        if name.startswith("db") and "keys" in parts:
            found["keys"] += float(parts["keys"])
        elif name.startswith("slave") and "offset" in parts:
            behind = float(lines.get("master_repl_offset", "0")) - float(parts["offset"])
            found["replication_lag"] = max(found["replication_lag"], behind)
        elif value.strip().isdigit():
            found[name] = float(value)
    return found
