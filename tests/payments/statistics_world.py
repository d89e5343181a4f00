"""Payments with every kind of life, written as rows at moments of the past, one step at a time.

They lie in October and November of 2023, which have no tables of their own: rows go to the default
ones. Clocks change there in New York, on Lord Howe Island (by half an hour) and in Havana (at
midnight).
"""

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from easypay import ids
from easypay.db.connections import Lane
from easypay.db.partitions import Months
from easypay.events import numbering
from easypay.events.readers import Follower, head
from easypay.merchants import admin
from easypay.payments import seals
from easypay.payments.feed_fold import PAYMENTS

BEGIN = datetime(2023, 9, 30, tzinfo=UTC)
BRANDS = ("visa", "mastercard", None)
CURRENCIES = ("USD", "EUR", "JPY")
CODES = ("insufficient_funds", "expired_card", None)

_PAYMENT = """
    INSERT INTO payments (merchant_id, id, mode, status, amount_minor, currency, capture,
        method_type, card_brand, processor, created_at, updated_at)
    VALUES ($1, $2, $3, 'processing', $4, $5, $6, 'card', $7, 'authorize_net', $8, $8)
"""
_MOVE = """
    UPDATE payments
       SET status = $4, authorized_minor = $5, captured_minor = $6, refunded_minor = $7,
           decline_code = $8, version = version + 1
     WHERE merchant_id = $1 AND mode = $2 AND id = $3
"""
_EVENT = """
    INSERT INTO events (merchant_id, id, payment_id, operation_id, mode, type, status, amount_minor,
        currency, created_at)
    VALUES ($1, $2, $3, $2, $4, $5, $6, $7, $8, $9)
"""


def and_read(variant: str) -> str:
    """Return the statement that numbers and folds the events of a month, `<month> read`."""
    return numbering.and_read(variant.removesuffix(" read"), PAYMENTS)


class Life:
    """One payment, as the database has it."""

    def __init__(self, merchant_id: UUID, mode: str, at: datetime, chance: random.Random) -> None:
        self.merchant_id, self.mode = merchant_id, mode
        self.id = id_at(at, chance)
        self.amount = chance.randrange(100, 10_000)
        self.currency = chance.choice(CURRENCIES)
        self.brand = chance.choice(BRANDS)
        self.capture = chance.choice(("automatic", "manual"))
        self.status = "processing"
        self.authorized = self.captured = self.refunded = 0
        self.code: str | None = None

    def next_event(self, chance: random.Random) -> tuple[str, int] | None:
        """Change as a payment may, at random. Returns the event's type and amount."""
        choices: dict[str, tuple[str, ...]] = {
            "processing": ("approved", "approved", "approved", "declined", "failed", "in_review"),
            "in_review": ("approved", "declined", "voided", "expired"),
            "authorized": ("captured", "voided", "expired", "capture.failed"),
            "captured": ("refunded", "voided", "undone", "refund.failed"),
            "failed": ("nothing", "nothing", "approved"),
        }
        match chance.choice(choices.get(self.status, ("nothing",))):
            case "approved":
                self.authorized = self.amount
                self.captured = self.amount if self.capture == "automatic" else 0
                self.status = "captured" if self.captured else "authorized"
            case "captured":
                self.captured = chance.randrange(1, self.amount)
                self.status = "captured"
                return "payment.captured", self.captured
            case "refunded" if self.refunded < self.captured:
                part = chance.randrange(1, self.captured - self.refunded + 1)
                self.refunded += part
                return "refund.succeeded", part
            case "voided" if not self.refunded:
                self.status, self.captured = "voided", 0
            case "undone" if not self.refunded:
                whole, self.captured, self.status = self.captured, 0, "voided"
                return "refund.succeeded", whole
            case "declined":
                self.status, self.code = "declined", chance.choice(CODES)
            case "failed" | "in_review" | "expired" as status:
                self.status = status
            case "capture.failed" | "refund.failed" as refused:
                return refused, self.amount
            case _:
                return None
        return f"payment.{self.status}", self.amount


def id_at(moment: datetime, chance: random.Random) -> UUID:
    return UUID(int=ids.lowest_id_at(moment).int | 7 << 76 | chance.getrandbits(62))


