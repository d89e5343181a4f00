"""The worker's loop that reconciles each account in its turn, and what the metrics show of it."""

import asyncio
import logging
from typing import Any, Final

from easypay.clock import monotonic
from easypay.db.failures import is_passing
from easypay.payments.model import PaymentKey
from easypay.reconciliation import run, state
from easypay.reconciliation.model import BreakKind
from easypay.reconciliation.run import Reconciliation
from easypay.settings import Settings
from easypay.settlement.purge import purge
from easypay.worker.together import caches_of

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 5.0
"""How soon an account whose books are wanted is read."""
_PURGE_EVERY_S: Final = 86_400.0


class Reconciling:
    """Reads the books of every account, one after the other, each `reconcile_every_s`."""

    def __init__(self, parts: Any) -> None:
        settings: Settings = parts.settings
        self._every_s = settings.reconcile_every_s
        self._years = settings.settlement_years
        self._purge_at = monotonic()
        self._pool = parts.pool
        self._instruments = parts.instruments
        self._caches, self._beside = caches_of(parts)
        self._reconciliation = Reconciliation(
            pool=parts.pool,
            processors=parts.processors,
            directory=parts.directory,
            changed=self._changed,
        )

    def _changed(self, payment: PaymentKey) -> None:
        self._caches.payments_changed([payment])

    async def run(self) -> None:
        """Reconcile until cancelled."""
        async with asyncio.TaskGroup() as group:
            for each in (self._loop, *self._beside):
                group.create_task(each())

    async def _loop(self) -> None:
        while True:
            try:
                await self._show()
                if self._every_s:
                    for account in await run.due(self._pool, self._every_s):
                        await self._one(account)
                    await self._purge()
            except Exception as error:
                if not is_passing(error):
                    raise
                log.warning("reconciliation waits for the database: %s", error)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _purge(self) -> None:
        if monotonic() < self._purge_at:
            return
        self._purge_at = monotonic() + _PURGE_EVERY_S
        if forgotten := await purge(self._pool, years=self._years):
            log.info("forgot %d batches that settled %d years ago", forgotten, self._years)

    async def _one(self, account: bytes) -> None:
        """Reconcile one account. A failure there is its own: the others have their turn."""
        try:
            result = await self._reconciliation.run(account)
        except Exception as error:
            if is_passing(error):
                raise
            self._instruments.reconciliations.add("failed")
            log.exception("reconciling account %s failed", account.hex()[:12])
            return
        if result is not None:
            self._instruments.reconciliations.add("failed" if result.failure else "done")
            await self._show()

    async def _show(self) -> None:
        instruments = self._instruments
        found = {each.kind: each for each in await state.open_by_kind(self._pool)}
        for kind in BreakKind:
            instruments.breaks.set(found[kind].number if kind in found else 0, kind)
        instruments.break_age.set(max((each.oldest_s for each in found.values()), default=0.0))
        accounts = await state.accounts(self._pool)
        ages = [each.age_s for each in accounts if each.retired_at is None]
        instruments.reconciled_age.set(max(ages, default=0.0))
