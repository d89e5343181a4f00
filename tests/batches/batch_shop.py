"""A shop that uploads batches, and the lines that tests put into them."""

import json
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx

from harness import Shop, Stack, mint_token, until

SCOPES = (
    *("payments:read", "payments:write", "refunds:write"),
    *("batches:write", "webhooks:manage", "events:read"),
)
JSONL = "application/jsonl"


async def batch_shop(stack: Stack, *, raw_cards: bool = True) -> Shop:
    """Return a shop whose key may upload batches."""
    shop = await stack.shop(stack.only_gateway, raw_cards=raw_cards)
    return await stack.with_key(shop, name="batches", scopes=SCOPES)


async def payment_line(stack: Stack, shop: Shop, amount: int = 2500, **over: Any) -> dict[str, Any]:
    """Return a line that pays with a token of its own."""
    token = await mint_token(stack.simulator, shop.login)
    method = {"type": "accept_token", "accept_token": token}
    line = {"operation": "payment", "amount": amount, "currency": "USD", "payment_method": method}
    return line | over


def unused_token(amount: int = 2500, **over: Any) -> dict[str, Any]:
    """Return a line with a token that nobody made: for files that are checked and not run."""
    token = {"data_descriptor": "COMMON.ACCEPT.INAPP.PAYMENT", "data_value": "eyJjb2RlIjoiNTA"}
    method = {"type": "accept_token", "accept_token": token}
    line = {"operation": "payment", "amount": amount, "currency": "USD", "payment_method": method}
    return line | over


def as_jsonl(lines: Sequence[Any]) -> bytes:
    return b"".join(
        line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines
    )


async def upload(
    shop: Shop,
    content: bytes | AsyncIterator[bytes],
    *,
    key: str | None = None,
    kind: str = JSONL,
    coding: str | None = None,
    **query: str,
) -> httpx.Response:
    """Upload a file."""
    return await shop.client.post(
        "/batches",
        content=content,
        params=query,
        headers={"content-type": kind, "idempotency-key": key or str(uuid.uuid4())}
        | ({} if coding is None else {"content-encoding": coding}),
    )


async def uploaded(shop: Shop, lines: Sequence[Any], **more: Any) -> dict[str, Any]:
    """Upload lines that must be accepted; return the batch."""
    answer = await upload(shop, as_jsonl(lines), **more)
    assert answer.status_code == 201, answer.text
    batch: dict[str, Any] = answer.json()
    return batch


async def batch_of(shop: Shop, batch_id: str) -> dict[str, Any]:
    answer = await shop.client.get(f"/batches/{batch_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def becomes(shop: Shop, batch_id: str, state: str, *, within_s: float = 45) -> dict[str, Any]:
    """Wait until a batch has a state."""
    found: dict[str, Any] = {}

    async def is_there() -> bool:
        found.update(await batch_of(shop, batch_id))
        return found["state"] == state

    await until(is_there, within_s=within_s, what=(state, found))
    return found


async def results(shop: Shop, batch_id: str, what: str = "results") -> list[dict[str, Any]]:
    """Return the lines of the results; the last one must say how many they are."""
    answer = await shop.client.get(f"/batches/{batch_id}/{what}", headers={"accept": JSONL})
    assert answer.status_code == 200, answer.text
    *lines, last = [json.loads(line) for line in answer.text.splitlines()]
    assert last == {"lines" if what == "results" else "errors": len(lines)}
    return lines
