"""Whether notifications arrive: a missed one is noticed, although nothing depends on it.

For each account whose notifications were ordered, the processor is asked now and then whether it
still sends them: after ten failures it stops by itself and tells nobody. And of the charges that
were approved some minutes ago, those are counted of which nothing was told.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

from easypay.clock import monotonic
from easypay.merchants.directory import Directory
from easypay.notifications import store
from easypay.notifications.accounts import shown
from easypay.notifications.store import Watched
from easypay.processors.base import Account, Deadline, Processors
from easypay.processors.notifications import Webhook, WebhooksUnanswered, webhooks_of

log = logging.getLogger(__name__)

EVERY_S: Final = 300.0
PATIENCE_S: Final = 600.0
"""How long after a charge its notification may come."""
_MOST: Final = 1_000
"""Charges of one merchant that are looked at in one look; of more, these stand for the others."""
_QUESTION_S: Final = 20.0
_AT_ONCE: Final = 50

State = Literal["active", "inactive", "missing"]
Counted = Callable[[str, int], None]
"""Called with `came` or `missed`, and of how many charges."""


class Watch:
    """Looks at the accounts that are due. Any number of processes may do so."""

    def __init__(
        self,
        pool: Any,
        directory: Directory,
        processors: Processors,
        counted: Counted,
        *,
        every_s: float = EVERY_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._pool = pool
        self._directory = directory
        self._processors = processors
        self._counted = counted
        self._every_s = every_s
        self._patience_s = patience_s

    async def step(self) -> int:
        """Look at the accounts that are due, one after another. Returns how many."""
        for done in range(_AT_ONCE):
            watched = await store.claim_webhook(
                self._pool, every_s=self._every_s, patience_s=self._patience_s
            )
            if watched is None:
                return done
            await self._look(watched)
        return _AT_ONCE

    async def _look(self, watched: Watched) -> None:
        state = await self._state(watched)
        looked, missed = await store.missed(self._pool, watched, _MOST)
        await store.checked(self._pool, watched, state or watched.state, looked, len(missed))
        self._counted("came", looked - len(missed))
        self._counted("missed", len(missed))
        if missed:
            log.error(
                "the processor has told nothing of %d of %d charges of the account %s, such as %s",
                len(missed),
                looked,
                shown(watched.account),
                missed[0],
            )

    async def _state(self, watched: Watched) -> State | None:
        """Ask the processor for the state of an account's webhook. None: it did not answer."""
        login = await self._directory.login_of_account(watched.account)
        if login is None:
            return None
        listed = await _registered(self._processors, login.account)
        if isinstance(listed, WebhooksUnanswered):
            log.warning(
                "the webhook of the account %s is not known: %s",
                shown(watched.account),
                listed.reason,
            )
            return None
        found = next((each for each in listed if each.id == watched.webhook_id), None)
        state: State = "missing" if found is None else "active" if found.active else "inactive"
        if state != "active":
            log.error(
                "the processor sends no notifications of the account %s: its webhook is %s; run "
                "`easypay processor register-webhooks` again",
                shown(watched.account),
                state,
            )
        return state


async def _registered(
    processors: Processors, account: Account
) -> Sequence[Webhook] | WebhooksUnanswered:
    webhooks = webhooks_of(processors[account.processor])
    if webhooks is None:
        return WebhooksUnanswered(f"{account.processor} has no webhooks")
    return await webhooks.registered(account, Deadline(monotonic() + _QUESTION_S))
