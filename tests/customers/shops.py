"""What shops do with customers, and what the simulator's vault has of theirs."""

from typing import Any

from easypay.merchants.model import SCOPES
from harness import Shop, Stack, card, mint_token
from harness.http import http_client

EVERYTHING = SCOPES


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
