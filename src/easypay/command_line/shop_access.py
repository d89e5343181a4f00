"""A test key for commands that act as a shop: that of `easypay up`, or one made for the run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from easypay.command_line.console import fail, in_database
from easypay.command_line.merchants import merchant_of

if TYPE_CHECKING:
    from uuid import UUID

GatewayUrl = Annotated[
    str | None, typer.Option("--url", help="A gateway's address. Default: the one of `easypay up`.")
]
ForMerchant = Annotated[
    str | None,
    typer.Option("--merchant", help="`mer_…`. Default: the demo merchant of `easypay up`."),
]
_TEST_KEY: Final = "ep_test_"
_LIVES: Final = timedelta(days=1)
"""How long a key works that a killed command could not revoke."""


class ShopAccess(NamedTuple):
    """How to reach a gateway as a shop, in test mode."""

    url: str
    key: str
    merchant_id: "UUID"


@contextmanager
def shop_access(
    data_dir: Path, merchant: str | None, url: str | None, *, name: str, scopes: Sequence[str]
) -> Iterator[ShopAccess]:
    """Yield a test key of a merchant, or of the demo merchant if `merchant` is None.

    For a merchant a key with these scopes is made in the database, and revoked at the end. `name`
    is the key's name. What is missing ends the program with one line.
    """
    from easypay.command_line.data_dir import DataDirectory

    directory = DataDirectory(data_dir)
    try:
        address = (url or directory.demo("api_url")).rstrip("/")
        demo = None if merchant else (directory.demo("api_key"), directory.demo_merchant())
    except LookupError as error:
        fail(f"{error}. Or give --url and --merchant")
    if demo is not None:
        key, shown = demo
        must_be_test_key(key)
        yield ShopAccess(address, key, merchant_of(shown))
        return
    merchant_id = merchant_of(merchant or "")
    key_id, key = in_database(data_dir, lambda on, _: _make(on, merchant_id, name, scopes))
    try:
        yield ShopAccess(address, key, merchant_id)
    finally:
        in_database(data_dir, lambda on, _: _revoke(on, merchant_id, key_id))


def must_be_test_key(key: str) -> None:
    """End the program unless this is a key of test mode."""
    if not key.startswith(_TEST_KEY):
        fail(f"this works in test mode only: the key must begin with {_TEST_KEY}")


async def _make(
    connection: Any, merchant_id: "UUID", name: str, scopes: Sequence[str]
) -> "tuple[UUID, str]":
    from easypay import clock
    from easypay.merchants import admin
    from easypay.mode import Mode

    key, secret = await admin.create_key(
        connection,
        merchant_id,
        mode=Mode.TEST,
        name=name,
        scopes=scopes,
        expires_at=clock.now() + _LIVES,
    )
    return key.id, secret


async def _revoke(connection: Any, merchant_id: "UUID", key_id: "UUID") -> None:
    from easypay.merchants import admin

    await admin.revoke_key(connection, merchant_id, key_id)
