"""A shop whose account is reconciled, and what its owner does at the processor's own pages."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from easypay import ids
from easypay.db.pool import Pool, open_pool
from easypay.merchants.directory import Directory
from easypay.merchants.vault import Vault
from easypay.processors.authorize_net.integration import AUTHORIZE_NET
from easypay.processors.authorize_net.processor import AuthorizeNet
from easypay.processors.base import (
    Account,
    Approved,
    AuthorizeRequest,
    CaptureRequest,
    Card,
    Deadline,
    Processor,
    RefundRequest,
    VoidRequest,
)
from easypay.reconciliation.run import Reconciliation, Result
from faults.driven_time import DrivenTime
from harness import ENCRYPTION_KEY, Shop, Stack

DAY_S = 86_400.0
VISA = "4111111111111111"


class WholeTime(DrivenTime):
    """Moves the gateway's own clock, too, so that what begins weeks later has the ids of that day.
    Time does not go back between the tests of a module."""

    def __init__(self, stack: Stack, clock_file: Path) -> None:
        super().__init__(stack)
        self._clock_file = clock_file
        self.passed_s = 0.0

    async def advance(self, seconds: float, **more: Any) -> None:
        self.passed_s += seconds
        with self._clock_file.open("r+b") as file:
            file.write(int(self.passed_s * 1000).to_bytes(8, "little", signed=True))
        await super().advance(seconds, **more)


class Portal:
    """The processor's own pages: whoever has the account can take and return money there."""

    def __init__(self, processor: AuthorizeNet, account: Account) -> None:
        self._processor = processor
        self._account = account

    async def charge(self, minor: int, invoice: str = "", **over: Any) -> str:
        """Charge a card; returns the transaction's id."""
        outcome = await self._processor.authorize(
            AuthorizeRequest(
                account=self._account,
                reference=invoice or "INV-0001",
                amount_minor=minor,
                currency="USD",
                method=Card(number=over.pop("number", VISA), exp_month=12, exp_year=2035),
                **{"capture": True} | over,
            ),
            _soon(),
        )
        assert isinstance(outcome, Approved), outcome
        return outcome.transaction_id

    async def refund(self, transaction_id: str, minor: int, invoice: str = "INV-0002") -> str:
        outcome = await self._processor.refund(
            RefundRequest(
                account=self._account,
                reference=invoice,
                transaction_id=transaction_id,
                amount_minor=minor,
                currency="USD",
                card_last4="1111",
            ),
            _soon(),
        )
        assert isinstance(outcome, Approved), outcome
        return outcome.transaction_id

    async def void(self, transaction_id: str) -> None:
        request = VoidRequest(
            account=self._account, reference="INV-0003", transaction_id=transaction_id
        )
        assert isinstance(await self._processor.void(request, _soon()), Approved)

    async def capture(self, transaction_id: str, minor: int) -> None:
        request = CaptureRequest(
            account=self._account,
            reference="INV-0004",
            transaction_id=transaction_id,
            amount_minor=minor,
            currency="USD",
        )
        assert isinstance(await self._processor.capture(request, _soon()), Approved)


def _soon() -> Deadline:
    return Deadline(monotonic() + 5)


class Reconciled:
    """The shop, its account's books and the differences that were found."""

    def __init__(
        self, stack: Stack, time: WholeTime, shop: Shop, pool: Pool, processor: AuthorizeNet
    ) -> None:
        self.stack = stack
        self.time = time
        self.shop = shop
        self.pool = pool
        account = AUTHORIZE_NET.account(
            "test",
            {"login_id": shop.login, "transaction_key": "simulated-key-1"},
            stack.simulator.wire,
        )
        self.portal = Portal(processor, account)
        self._directory = Directory(
            pool, Vault(ENCRYPTION_KEY), {AUTHORIZE_NET.name: AUTHORIZE_NET}, lease_s=1.0
        )
        self.reconciliation = self.reading(processor)

    def reading(self, processor: Processor) -> Reconciliation:
        """Return what reconciles with the books of a processor's client."""
        return Reconciliation(
            pool=self.pool,
            processors={AUTHORIZE_NET.name: processor},
            directory=self._directory,
        )

    @classmethod
    @asynccontextmanager
    async def opened(cls, stack: Stack, time: WholeTime, shop: Shop) -> AsyncIterator["Reconciled"]:
        pool = await open_pool(stack.dsn, size=4)
        processor = AuthorizeNet()
        yield cls(stack, time, shop, pool, processor)
        await processor.close()
        await pool.close()

    @property
    def env(self) -> dict[str, str]:
        """Return the environment of a command."""
        return self.stack.env | {"EASYPAY_AUTHORIZE_NET_TEST_URL": self.stack.simulator.wire}

    async def account(self) -> bytes:
        found: bytes = await self.stack.value(
            "SELECT account FROM processor_logins WHERE merchant_id = $1", self.shop.merchant_id
        )
        return found

    async def transaction(self, payment: dict[str, Any]) -> str:
        """Return the processor's transaction of a payment."""
        found: str = await self.stack.value(
            "SELECT transaction_id FROM payments WHERE merchant_id = $1 AND id = $2",
            self.shop.merchant_id,
            ids.parse(ids.PAYMENT, payment["id"]),
        )
        return found

    async def reference(self, payment: dict[str, Any]) -> str:
        """Return the reference of the operation that created a payment."""
        found: str = await self.stack.value(
            "SELECT reference FROM operations WHERE merchant_id = $1 AND payment_id = $2"
            " AND kind IN ('sale', 'authorize')",
            self.shop.merchant_id,
            ids.parse(ids.PAYMENT, payment["id"]),
        )
        return found

    async def settle(self) -> None:
        """Let the processor settle, and time pass."""
        await self.stack.simulator.post("/settle")
        await self.time.advance(3600)

    async def run(self) -> Result:
        """Reconcile; it must succeed."""
        result = await self.reconciliation.run(await self.account())
        assert result is not None
        assert result.failure is None, result
        return result

    async def breaks(self, *columns: str, state: str = "open") -> list[tuple[Any, ...]]:
        """Return these columns of the shop's differences, by kind and subject."""
        rows = await self.stack.fetch(
            f"SELECT {', '.join(columns or ('kind', 'transaction_id'))} FROM reconciliation_breaks"
            " WHERE account = $1 AND state = $2 ORDER BY kind, subject",
            await self.account(),
            state,
        )
        return [tuple(row) for row in rows]

    async def everything(self) -> list[tuple[Any, ...]]:
        """Return every row that reconciliation wrote, without the times of its runs."""
        account = await self.account()
        found: list[tuple[Any, ...]] = []
        for table in ("reconciliation_breaks", "settled_transactions", "settlement_changes"):
            found += map(
                tuple,
                await self.stack.fetch(
                    f"SELECT t.*, t.xmin::text FROM {table} t WHERE account = $1 ORDER BY 1, 2, 3",
                    account,
                ),
            )
        return found