class World:
    """A database with merchants, and what the leader of the feed does, one step at a time."""

    def __init__(self, dsn: str, pool: Any, seed: int) -> None:
        self.dsn, self.pool = dsn, pool
        self.chance = random.Random(seed)
        self.now = BEGIN
        self.merchants: dict[UUID, str] = {}
        self.lives: list[Life] = []
        self.months = Months()
        self._lane = Lane(dsn, "feed", numbering.in_month, lookups=True)
        self._at_once = Lane(dsn, "feed at once", and_read, lookups=True)
        self._follower = Follower(PAYMENTS, dsn, limit_s=30)
        self._late: list[tuple[Any, Any]] = []

    async def open(self, zones: dict[str, str]) -> "World":
        """Make merchants with these names and time zones."""
        async with self.pool.acquire() as connection:
            for name, zone in zones.items():
                made = await admin.create_merchant(connection, name=name, time_zone=zone)
                self.merchants[made.merchant_id] = zone
            await self.months.load(connection)
            await numbering.note_caught_up(connection)
        await self.passes(timedelta(0))
        return self

    async def close(self) -> None:
        await self.commit()
        await self._lane.close()
        await self._at_once.close()
        await self._follower.close()

    async def passes(self, time: timedelta) -> None:
        """Move the database's clock."""
        self.now += time
        await self.pool.execute(
            "CREATE OR REPLACE FUNCTION db_now() RETURNS timestamptz LANGUAGE sql STABLE"
            f" PARALLEL SAFE RETURN '{self.now.isoformat()}'::timestamptz"
        )

    async def begins(self, runner: Any = None) -> Life:
        """Make a payment that has no outcome yet."""
        chance = self.chance
        life = Life(
            chance.choice([*self.merchants]), chance.choice(("test", "live")), self.now, chance
        )
        self.lives.append(life)
        await (runner or self.pool).execute(
            _PAYMENT,
            *(life.merchant_id, life.id, life.mode, life.amount, life.currency),
            *(life.capture, life.brand, self.now),
        )
        return life

    async def takes(self, merchant_id: UUID, mode: str, at: datetime, capture: str) -> Life:
        """Make a payment that is processed."""
        life = Life(merchant_id, mode, at, self.chance)
        life.capture = capture
        await self.pool.execute(
            _PAYMENT,
            *(life.merchant_id, life.id, life.mode, life.amount, life.currency),
            *(life.capture, life.brand, at),
        )
        return life

    async def moves(self, life: Life, status: str) -> None:
        """Let a payment have this status from now on."""
        life.status = status
        life.authorized = life.amount
        life.captured = life.amount if status == "captured" else 0
        await self.tell(self.pool, life, (f"payment.{status}", life.amount))

    async def happens(self, runner: Any = None) -> None:
        """Make a payment and let it have an outcome, or let something happen to one."""
        runner = runner or self.pool
        chance = self.chance
        if not self.lives or chance.random() < 0.5:
            life = await self.begins(runner)
        else:
            life = chance.choice(self.lives[-60:])
        event = life.next_event(chance)
        if event is None:
            return
        await self.tell(runner, life, event)

    async def tell(self, runner: Any, life: Life, event: tuple[str, int]) -> None:
        """Write what a payment is now, and what happened to it."""
        await runner.execute(
            _MOVE,
            *(life.merchant_id, life.mode, life.id, life.status),
            *(life.authorized, life.captured, life.refunded, life.code),
        )
        await runner.execute(
            _EVENT,
            *(life.merchant_id, id_at(self.now, self.chance), life.id, life.mode, event[0]),
            *(life.status, event[1], life.currency, self.now),
        )

    async def happens_late(self) -> None:
        """The same, in a transaction that ends at `commit`. Nothing else may touch its payment."""
        connection = await asyncpg.connect(self.dsn)
        transaction = connection.transaction()
        await transaction.start()
        before, self.lives = self.lives, []
        await self.happens(connection)
        self.lives = before
        self._late.append((connection, transaction))

    async def commit(self) -> None:
        for connection, transaction in self._late:
            await transaction.commit()
            await connection.close()
        self._late.clear()

    async def number(self) -> None:
        """Give every committed event its number."""
        for mark in await numbering.marks(self.pool):
            done = await numbering.number(self._lane, mark, transactions=1 << 40, most=1 << 40)
            assert done.mark is not None

    async def number_and_fold(self, read_to: int | None = None) -> bool:
        """Give every committed event its number, and fold it in the same statement if everything
        before it is folded. Returns whether all were folded."""
        marks = {mark.month: mark for mark in await numbering.marks(self.pool)}
        done = await numbering.number(
            self._at_once,
            marks["default"],
            transactions=1 << 40,
            most=1 << 40,
            read_to=await self.folded() if read_to is None else read_to,
        )
        assert done.mark is not None
        return done.read is not None or done.events == 0

    async def folded(self) -> int:
        """Return the number of the last event that was folded."""
        folded: int = await self.pool.fetchval(
            "SELECT last_seq FROM feed_readers WHERE name = 'payments'"
        )
        return folded

    async def fold(self) -> None:
        await self._follower.catch_up(self.pool, await head(self.pool))

    async def seal(self) -> None:
        """Seal all that is due, in as many steps as a busy machine needs."""
        all_of_them = seals.Seals()
        while not all_of_them.rests:
            await all_of_them.step(self.pool)
