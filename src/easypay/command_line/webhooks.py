"""`easypay webhook …`: the API's work on webhook endpoints, from the command line.

What they print as JSON is what the API answers.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

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

if TYPE_CHECKING:
    from easypay.webhooks.addresses import Network
    from easypay.webhooks.model import Endpoint

webhooks = new_group("Create and look after webhook endpoints, and send events again.")

EndpointId = Annotated[str, typer.Argument(metavar="ENDPOINT", help="`whe_…`")]
Types = Annotated[
    list[str] | None, typer.Option("--type", help="A type of events it wants; may repeat.")
]
Description = Annotated[str | None, typer.Option(help="One line for people.")]
ENDPOINTS: Final = Columns(
    ("id", "mode", "url", "types", "state", "failing_since", "description"),
    left_out_first=("description", "types", "failing_since", "mode"),
)
ATTEMPTS: Final = Columns(
    ("id", "sent_at", "event_id", "type", "attempt", "outcome", "status", "took_ms", "reason"),
    left_out_first=("took_ms", "attempt", "id", "reason", "type"),
)


@webhooks.command("create")
def create_endpoint(
    merchant: MerchantId,
    url: Annotated[str, typer.Argument(metavar="URL", help="Where messages are sent.")],
    mode: Annotated[str, typer.Option(help="test or live; the two never mix.")] = "test",
    types: Types = None,
    description: Description = None,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Create an endpoint and print its secret, which cannot be shown again.

    Example: `easypay webhook create mer_… https://shop.example/easypay --type payment.captured`
    """
    from easypay.api.webhooks import NewEndpointView, endpoint_view
    from easypay.merchants.admin import mode_of
    from easypay.webhooks import endpoints

    async def work(connection: Any, vault: Any) -> Any:
        endpoint, secret = await endpoints.create(
            connection,
            vault,
            merchant_of(merchant),
            mode_of(mode),
            url=url,
            types=types or (),
            description=description or "",
            private=_private(),
        )
        return NewEndpointView(endpoint_view(endpoint), secret)

    made = in_database(data_dir, work)
    show(as_json, made, f"Made {made.endpoint.id}. Its secret, shown only now:\n{made.secret}")


