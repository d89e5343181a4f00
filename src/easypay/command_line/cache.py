"""`easypay cache …`: what the caches of the running gateways do, and how to empty them."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from easypay.command_line.console import (
    DATA_DIR,
    Columns,
    DataDir,
    Json,
    Wide,
    fail,
    in_database,
    new_group,
    show,
    show_rows,
)
from easypay.command_line.merchants import MerchantId, merchant_of
from easypay.command_line.operations import Actor, actor_of

caches = new_group("Show what the caches of running gateways do, and empty them of a merchant.")
COUNTS: Final = Columns(("cache", "hit", "shared", "miss", "stale", "error", "share"))
_FORGET_WITHIN_S: Final = 5.0
_REQUESTS: Final = "easypay_cache_requests_total"


@caches.command("stats")
def cache_stats(
    url: Annotated[
        str | None, typer.Option(help="A gateway's address. Default: the one of `easypay up`.")
    ] = None,
    wide: Wide = False,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Show how often each cache had the answer. Needs EASYPAY_ADMIN_KEY, or a running `easypay up`.

    `hit`: in the gateway's memory. `shared`: in the shared cache. `miss`: read from the database.
    `stale`: it was there, and too old for that request. `error`: the shared cache did not answer.
    `share`: how many of a hundred requests needed no database.

    Example: `easypay cache stats --url http://127.0.0.1:8000 --json`
    """
    show_rows(as_json, _read(url, data_dir), COUNTS, "Nothing was looked up yet.", wide=wide)


@caches.command("forget")
def forget(
    merchant: MerchantId,
    actor: Actor = None,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Forget everything that is cached of a merchant: in the shared cache, and in every gateway
    that uses it, at once. The next readers ask the database. Nothing else is lost.

    It is for a merchant whose rows somebody has changed by hand. Needs EASYPAY_CACHE_URL, or a
    running `easypay up`. It is written into the audit entries.

    Example: `easypay cache forget mer_…`
    """
    from easypay.cache.connection import CacheUnavailable
    from easypay.cache.forgetting import forget_merchant
    from easypay.cache.url import parse
    from easypay.command_line.data_dir import DataDirectory
    from easypay.merchants import admin
    from easypay.payments.audit_log import write_down

    who, merchant_id = actor_of(actor), merchant_of(merchant)
    try:
        url = parse(DataDirectory(data_dir).cache_url())
    except LookupError as error:
        fail(str(error))
    except ValueError as error:
        fail(f"EASYPAY_CACHE_URL: {error}")

    async def work(connection: Any, _: Any) -> Any:
        await admin.get_merchant(connection, merchant_id)
        try:
            was_cached = await forget_merchant(url, merchant_id, _FORGET_WITHIN_S)
        except CacheUnavailable as error:
            fail(f"nothing is forgotten, the shared cache does not answer: {error}")
        await write_down(connection, who, "cache_forgotten", merchant, {"was_cached": was_cached})
        return {"merchant_id": merchant, "was_cached": was_cached}

    done = in_database(data_dir, work)
    said = f"Forgot what was cached of {merchant}."
    show(as_json, done, said if done["was_cached"] else f"Nothing was cached of {merchant}.")


def _read(url: str | None, data_dir: Path) -> list[Any]:
    from urllib.error import URLError
    from urllib.request import Request, urlopen

    from easypay.command_line.data_dir import DataDirectory

    try:
        address, key = DataDirectory(data_dir).gateway(url)
    except LookupError as error:
        fail(str(error))
    if not address.startswith(("http://", "https://")):
        fail(f"{address!r} is no address of a gateway: use http://host:port")
    request = Request(  # noqa: S310 - the scheme is checked
        f"{address.rstrip('/')}/metrics", headers={"Authorization": f"Bearer {key}"}
    )
    try:
        with urlopen(request, timeout=10) as answer:  # noqa: S310
            text = answer.read().decode()
    except (OSError, URLError) as error:
        fail(f"{address} does not tell its metrics: {error}")
    return rows_of(text)


def rows_of(metrics: str) -> list[Any]:
    """Return a row for each cache from the text of /metrics."""
    import msgspec
    from prometheus_client.parser import text_string_to_metric_families

    row = msgspec.defstruct("CacheCounts", [(name, int) for name in COUNTS.names])
    found: dict[str, dict[str, int]] = {}
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.name == _REQUESTS:
                counts = found.setdefault(sample.labels["cache"], {})
                counts[sample.labels["result"]] = int(sample.value)
    rows = []
    for cache, counts in sorted(found.items()):
        results = [counts.get(name, 0) for name in COUNTS.names[1:-1]]
        hits, looked_up = sum(results[:2]), sum(results[:3])
        rows.append(row(cache, *results, 100 * hits // looked_up if looked_up else 0))
    return rows
