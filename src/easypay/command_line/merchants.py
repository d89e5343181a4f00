"""`easypay merchant …` and `easypay key …`: the admin API's work, from the command line.

They find the database by EASYPAY_DATABASE_URL and EASYPAY_ENCRYPTION_KEY, or by what `easypay up`
left in the data directory. What they print as JSON is what the API answers.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID

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

if TYPE_CHECKING:
    from easypay.processors.base import Account
    from easypay.processors.integration import Integration

merchants = new_group("Create, list and change merchants, and set their processor accounts.")
keys = new_group("Create, rotate, revoke and list API keys.")

MerchantId = Annotated[str, typer.Argument(metavar="MERCHANT", help="`mer_…`")]
KeyId = Annotated[str, typer.Argument(metavar="KEY", help="`key_…`")]
_LONGEST_FILE: Final = 4096
Mode = Annotated[str, typer.Option(help="test or live; the two never mix.")]
MERCHANTS: Final = Columns(
    ("id", "name", "currencies", "allow_raw_cards", "duplicates", "disabled", "created_at"),
    left_out_first=(
        *("created_at", "allow_raw_cards", "currencies", "duplicates", "disabled", "name"),
    ),
)
KEYS: Final = Columns(
    ("id", "mode", "name", "last4", "scopes", "expires_at", "revoked_at"),
    left_out_first=("scopes", "expires_at", "last4", "revoked_at", "name", "mode"),
)
KEYS_OF_ALL: Final = Columns(("id", "merchant_id", *KEYS.names[1:]), KEYS.left_out_first)


@merchants.command("create")
def create_merchant(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name that no other merchant has.")],
    currency: Annotated[
        list[str] | None, typer.Option(help="A currency it takes, such as USD; may repeat.")
    ] = None,
    allow_raw_cards: Annotated[
        bool, typer.Option("--allow-raw-cards", help="Accept card numbers, not only tokens.")
    ] = False,
    time_zone: Annotated[
        str, typer.Option(help="Whose days its statistics have, such as Europe/Berlin.")
    ] = "UTC",
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Make a merchant. It can take payments once it has a processor account and a key.

    Example: `easypay merchant create "Coffee & Co" --currency USD`
    """
    from easypay.api.admin import merchant_view
    from easypay.merchants import admin

    async def work(connection: Any, _: Any) -> Any:
        return merchant_view(
            await admin.create_merchant(
                connection,
                name=name,
                currencies=tuple(currency or ("USD",)),
                allow_raw_cards=allow_raw_cards,
                time_zone=time_zone,
            )
        )

    made = in_database(data_dir, work)
    show(
        as_json,
        made,
        f"Made {made.id}. Next: easypay merchant account {made.id}, easypay key create {made.id}",
    )


