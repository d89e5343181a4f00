"""`easypay processor …`: what is set up at the processor, for an account of a merchant."""

import sys
from typing import Annotated, Any

import typer

from easypay.command_line.console import DATA_DIR, DataDir, Json, fail, in_database, new_group, show
from easypay.command_line.merchants import Mode, integration_named, merchant_of

processors = new_group("Let the processor tell EasyPay what happens to an account.")


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
