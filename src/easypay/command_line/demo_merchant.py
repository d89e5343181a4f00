"""The demo merchant of `easypay up`: created once, reused later, with a key that still works."""

from contextlib import suppress
from typing import Final
from uuid import UUID

import asyncpg

from easypay import ids
from easypay.db.connections import Connector
from easypay.errors import EasyPayError
from easypay.merchants import admin
from easypay.merchants.model import USUAL_SCOPES, digest_of
from easypay.merchants.vault import Vault
from easypay.mode import Mode
from easypay.processors.authorize_net.integration import AUTHORIZE_NET

NAME: Final = "Demo shop"
SCOPES: Final = (
    *USUAL_SCOPES,
    *("events:read", "webhooks:manage", "customers:read", "customers:write", "batches:write"),
    *("settlements:read", "reconciliation:read"),
)
"""What the key may do: all that a shop which is being written needs."""


async def prepare(
    database_url: str,
    saved: dict[str, str],
    *,
    encryption_key: str,
    login_id: str,
    transaction_key: str,
) -> dict[str, str]:
    """Make a merchant that takes USD and raw cards, its test account and one test key.

    `saved`: what an earlier start returned. If the database lacks its merchant, one of the same
    name is used. What is missing is made.
    Returns `demo_merchant` and `demo_api_key`, to be saved. Raises EasyPayError.
    """
    connection = await Connector(database_url).connect(timeout=10)
    try:
        merchant_id = await _existing(connection, saved)
        if merchant_id is None:
            made = await admin.create_merchant(
                connection, name=NAME, currencies=("USD",), allow_raw_cards=True
            )
            merchant_id = made.merchant_id
        await admin.set_processor_account(
            connection,
            Vault(encryption_key),
            AUTHORIZE_NET,
            merchant_id,
            Mode.TEST,
            {"login_id": login_id, "transaction_key": transaction_key},
        )
        secret = saved.get("demo_api_key", "")
        if not await _works(connection, merchant_id, secret):
            _, secret = await admin.create_key(
                connection, merchant_id, mode=Mode.TEST, name="demo", scopes=SCOPES
            )
    finally:
        await connection.close()
    return {"demo_merchant": ids.typed(ids.MERCHANT, merchant_id), "demo_api_key": secret}


async def _existing(
    connection: "asyncpg.Connection[asyncpg.Record]", saved: dict[str, str]
) -> UUID | None:
    merchant_id = ids.parse(ids.MERCHANT, saved.get("demo_merchant", ""))
    if merchant_id is not None:
        with suppress(EasyPayError):  # not the database of last time
            return (await admin.get_merchant(connection, merchant_id)).merchant_id
    return await admin.merchant_named(connection, NAME)


async def _works(
    connection: "asyncpg.Connection[asyncpg.Record]", merchant_id: UUID, secret: str
) -> bool:
    return bool(
        await connection.fetchval(
            "SELECT true FROM api_keys WHERE digest = $1 AND merchant_id = $2 AND mode = 'test'"
            " AND scopes @> $3::text[]"
            " AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())",
            digest_of(secret),
            merchant_id,
            list(SCOPES),
        )
    )
