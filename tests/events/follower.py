"""A client that follows GET /events at two gateways, whatever happens to them."""

import asyncio
from typing import Any

import httpx

from harness import Shop


class Follower:
    """It keeps its cursor, and asks the other gateway if one does not answer."""

    def __init__(self, shops: list[Shop]) -> None:
        self.shops = shops
        self.got: list[dict[str, Any]] = []
        self._params: dict[str, str] = {"limit": "7"}

    async def run(self) -> None:
        """Follow until cancelled."""
        turn = 0
        while True:
            shop = self.shops[turn % 2]
            try:
                answer = await shop.client.get(
                    "/events", params=self._params, headers={"prefer": "wait=1"}
                )
            except httpx.TransportError:
                turn += 1
                await asyncio.sleep(0.05)
                continue
            if answer.status_code != 200:
                assert answer.status_code == 503, answer.text
                turn += 1
                continue
            page = answer.json()
            self.got += page["data"]
            self._params["after"] = page["next_cursor"]