@webhooks.command("list")
def list_endpoints(
    merchant: Annotated[
        str | None, typer.Argument(metavar="MERCHANT", help="`mer_…`; all if omitted.")
    ] = None,
    wide: Wide = False,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """List endpoints, those of a merchant or all, oldest first.

    Example: `easypay webhook list mer_…`
    """
    from easypay.api.webhooks import endpoint_view
    from easypay.webhooks import endpoints

    async def work(connection: Any, _: Any) -> Any:
        of = None if merchant is None else merchant_of(merchant)
        return [endpoint_view(each) for each in await endpoints.list_all(connection, of)]

    show_rows(as_json, in_database(data_dir, work), ENDPOINTS, "No endpoints.", wide=wide)


@webhooks.command("update")
def update_endpoint(
    endpoint: EndpointId,
    url: Annotated[str | None, typer.Option(help="Another address.")] = None,
    types: Types = None,
    description: Description = None,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Change an endpoint. Omitted options are left unchanged.

    Example: `easypay webhook update whe_… --url https://shop.example/events`
    """
    _change(
        data_dir,
        as_json,
        endpoint,
        "Changed",
        url=url,
        types=types,
        description=description,
    )


@webhooks.command("pause")
def pause_endpoint(
    endpoint: EndpointId, data_dir: DataDir = DATA_DIR, as_json: Json = False
) -> None:
    """Let an endpoint's events wait until `easypay webhook resume`.

    Example: `easypay webhook pause whe_…`
    """
    _change(data_dir, as_json, endpoint, "Paused", paused=True)


@webhooks.command("resume")
def resume_endpoint(
    endpoint: EndpointId, data_dir: DataDir = DATA_DIR, as_json: Json = False
) -> None:
    """Send what has waited, or enable an endpoint that was disabled.

    Example: `easypay webhook resume whe_…`
    """
    _change(data_dir, as_json, endpoint, "Resumed", paused=False)


@webhooks.command("delete")
def delete_endpoint(
    endpoint: EndpointId, data_dir: DataDir = DATA_DIR, as_json: Json = False
) -> None:
    """Delete an endpoint, and what it was still to be told.

    Example: `easypay webhook delete whe_…`
    """
    from easypay.webhooks import endpoints

    async def work(connection: Any, _: Any, found: "Endpoint") -> Any:
        await endpoints.delete(connection, found.merchant_id, found.mode, found.id)
        return {"deleted": endpoint}

    show(as_json, _on_endpoint(data_dir, endpoint, work), f"Deleted {endpoint}.")


@webhooks.command("rotate-secret")
def rotate_secret(
    endpoint: EndpointId,
    overlap_s: Annotated[
        int,
        typer.Option(
            min=0, help="Seconds in which the old secret signs, too. 0 ends all old ones at once."
        ),
    ] = 86_400,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Give an endpoint a new secret and print it. It cannot be shown again.

    Example: `easypay webhook rotate-secret whe_… --overlap-s 3600`
    """
    from easypay.api.webhooks import NewEndpointView, endpoint_view
    from easypay.webhooks import endpoints

    async def work(connection: Any, vault: Any, found: "Endpoint") -> Any:
        changed, secret = await endpoints.rotate_secret(
            connection, vault, found.merchant_id, found.mode, found.id, overlap_s=overlap_s
        )
        return NewEndpointView(endpoint_view(changed), secret)

    made = _on_endpoint(data_dir, endpoint, work)
    show(as_json, made, f"The new secret, shown only now:\n{made.secret}")


@webhooks.command("test")
def send_test(endpoint: EndpointId, data_dir: DataDir = DATA_DIR, as_json: Json = False) -> None:
    """Let a worker send a test event. `easypay webhook deliveries` shows what became of it.

    Example: `easypay webhook test whe_…`
    """
    from easypay import ids
    from easypay.api.webhooks import TestSentView
    from easypay.webhooks import endpoints

    async def work(connection: Any, _: Any, found: "Endpoint") -> Any:
        return TestSentView(ids.typed(ids.EVENT, await endpoints.send_test(connection, found)))

    made = _on_endpoint(data_dir, endpoint, work)
    show(as_json, made, f"The event is {made.event_id}.")


@webhooks.command("deliveries")
def list_deliveries(
    endpoint: EndpointId,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The newest so many.")] = 20,
    wide: Wide = False,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """List the attempts to deliver to an endpoint, newest first.

    Example: `easypay webhook deliveries whe_… --limit 100`
    """
    from easypay.api.paging import newest_id
    from easypay.api.webhooks import attempt_view
    from easypay.webhooks import log

    async def work(connection: Any, _: Any, found: "Endpoint") -> Any:
        attempts = await log.attempts(
            connection, found.merchant_id, found.id, below=newest_id(), limit=limit
        )
        return [attempt_view(each) for each in attempts]

    rows = _on_endpoint(data_dir, endpoint, work)
    show_rows(as_json, rows, ATTEMPTS, "Nothing was sent in the last 30 days.", wide=wide)


@webhooks.command("delivery")
def show_delivery(
    endpoint: EndpointId,
    delivery: Annotated[str, typer.Argument(metavar="DELIVERY", help="`wha_…`")],
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Show what an attempt sent, and what the endpoint answered.

    The request is made again from the event, so it has no signature.

    Example: `easypay webhook delivery whe_… wha_…`
    """
    from easypay import ids
    from easypay.api.webhooks import delivery_view
    from easypay.webhooks import log

    attempt_id = ids.parse(ids.ATTEMPT, delivery)
    if attempt_id is None:
        fail(f"{delivery!r} is no delivery's id: they begin with {ids.ATTEMPT}_")

    async def work(connection: Any, _: Any, found: "Endpoint") -> Any:
        attempt = await log.attempt(connection, found, attempt_id)
        return await delivery_view(connection, found, attempt)

    shown = _on_endpoint(data_dir, endpoint, work)
    sent, said = shown.request, shown.delivery
    lines = [f"POST {said.url} at {said.sent_at}, answered after {said.took_ms} ms"]
    lines += [f"{name}: {value}" for name, value in sent.headers.items()]
    lines += ["", sent.body or "(the body is not known any more)", ""]
    lines += [str(said.status or said.reason), said.answer]
    show(as_json, shown, "\n".join(lines).rstrip())


@webhooks.command("redeliver")
def redeliver(
    endpoint: EndpointId,
    event: Annotated[str | None, typer.Option(help="One event: `evt_…`.")] = None,
    since: Annotated[str | None, typer.Option(help="All since then: 2026-11-24T00:00:00Z.")] = None,
    until: Annotated[str | None, typer.Option(help="Until then. Default: now.")] = None,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Send one event again, or all of a span of time. They keep their ids.

    Example: `easypay webhook redeliver whe_… --since 2026-11-24T00:00:00Z`
    """
    from easypay import clock, ids, inputs
    from easypay.api.webhooks import RedeliveryView
    from easypay.webhooks import redelivery

    if (event is None) == (since is None):
        fail("give either --event or --since")
    event_id = None if event is None else ids.parse(ids.EVENT, event)
    begin = None if since is None else inputs.moment(since)
    end = clock.now() if until is None else inputs.moment(until)
    if (event is not None and event_id is None) or (since is not None and begin is None):
        fail("--event is an id such as evt_…, --since a time such as 2026-11-24T00:00:00Z")
    if end is None:
        fail("--until is a time such as 2026-11-24T00:00:00Z")

    async def work(connection: Any, _: Any, found: "Endpoint") -> Any:
        if event_id is not None:
            await redelivery.redeliver_one(connection, found, event_id)
            return RedeliveryView(1)
        assert begin is not None
        return RedeliveryView(await redelivery.redeliver(connection, found, since=begin, until=end))

    done = _on_endpoint(data_dir, endpoint, work)
    show(as_json, done, f"Events that are sent again: {done.events}.")


def _change(data_dir: Path, as_json: bool, endpoint: str, done: str, **changes: Any) -> None:
    from easypay.api.webhooks import endpoint_view
    from easypay.webhooks import endpoints

    async def work(connection: Any, _: Any, found: "Endpoint") -> Any:
        changed = await endpoints.update(
            connection, found.merchant_id, found.mode, found.id, private=_private(), **changes
        )
        return endpoint_view(changed)

    show(as_json, _on_endpoint(data_dir, endpoint, work), f"{done} {endpoint}.")


def _on_endpoint(
    data_dir: Path, endpoint: str, do: Callable[[Any, Any, "Endpoint"], Awaitable[Any]]
) -> Any:
    """Run `do(connection, vault, endpoint)` on the endpoint of this id, whoever has it."""
    from easypay import ids
    from easypay.webhooks import endpoints

    endpoint_id = ids.parse(ids.ENDPOINT, endpoint)
    if endpoint_id is None:
        fail(f"{endpoint!r} is no endpoint's id: they begin with {ids.ENDPOINT}_")

    async def work(connection: Any, vault: Any) -> Any:
        every = await endpoints.list_all(connection)
        found = next((each for each in every if each.id == endpoint_id), None)
        if found is None:
            raise LookupError(f"there is no webhook endpoint {endpoint}")
        return await do(connection, vault, found)

    return in_database(data_dir, work)


def _private() -> "tuple[Network, ...]":
    """An operator may name any address here. Whether something is sent to it is decided by the
    worker's settings, each time it connects."""
    from easypay.webhooks.addresses import networks

    return networks(("0.0.0.0/0", "::/0"))
