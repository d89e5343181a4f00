"""`easypay events tail`: what happens to payments and customers of all merchants, as it happens."""

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from easypay.command_line.console import DATA_DIR, DataDir, Json, new_group, to_json, with_access

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from easypay.events.pages import FeedEvent

events = new_group("Look at what happens to payments, as it happens.")
_EVERY_S: Final = 0.25


@events.command("tail")
def tail(
    merchant: Annotated[str | None, typer.Option(help="Only of this merchant: `mer_…`.")] = None,
    types: Annotated[
        str | None, typer.Option(help="Only these, with commas between: payment.captured.")
    ] = None,
    after: Annotated[
        int | None, typer.Option(min=0, help="All after this number, the first of each line.")
    ] = None,
    lines: Annotated[int, typer.Option(min=0, max=10_000, help="The last so many events.")] = 20,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C with what happens next.")
    ] = False,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Show the newest events, one a line. With --json each has the payment as it was after it.

    Example: `easypay events tail --follow --types payment.declined,refund.failed`
    """
    merchant_id = _merchant(merchant)
    wanted = frozenset(types.split(",")) if types else frozenset()

    async def work(connection: Any, _: Any) -> None:
        await _tail(connection, merchant_id, wanted, after, lines, follow=follow, as_json=as_json)

    try:
        with_access(data_dir, work)
    except KeyboardInterrupt:
        sys.exit(130)


async def _tail(
    connection: Any,
    merchant_id: "UUID | None",
    types: frozenset[str],
    after: int | None,
    lines: int,
    *,
    follow: bool,
    as_json: bool,
) -> None:
    from easypay.events import tail as feed
    from easypay.events.readers import head

    seen = newest = await head(connection)
    if after is None:
        found = await feed.latest(connection, newest, lines, merchant_id=merchant_id, types=types)
        await _show(connection, found, as_json=as_json)
    else:
        seen = after
    while True:
        while seen < newest:
            found, seen = await feed.newer(
                connection, seen, newest, merchant_id=merchant_id, types=types
            )
            await _show(connection, found, as_json=as_json)
        if not follow:
            return
        await asyncio.sleep(_EVERY_S)
        newest = await head(connection)


async def _show(connection: Any, found: "Sequence[FeedEvent]", *, as_json: bool) -> None:
    from easypay import ids
    from easypay.clock import rfc3339
    from easypay.payments.event_objects import objects_of, subject_of

    if as_json:
        for event, seen in zip(found, await objects_of(connection, found), strict=True):
            merchant = ids.typed(ids.MERCHANT, event.merchant_id)
            line = to_json({"number": event.position, "merchant_id": merchant, "event": seen})
            print(line, flush=True)  # noqa: T201
        return
    for event in found:
        print(  # noqa: T201
            event.position,
            rfc3339(event.created_at),
            f"{event.type:<20}",
            f"{event.amount_minor:>10} {event.currency}" if event.currency else "",
            ids.typed(subject_of(event), event.payment_id),
            event.mode,
            ids.typed(ids.MERCHANT, event.merchant_id),
            flush=True,
        )


def _merchant(text: str | None) -> "UUID | None":
    from easypay import ids

    if text is None:
        return None
    found = ids.parse(ids.MERCHANT, text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is no merchant's id: use mer_…", param_hint="merchant")
    return found
