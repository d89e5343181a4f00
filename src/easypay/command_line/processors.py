"""`easypay processor …`: what is set up at the processor, for an account of a merchant."""

import sys
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
    with_access,
)
from easypay.command_line.merchants import Mode, integration_named, merchant_of
from easypay.command_line.operations import Actor, actor_of, must_be_reason

if TYPE_CHECKING:
    from easypay.reconciliation.accounts import Books

processors = new_group("Let the processor tell EasyPay what happens to an account.")

_FEWEST_DIGITS: Final = 6
BOOKS: Final = Columns(
    ("account", "merchants", "read_until", "retired_at", "shared_at", "failure"),
    left_out_first=("failure", "merchants"),
)


@processors.command("register-webhooks")
def register_webhooks(
    merchant: Annotated[str, typer.Option(help="Whose account: `mer_…`")],
    url: Annotated[
        str | None,
        typer.Option(help="The gateway's public address, such as https://pay.example.com."),
    ] = None,
    mode: Mode = "test",
    processor: Annotated[
        str, typer.Option(help="The processor that the account is at.")
    ] = "authorize_net",
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing: only show how it stands.")
    ] = False,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Let the processor tell a gateway what happens, so that it need not wait until it asks.

    The account needs its signature key (`easypay merchant account`). The processor first sends a
    test; the webhook is switched on when that has arrived. Repeating the command changes nothing,
    and switches on what the processor has switched off.

    With --check it exits 1 unless the processor sends notifications.

    Example: `easypay processor register-webhooks --merchant mer_… --url https://pay.example.com`
    """
    from easypay.merchants import admin
    from easypay.merchants.directory import Directory
    from easypay.notifications import registering
    from easypay.processors.integration import ClientOptions
    from easypay.processors.notifications import webhooks_of

    if url is None and not check:
        fail("--url is missing: the gateway's public address. Or give --check")
    integration = integration_named(data_dir, processor)

    async def work(connection: Any, vault: Any) -> Any:
        merchant_id, in_mode = merchant_of(merchant), admin.mode_of(mode)
        await admin.get_merchant(connection, merchant_id)
        directory = Directory(connection, vault, {integration.name: integration}, lease_s=1.0)
        login = await directory.current_login(merchant_id, in_mode, integration.name)
        if login is None:
            fail(f"{merchant} has no {mode} account at {integration.name}")
        client = integration.make(ClientOptions())
        try:
            webhooks = webhooks_of(client)
            if webhooks is None:
                fail(f"{integration.name} sends no notifications")
            if check:
                return await registering.standing(connection, webhooks, login)
            assert url is not None, "it was given, or the command has ended"
            return await registering.register(
                connection, integration, webhooks, login, url, progress=_say
            )
        finally:
            await client.close()

    found = in_database(data_dir, work)
    lines = {
        "active": f"The processor sends notifications to {found.url}",
        "inactive": f"Switched off at the processor: {found.url}. Run it again without --check.",
        "missing": "The processor does not know the webhook. Run it again without --check.",
        "none": "No webhook was set up. Run it again without --check.",
    }
    told = f"Told of {found.looked_at - found.missed} of {found.looked_at} charges looked at."
    show(as_json, found, f"{lines[found.state]}\n{told}" if found.looked_at else lines[found.state])
    if found.state != "active":
        sys.exit(1)


def _say(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201


@processors.command("books")
def books(
    retire: Annotated[
        str | None, typer.Option(metavar="ACCOUNT", help="Read the books of this account no more.")
    ] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="ACCOUNT", help="Read them again, as before.")
    ] = None,
    share: Annotated[
        str | None,
        typer.Option(metavar="ACCOUNT", help="Other programs charge at this account, too."),
    ] = None,
    unshare: Annotated[
        str | None, typer.Option(metavar="ACCOUNT", help="No other program does any more.")
    ] = None,
    because: Annotated[
        str | None, typer.Option("--because", help="The reason. It is kept for ever.")
    ] = None,
    actor: Actor = None,
    wide: Wide = False,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Show whose books are read, and say which are not to be read, or are not ours alone.

    ACCOUNT is its first digits, as `easypay reconcile` shows them. Retired books are not read and
    raise no alarm; what is open stays open, and statements name them. In shared ones a charge
    without a reference of our form is no difference, nor is a refund of it: statements add both up.

    Example: `easypay processor books --retire 3f9a51c20b7e --because "the shop has left this bank"`
    """
    said = {"retire": retire, "resume": resume, "share": share, "unshare": unshare}
    asked = [(what, named) for what, named in said.items() if named is not None]
    if len(asked) > 1:
        raise typer.BadParameter("say one thing at a time")
    if asked and because is None:
        raise typer.BadParameter("--because is missing: the reason")
    if asked:
        must_be_reason(because or "")
    who = actor_of(actor) if asked else ""

    async def work(connection: Any, _: Any) -> "list[Books]":
        from easypay.reconciliation import accounts

        for what, named in asked:
            async with connection.transaction():
                account = _named(await accounts.all_books(connection), named)
                if not await accounts.mark(connection, account, what, who, because or ""):
                    fail(f"refused: nothing to {what}, it is so already")
        return await accounts.all_books(connection)

    from easypay.reconciliation.views import books_view

    found = [books_view(each) for each in with_access(data_dir, work)]
    show_rows(as_json, found, BOOKS, "There is no account.", wide=wide)


def _named(known: "list[Books]", named: str) -> bytes:
    """Return the account whose first digits were given. Raises LookupError unless it is one."""
    if len(named) < _FEWEST_DIGITS:
        raise LookupError(f"give at least {_FEWEST_DIGITS} digits of the account")
    found = [each.account for each in known if each.account.hex().startswith(named)]
    if not found:
        raise LookupError(f"no account begins with {named!r}: see `easypay processor books`")
    if len(found) > 1:
        raise LookupError(f"{len(found)} accounts begin with {named!r}: give more digits")
    return found[0]
