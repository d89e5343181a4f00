"""What shops do with customers, and what the simulator's vault has of theirs."""

from pathlib import Path
from typing import Any

from easypay.merchants.model import SCOPES
from harness import QUICK, Gateway, Shop, Stack, card, mint_token, until
from harness.http import http_client

EVERYTHING = SCOPES
NEW_PROFILE, NEW_METHOD = "createCustomerProfileRequest", "createCustomerPaymentProfileRequest"
OF_CALLS = QUICK | {"processor_deadline_s": "0.7"}
"""Settings of gateways and workers that are to give up a call soon."""


def card_body(**over: Any) -> dict[str, Any]:
    """Return a body that stores a card; what is no field of it is a field of the card."""
    own = {name: over.pop(name) for name in ("billing_address", "validate") if name in over}
    return {"payment_method": card(**over), **own}


async def new_customer(shop: Shop, **fields: Any) -> dict[str, Any]:
    """Make a customer."""
    answer = await shop.post("/customers", fields)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def add_card(shop: Shop, customer: dict[str, Any], **over: Any) -> dict[str, Any]:
    """Store a card that must be stored."""
    answer = await shop.post(f"/customers/{customer['id']}/payment_methods", card_body(**over))
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def add_token(stack: Stack, shop: Shop, customer: dict[str, Any]) -> dict[str, Any]:
    """Store a card by a new token."""
    token = await mint_token(stack.simulator, shop.login)
    body = {"payment_method": {"type": "accept_token", "accept_token": token}}
    answer = await shop.post(f"/customers/{customer['id']}/payment_methods", body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def profiles(stack: Stack, shop: Shop) -> list[dict[str, Any]]:
    """Return the customer profiles that the simulator has of a shop's account, oldest first."""
    async with http_client() as client:
        answer = await client.get(
            f"{stack.simulator.url}/simulator/profiles", params={"login": shop.login}
        )
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


async def vault_call(stack: Stack, shop: Shop, method: str, **fields: Any) -> None:
    """Send a request to the processor as somebody who has the account, and no gateway."""
    login = {"name": shop.login, "transactionKey": "simulated-key-1"}
    body = {method: {"merchantAuthentication": login, **fields}}
    async with http_client() as client:
        answer = await client.post(stack.simulator.wire, json=body)
    assert '"Ok"' in answer.text, answer.text


async def fault(stack: Stack, shop: Shop, kind: str, method: str, **more: Any) -> None:
    await stack.simulator.post(
        "/faults", kind=kind, method=method, login=shop.login, count=1, **more
    )


async def minutes_pass(stack: Stack, shop: Shop) -> None:
    """Let two minutes have passed since all that the shop has done, and its work be due."""
    for table, columns in (
        ("payment_methods", ("created_at", "stored_at")),
        ("customer_profiles", ("created_at", "made_at")),
    ):
        older = ", ".join(f"{name} = {name} - interval '2 minutes'" for name in columns)
        await stack.fetch(f"UPDATE {table} SET {older} WHERE merchant_id = $1", shop.merchant_id)
    sql = "UPDATE vault_work SET due_at = db_now() WHERE merchant_id = $1"
    await stack.fetch(sql, shop.merchant_id)


_LEFT_TO_DO = """
    SELECT count(*) FROM vault_work w
     WHERE w.merchant_id = $1 AND NOT EXISTS (
           SELECT FROM payment_methods m
            WHERE m.merchant_id = w.merchant_id AND m.id = w.id AND m.state = 'failed')
"""


async def ends(stack: Stack, shop: Shop, method_id: str, *states: str) -> dict[str, Any]:
    """Wait until a method has one of these states and nothing is left to do, but to look for what
    the vault may store late. `deleted` is none."""
    seen: list[Any] = []

    async def ended() -> bool:
        answer = await shop.client.get(f"/payment_methods/{method_id}")
        method = answer.json() if answer.status_code == 200 else {"state": "deleted"}
        left = await stack.value(_LEFT_TO_DO, shop.merchant_id)
        seen[:] = [method, left]
        return method["state"] in states and left == 0

    await until(ended, what=(method_id, states, seen))
    found: dict[str, Any] = seen[0]
    return found


async def in_vault(stack: Stack, shop: Shop) -> list[str]:
    """Return the expiry dates of all methods that the vault has of the shop."""
    return sorted(
        method["expiry"]
        for profile in await profiles(stack, shop)
        for method in profile["payment_profiles"]
    )


async def is_stopped(gateway: Gateway) -> None:
    """Wait until a gateway is stopped at its point."""

    async def stopped() -> bool:
        return Path(f"/proc/{gateway.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"

    await until(stopped, what="the gateway is stopped")