@merchants.command("list")
def list_merchants(
    every: Annotated[bool, typer.Option("--all", help="Show disabled merchants too.")] = False,
    wide: Wide = False,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """List the merchants, oldest first. `--json` has the disabled ones too.

    Example: `easypay merchant list --all`
    """
    from easypay.api.admin import merchant_view
    from easypay.merchants import admin

    async def work(connection: Any, _: Any) -> Any:
        return [merchant_view(each) for each in await admin.list_merchants(connection)]

    found = in_database(data_dir, work)
    shown = [each for each in found if every or as_json or not each.disabled]
    show_rows(as_json, shown, MERCHANTS, "No merchants.", wide=wide)
    if len(shown) < len(found):
        print(f"Disabled and not shown: {len(found) - len(shown)}. --all shows them.")  # noqa: T201


@merchants.command("show")
def show_merchant(
    merchant: MerchantId, wide: Wide = False, data_dir: DataDir = DATA_DIR, as_json: Json = False
) -> None:
    """Show one merchant.

    Example: `easypay merchant show mer_…`
    """
    from easypay.api.admin import merchant_view
    from easypay.merchants import admin

    async def work(connection: Any, _: Any) -> Any:
        return merchant_view(await admin.get_merchant(connection, merchant_of(merchant)))

    found = in_database(data_dir, work)
    if as_json:
        show(True, found, "")
    else:
        show_rows(False, [found], MERCHANTS, "", wide=wide)


@merchants.command("update")
def update_merchant(
    merchant: MerchantId,
    name: Annotated[str | None, typer.Option(help="A new name.")] = None,
    currency: Annotated[
        list[str] | None, typer.Option(help="A currency it takes, such as USD; may repeat.")
    ] = None,
    allow_raw_cards: Annotated[
        bool | None, typer.Option(help="Accept card numbers, not only tokens.")
    ] = None,
    disabled: Annotated[
        bool | None, typer.Option("--disable/--enable", help="Refuse or accept all its keys.")
    ] = None,
    late_charges: Annotated[
        str | None,
        typer.Option(help="`return` or `keep` a charge that is found after its payment failed."),
    ] = None,
    time_zone: Annotated[
        str | None, typer.Option(help="Whose days its statistics have, such as Europe/Berlin.")
    ] = None,
    duplicates: Annotated[
        str | None,
        typer.Option(help="`off`, `flag` or `reject` payments that look like an earlier one."),
    ] = None,
    duplicate_window_s: Annotated[
        int | None,
        typer.Option(min=1, max=86_400, help="Seconds in which a payment counts as a duplicate."),
    ] = None,
    read_staleness_ms: Annotated[
        int | None,
        typer.Option(min=0, max=60_000, help="How old answers to reads may be, in milliseconds."),
    ] = None,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Change a merchant. Omitted options are left unchanged. Gateways apply it within a second.

    Example: `easypay merchant update mer_… --currency USD --currency CAD --no-allow-raw-cards`
    """
    from easypay.api.admin import merchant_view
    from easypay.merchants import admin

    async def work(connection: Any, _: Any) -> Any:
        return merchant_view(
            await admin.update_merchant(
                connection,
                merchant_of(merchant),
                name=name,
                currencies=currency or None,
                allow_raw_cards=allow_raw_cards,
                disabled=disabled,
                late_charges=late_charges,
                time_zone=time_zone,
                duplicates=duplicates,
                duplicate_window_s=duplicate_window_s,
                read_staleness_ms=read_staleness_ms,
            )
        )

    changed = in_database(data_dir, work)
    show(as_json, changed, f"Changed {changed.id}.")


@merchants.command("account")
def set_account(
    merchant: MerchantId,
    login_id: Annotated[
        str, typer.Option(prompt=True, help="What names the account: Authorize.Net's API login id.")
    ],
    mode: Mode = "test",
    processor: Annotated[
        str, typer.Option(help="The processor that the account is at.")
    ] = "authorize_net",
    skip_check: Annotated[
        bool, typer.Option("--skip-check", help="Save the credentials without trying them.")
    ] = False,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Set the processor account of one mode. It is stored encrypted.

    EasyPay first asks the processor whether it accepts the credentials. If the processor refuses
    them or does not answer, nothing is saved.

    You type the transaction key when asked, or give it on standard input, so that it stays out of
    the shell's history. If a processor has several secrets, each is a line. The last may be the
    signature key, which `easypay processor register-webhooks` needs; left out, it stays as it was.

    Example: `easypay merchant account mer_… --mode live --login-id 5KP3u95bQpv < key.txt`
    """
    from easypay import inputs
    from easypay.merchants import admin

    integration = integration_named(data_dir, processor)
    account_field, *secrets = integration.credentials
    given = {account_field: login_id, **_secrets(secrets, list(integration.optional))}

    async def work(connection: Any, vault: Any) -> None:
        merchant_id, in_mode = merchant_of(merchant), admin.mode_of(mode)
        credentials = integration.read_credentials(given)
        await admin.get_merchant(connection, merchant_id)
        if not skip_check:
            await _check(integration, integration.account(in_mode, credentials))
        await admin.set_processor_account(
            connection, vault, integration, merchant_id, in_mode, credentials
        )

    in_database(data_dir, work)
    done = {"merchant_id": merchant, "mode": mode, account_field: inputs.credential(login_id)}
    show(as_json, done, f"The {mode} account of {merchant} is set.")


def integration_named(data_dir: Path, processor: str) -> "Integration":
    """Return an installed processor, or end the command with the names that would do."""
    from easypay.command_line.data_dir import DataDirectory
    from easypay.errors import EasyPayError
    from easypay.processors.registry import installed, named

    try:
        return named(installed(DataDirectory(data_dir).processor_addresses()), processor)
    except EasyPayError as error:
        fail(error.detail)


def _secrets(fields: list[str], optional: list[str]) -> dict[str, str]:
    """The secrets of an account, typed or from the lines of standard input. Those that are optional
    may be missing."""
    from easypay import inputs

    if sys.stdin.isatty():
        typed = {field: typer.prompt(_shown(field), hide_input=True) for field in fields}
        for field in optional:
            name = f"{_shown(field)} (Enter: as it is)"
            typed[field] = typer.prompt(name, hide_input=True, default="", show_default=False)
        return {field: text for field, text in typed.items() if text}
    given = sys.stdin.buffer.read(_LONGEST_FILE).rstrip(b"\r\n")
    lines = given.split(b"\n", len(fields) + len(optional) - 1)
    if len(lines) < len(fields):
        fail(f"standard input must have {len(fields)} lines: {', '.join(fields)}")
    read = [inputs.credential_bytes(line) for line in lines]
    found = zip([*fields, *optional], read, strict=False)
    return {
        field: fail("standard input is not UTF-8 text") if text is None else text
        for field, text in found
    }


def _shown(field: str) -> str:
    return field.replace("_", " ").capitalize()


async def _check(integration: "Integration", account: "Account") -> None:
    from easypay.errors import ProcessorUnavailable
    from easypay.merchants import credential_check

    try:
        await credential_check.check_alone(integration, account)
    except ProcessorUnavailable as error:
        fail(f"{error.detail} (--skip-check)")


@keys.command("create")
def create_key(
    merchant: MerchantId,
    mode: Mode = "test",
    name: Annotated[str, typer.Option(help="What the key is for.")] = "default",
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="payments:read, payments:write, refunds:write, payments:export, events:read, "
            "webhooks:manage, customers:read, customers:write, customers:erase, batches:write, "
            "settlements:read, reconciliation:read, reconciliation:write; may repeat. "
            "Default: the first three."
        ),
    ] = None,
    expires_in_days: Annotated[
        int | None, typer.Option(min=1, max=36_500, help="Days until it expires. Default: never.")
    ] = None,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Make a key. Its secret is shown this once and never again.

    Example: `easypay key create mer_… --mode live --name checkout --scope payments:write`
    """
    from datetime import timedelta

    from easypay import clock
    from easypay.merchants import admin
    from easypay.merchants.model import USUAL_SCOPES

    expires = None if expires_in_days is None else clock.now() + timedelta(days=expires_in_days)

    async def work(connection: Any, _: Any) -> Any:
        return await admin.create_key(
            connection,
            merchant_of(merchant),
            mode=admin.mode_of(mode),
            name=name,
            scopes=scope or USUAL_SCOPES,
            expires_at=expires,
        )

    _show_secret(as_json, in_database(data_dir, work), "Made")


@keys.command("rotate")
def rotate_key(
    merchant: MerchantId,
    key: KeyId,
    overlap_s: Annotated[
        int,
        typer.Option(min=0, max=30 * 86_400, help="Seconds for which the old key still works."),
    ] = 86_400,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Make a new key with the same mode, name and scopes. The old key still works for a while.

    Example: `easypay key rotate mer_… key_… --overlap-s 3600`
    """
    from easypay.merchants import admin

    async def work(connection: Any, _: Any) -> Any:
        return await admin.rotate_key(
            connection, merchant_of(merchant), _key(key), overlap_s=overlap_s
        )

    _show_secret(as_json, in_database(data_dir, work), f"{key} has the successor")


@keys.command("revoke")
def revoke_key(
    merchant: MerchantId, key: KeyId, data_dir: DataDir = DATA_DIR, as_json: Json = False
) -> None:
    """Stop a key for good. Every gateway refuses it within a second.

    Example: `easypay key revoke mer_… key_…`
    """
    from easypay.api.admin import key_view
    from easypay.merchants import admin

    async def work(connection: Any, _: Any) -> Any:
        return key_view(await admin.revoke_key(connection, merchant_of(merchant), _key(key)))

    revoked = in_database(data_dir, work)
    show(as_json, revoked, f"Revoked {revoked.id}.")


@keys.command("list")
def list_keys(
    merchant: Annotated[str | None, typer.Argument(metavar="[MERCHANT]", help="`mer_…`")] = None,
    wide: Wide = False,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """List the keys of one merchant, or of all merchants. Secrets are never shown.

    Example: `easypay key list mer_…`
    """
    from easypay.api.admin import key_view
    from easypay.merchants import admin

    async def work(connection: Any, _: Any) -> Any:
        wanted = None if merchant is None else merchant_of(merchant)
        if wanted is not None:
            await admin.get_merchant(connection, wanted)
        return [key_view(each) for each in await admin.list_keys(connection, wanted)]

    columns = KEYS_OF_ALL if merchant is None else KEYS
    show_rows(as_json, in_database(data_dir, work), columns, "No keys yet.", wide=wide)


def _show_secret(as_json: bool, made: Any, did: str) -> None:
    from easypay.api.admin import NewKeyView, key_view

    key, secret = key_view(made[0]), made[1]
    show(
        as_json,
        NewKeyView(key, secret),
        f"{did} {key.id}. Its secret, shown this once:\n\n{secret}\n",
    )


def merchant_of(text: str) -> UUID:
    """Return the id that a person typed, or end the command with what is wrong."""
    from easypay import ids

    return ids.parse(ids.MERCHANT, text) or fail(f"{text!r} is not a merchant id (mer_…)")


def _key(text: str) -> UUID:
    from easypay import ids

    return ids.parse(ids.API_KEY, text) or fail(f"{text!r} is not a key id (key_…)")
