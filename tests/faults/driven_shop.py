"""A shop on a stack whose time is driven, and its payments with lost replies."""

from typing import Any

from faults.driven_time import DrivenTime
from harness import WIRE_TYPE, Shop, Stack, audit

LATE: dict[str, Any] = {"delay_ms": 3_000_000, "by_clock": True}
"""Comes long after absence is believed and before the watch looks a second time."""
HOURS = {"step_s": 300, "at_most_s": 3 * 3600}


class DrivenShop:
    def __init__(self, world: Stack, time: DrivenTime, shop: Shop) -> None:
        self.world = world
        self.time = time
        self.shop = shop

    async def inject(self, fault: str, kind: str = "sale", **more: Any) -> None:
        """Make the shop's next call of this kind meet the fault."""
        kind = WIRE_TYPE[kind]
        await self.world.simulator.fault(fault, self.shop.login, transaction_type=kind, **more)

    async def lost(self, fault: str, **more: Any) -> str:
        """Make a sale of 25.00 that meets the fault; return its id."""
        await self.inject(fault, **more)
        answer = await self.shop.pay(2500)
        assert answer.status_code == 202, answer.text
        payment_id: str = answer.json()["id"]
        return payment_id

    async def lost_capture(self, fault: str, **more: Any) -> dict[str, Any]:
        """Return an authorization whose capture of 20.00 met a fault and was called absent."""
        held = await self.shop.paid(2500, capture="manual")
        await self.inject(fault, "capture", **more)
        assert (await self.shop.capture(held["id"], 2000)).status_code == 202
        await self.absent(held["id"], "capture")
        return held

    async def absent(self, payment_id: str, kind: str = "sale") -> dict[str, Any]:
        """Drive time until the payment's operation of this kind is called absent; return it."""
        operation = await self.operation(payment_id, kind)

        async def absent() -> bool:
            sql = "SELECT state FROM operations WHERE merchant_id = $1 AND reference = $2"
            rows = await self.world.fetch(sql, self.shop.merchant_id, operation["reference"])
            return bool(rows[0]["state"] == "absent")

        await self.time.until(absent, step_s=400, at_most_s=4000, what=f"{kind} called absent")
        return operation

    async def pass_late_delay(self) -> None:
        """Drive time until a LATE charge has come and the watch has looked once in vain."""
        await self.time.advance(700)
        await self.time.settles()
        await self.time.advance(1400)

    async def status(self, payment_id: str) -> str:
        found: str = (await self.shop.payment(payment_id))["status"]
        return found

    async def becomes(self, payment_id: str, status: str, **limits: float) -> None:
        """Drive time until the payment has this status."""

        async def has_status() -> bool:
            return await self.status(payment_id) == status

        await self.time.until(has_status, **{**HOURS, **limits})

    async def operation(self, payment_id: str, kind: str) -> dict[str, Any]:
        rows = await self.shop.all(f"/payments/{payment_id}/operations")
        return next(row for row in rows if row["kind"] == kind)

    async def events(self, payment_id: str) -> list[str]:
        return [event["type"] for event in await self.shop.all(f"/payments/{payment_id}/events")]

    async def late_charge(self) -> dict[str, Any] | None:
        sql = "SELECT * FROM late_charges WHERE merchant_id = $1"
        rows = await self.world.fetch(sql, self.shop.merchant_id)
        return dict(rows[0]) if rows else None

    async def late_charge_ends(self) -> dict[str, Any]:
        """Drive time until the shop's late charge is no longer being given back; return it."""

        async def ended() -> dict[str, Any] | None:
            row = await self.late_charge()
            return row if row is not None and row["state"] != "returning" else None

        found: dict[str, Any] = await self.time.until(ended, **HOURS)
        return found

    async def net_charged(self) -> int:
        """Return how many transactions of the shop hold or took money at the processor."""
        rows = await self.world.simulator.truth(login=self.shop.login)
        charges = (WIRE_TYPE["sale"], WIRE_TYPE["authorize"])
        given_up = ("voided", "expired", "declined")
        taken = [r for r in rows if r["type"] in charges and r["status"] not in given_up]
        return len(taken) - sum(row["type"] == WIRE_TYPE["refund"] for row in rows)

    async def charged(self) -> bool:
        return await self.net_charged() == 1

    async def captured_there(self) -> bool:
        """Return whether the processor says that the authorization was captured."""
        rows = await self.world.simulator.truth(login=self.shop.login)
        return any(row["status"] == "capturedPendingSettlement" for row in rows)

    async def audit(self, **more: Any) -> list[str]:
        return await audit(self.world, self.shop, **more)
