"""`easypay trigger`: lets an event happen, by a real payment at the simulator."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from easypay.command_line.console import (
    DATA_DIR,
    Columns,
    DataDir,
    Json,
    fail,
    show,
    show_rows,
    with_access,
)
from easypay.command_line.shop_access import ForMerchant, GatewayUrl, ShopAccess, shop_access

if TYPE_CHECKING:
    from easypay.command_line.trial_shop import TrialShop


class Known(NamedTuple):
    """A word that the command takes."""

    event: str
    what: str


class Triggered(NamedTuple):
    """What a command led to. `events` are the types of all events of the payment, oldest first."""

    event: str
    payment_id: str | None
    events: list[str]


def trigger(
    event: Annotated[
        str | None, typer.Argument(metavar="EVENT", help="A type of event: see --list.")
    ] = None,
    show_list: Annotated[
        bool, typer.Option("--list", help="Show every event, and how it comes about.")
    ] = False,
    merchant: ForMerchant = None,
    url: GatewayUrl = None,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Let an event happen: make a real payment at the simulator of `easypay up`, and what it needs.

    Only in test mode, and only at the simulator. `easypay listen` shows what a shop is told of it.

    Example: `easypay trigger payment.declined`
    """
    from easypay.command_line.event_stories import STORIES

    if show_list:
        known = [Known(name, story.told) for name, story in STORIES.items()]
        show_rows(as_json, known, Columns(("event", "what")), "None.", wide=True)
        return
    if event not in STORIES:
        said = "name an event" if event is None else f"there is no event {event!r}"
        raise typer.BadParameter(f"{said}: `easypay trigger --list` shows them")
    scopes = [
        *("payments:read", "payments:write", "refunds:write", "customers:write", "batches:write")
    ]
    scopes.append("customers:erase")
    with shop_access(data_dir, merchant, url, name="easypay trigger", scopes=scopes) as access:
        done = _trigger(event, access, data_dir)
    show(as_json, done._asdict(), f"{done.payment_id or 'Endpoints'}: {', '.join(done.events)}")


def _trigger(event: str, access: ShopAccess, data_dir: Path) -> Triggered:
    from easypay.command_line.event_stories import COMES_WITHIN_S, STORIES, Stage
    from easypay.command_line.trial_shop import TrialFailed

    shop = _shop(access, data_dir)
    story = STORIES[event]

    def hurry(payment_id: str) -> None:
        with_access(data_dir, lambda on, _: _look_now(on, access, payment_id))

    def disable_endpoint() -> None:
        with_access(data_dir, lambda on, known: _disable_endpoint(on, known, access))

    try:
        stage = Stage(
            hurry,
            disable_endpoint,
            tell_of_expiring=partial(_tell_of_expiring, data_dir),
            read_books=partial(_read_books, data_dir, access),
            remind=partial(_remind, data_dir),
        )
        payment_id = story.tell(shop, stage)
        if payment_id is None:
            return Triggered(story.type, None, [story.type])
        shop.has(payment_id, story.type, within_s=COMES_WITHIN_S)
        return Triggered(story.type, payment_id, shop.types_of(payment_id))
    except TrialFailed as error:
        fail(str(error))


def _shop(access: ShopAccess, data_dir: Path) -> "TrialShop":
    """Return the merchant's shop. Ends the program if it does not pay through the simulator."""
    from easypay.command_line.trial_shop import TrialShop, simulator_at

    account = with_access(data_dir, lambda on, known: _account(on, known, data_dir, access))
    simulator = None if account is None else simulator_at(account.url)
    if account is None or simulator is None:
        fail(
            "refused: the merchant's test account is not at a simulator that runs. Events are "
            "triggered only there: start `easypay up` without a sandbox account"
        )
    return TrialShop(
        api=access.url,
        key=access.key,
        simulator=simulator,
        login=account.credentials["login_id"],
        transaction_key=account.credentials["transaction_key"],
    )


async def _account(connection: Any, known: Any, data_dir: Path, access: ShopAccess) -> Any:
    """Return the merchant's account at Authorize.Net in test mode, or None."""
    from easypay.command_line.data_dir import DataDirectory
    from easypay.merchants.directory import Directory
    from easypay.merchants.vault import Vault
    from easypay.mode import Mode
    from easypay.processors.authorize_net.integration import AUTHORIZE_NET
    from easypay.processors.registry import installed

    integrations = installed(DataDirectory(data_dir).processor_addresses())
    directory = Directory(connection, Vault(known.encryption_key), integrations, lease_s=0.0)
    login = await directory.current_login(access.merchant_id, Mode.TEST, AUTHORIZE_NET.name)
    return None if login is None else login.account


async def _disable_endpoint(connection: Any, known: Any, access: ShopAccess) -> None:
    """Make an endpoint that never gets anything, disable it and delete it. The merchant's other
    endpoints are told that it was disabled."""
    from easypay.merchants.vault import Vault
    from easypay.mode import Mode
    from easypay.webhooks import endpoints

    whose = access.merchant_id, Mode.TEST
    made, _ = await endpoints.create(
        connection, Vault(known.encryption_key), *whose, url="https://shop.example/gone"
    )
    await endpoints.disable(connection, *whose, made.id, "easypay trigger disabled it")
    await endpoints.delete(connection, *whose, made.id)


def _tell_of_expiring(data_dir: Path) -> None:
    from easypay.customers.expiring import tell_of_expiring

    with_access(data_dir, lambda on, _: tell_of_expiring(on))


def _read_books(data_dir: Path, access: ShopAccess) -> None:
    """Read the books of the merchant's accounts, as `easypay reconcile --account mer_…` does."""
    from easypay import ids
    from easypay.command_line.reconciliation import reconcile_once

    if not reconcile_once(data_dir, ids.typed(ids.MERCHANT, access.merchant_id)):
        fail("the processor's books cannot be read: see `easypay reconcile`")


def _remind(data_dir: Path, payment_id: str) -> None:
    from easypay import ids
    from easypay.payments.authorization_expiry import remind_now

    shown = ids.parse(ids.PAYMENT, payment_id)
    assert shown is not None, "the gateway shows ids of payments"
    with_access(data_dir, lambda on, _: remind_now(on, shown))


async def _look_now(connection: Any, access: ShopAccess, payment_id: str) -> None:
    from easypay import ids
    from easypay.payments import resolver_rows

    shown = ids.parse(ids.PAYMENT, payment_id)
    assert shown is not None, "the gateway shows ids of payments"
    await resolver_rows.look_now(connection, access.merchant_id, shown)
