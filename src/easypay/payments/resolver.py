"""Resolves every unknown outcome: asks the processor until there is proof.

- Found: the outcome is recorded like any reply.
- Proven absent (`absence_rules`): the operation never happened. The payment fails, or is free for
  other operations again, and the evidence is stored. It stays watched (`watched_operations`).
- Anything else: the operation stays as it is, is counted, and is asked about again.

An operation that is held for review is not unknown. It is polled rarely, until somebody at the
processor decides or it expires. The processor has shown it, so absence proves nothing about it.

Work comes from `unresolved_operations`: a row is written with every unknown or held operation, and
the sweep adds rows for operations whose process died between begin and record. It is done account
by account (`account_pass`). Any number of processes may run this: one at a time reads an account.
Each chore runs by itself: one that fails or waits stops no other.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final
from uuid import UUID

from easypay import clock, ids
from easypay.clock import monotonic, rfc3339
from easypay.db.failures import is_passing
from easypay.merchants.directory import Directory
from easypay.merchants.vault import VaultError
from easypay.mode import MODE, Mode
from easypay.payments import account_lease, authorization_expiry
from easypay.payments import resolver_rows as store
from easypay.payments.absence_rules import Schedule
from easypay.payments.account_pass import AccountPass, Ended, Times
from easypay.payments.inquiries import MAYBE_SENT, request_of, without_decision
from easypay.payments.late_charges import LateCharges
from easypay.payments.model import PaymentKey, State
from easypay.payments.orphan_sweep import Sweep
from easypay.payments.outcome_changes import NEVER_SENT, NEVER_SENT_FINDING, Evidence
from easypay.payments.resolver_rows import AccountWork, Case
from easypay.payments.statements import Recorder
from easypay.payments.watched_operations import Watching
from easypay.processors.base import Account, Deadline, Found, HeldForReview, Processors

log = logging.getLogger(__name__)

SENT_MARGIN_S: Final = 2.0
_LEASE_S: Final = 18.0
"""How long a dead process keeps others from its accounts. Longer than a statement may take, so that
a slow renewal does not lose the lease."""
_RENEW_S: Final = 3.0
_ACCOUNTS_AT_ONCE: Final = 256
_FILL: Final = 5_000
_NOT_SENT: Final = 512
_SOON_DEADLINE_S: Final = 5.0
"""For an inquiry that a request waits for."""
_SOON_AT_ONCE: Final = 4
_LONGEST_S: Final = 300.0
_PAUSE_S: Final = 5.0
"""After a failed chore."""
_EXPIRY_EVERY_S: Final = 60.0
_CLOCK_EVERY_S: Final = 60.0
_LONGEST_PAUSE_S: Final = 1_200.0
"""Longer than the pauses between inquiries are, with the usual settings."""


class Resolver:
    """Asks about unresolved operations, on a schedule and on demand."""

    def __init__(
        self,
        *,
        pool: Any,
        recorder: Recorder,
        processors: Processors,
        directory: Directory,
        deadline_s: float,
        first_inquiry_s: float,
        interval_s: float,
        gap_s: float,
        absent_after_s: float,
        not_sent_s: float,
        review_interval_s: float,
        poll_s: float,
    ) -> None:
        self._pool = pool
        self._recorder = recorder
        self._processors = processors
        self._directory = directory
        self._not_sent_s = not_sent_s
        pauses = (
            *(first_inquiry_s, interval_s, gap_s, absent_after_s, not_sent_s),
            review_interval_s,
        )
        self._longest_s = max(_LONGEST_PAUSE_S, 2 * max(pauses))
        self._poll_s = poll_s
        self._holder = ids.new_id()
        self._rounds: dict[AccountWork, asyncio.Task[None]] = {}
        self._soon = asyncio.Semaphore(_SOON_AT_ONCE)
        self._old_authorizations = authorization_expiry.Sweep(pool)
        self._reminders = authorization_expiry.Reminders(pool)
        call_s = deadline_s + min(SENT_MARGIN_S, deadline_s)
        self._sweep = Sweep(pool, abandoned_after_s=call_s)
        late = LateCharges(
            pool=pool, recorder=recorder, processors=processors, call_deadline_s=deadline_s
        )
        self._late = late
        self._pass = AccountPass(
            pool=pool,
            recorder=recorder,
            processors=processors,
            late=late,
            watching=Watching(
                pool=pool, processors=processors, late=late, changed=recorder.changed
            ),
            schedule=Schedule(call_s=call_s, gap_s=gap_s, absent_after_s=absent_after_s),
            times=Times(
                interval_s=interval_s,
                review_interval_s=review_interval_s,
                longest_s=min(_LONGEST_S, max(interval_s, absent_after_s / 3)),
            ),
        )

    @property
    def inconclusive(self) -> int:
        """How many inquiries proved nothing."""
        return self._pass.inconclusive

    @property
    def found_late(self) -> int:
        """How many operations were found after they had been called absent."""
        return self._late.found_late

    async def run(self) -> None:
        """Run every chore again and again until cancelled."""
        chores: tuple[tuple[str, Callable[[], Awaitable[object]], float], ...] = (
            ("sweep", self._sweep.step, self._poll_s),
            ("accounts", self.start_rounds, self._poll_s),
            ("not sent", self.end_not_sent, self._poll_s),
            ("authorizations", self._old_authorizations.step, _EXPIRY_EVERY_S),
            ("clock", self.mind_the_clock, _CLOCK_EVERY_S),
            ("reminders", self._reminders.step, _EXPIRY_EVERY_S),
        )
        try:
            async with asyncio.TaskGroup() as group:
                for name, chore, every_s in chores:
                    group.create_task(_repeat(name, chore, every_s))
        finally:
            rounds = list(self._rounds.values())
            for task in rounds:
                task.cancel()
            await asyncio.gather(*rounds, return_exceptions=True)

    # account by account ------------------------------------------------------------------------

    async def start_rounds(self) -> int:
        """Start a separate round at every account with due work. Returns how many were started."""
        await self._fill_accounts()
        room = _ACCOUNTS_AT_ONCE - len(self._rounds)
        if room <= 0:
            return 0
        begun = 0
        for work in await account_lease.due(self._pool, room + len(self._rounds)):
            if work not in self._rounds and len(self._rounds) < _ACCOUNTS_AT_ONCE:
                task = asyncio.create_task(self._round(work))
                self._rounds[work] = task
                task.add_done_callback(partial(self._round_over, work))
                begun += 1
        return begun

    async def _fill_accounts(self) -> None:
        """Set the account of open operations. Payments of older versions have the current one."""
        unknown = await account_lease.fill_accounts(self._pool, _FILL)
        by_account: dict[tuple[UUID, Mode, str], list[store.Id]] = defaultdict(list)
        for merchant_id, operation_id, mode, processor in unknown:
            by_account[merchant_id, MODE[mode], processor].append((merchant_id, operation_id))
        for of, operations in by_account.items():
            try:
                login = await self._directory.current_login(*of)
            except VaultError as error:  # concerns one merchant; the others go on
                log.error("a processor account cannot be opened: %s", error)
                login = None
            account = account_lease.NO_ACCOUNT if login is None else login.digest
            await account_lease.set_account(self._pool, operations, account)

    async def _round(self, work: AccountWork) -> None:
        """Run one round at one account. A failure is logged, and the round is tried again."""
        try:
            if not await account_lease.lease(self._pool, work, self._holder, _LEASE_S):
                return
            renewing = asyncio.create_task(self._renew(work))
            try:
                await self._pass.run(work, await self._account(work.account))
            finally:
                renewing.cancel()
                await account_lease.release(self._pool, work, self._holder)
        except Exception as error:
            log.error(
                "a round of inquiries failed: %s: %s",
                *(type(error).__name__, error),
                exc_info=not is_passing(error),
            )
            await asyncio.sleep(self._poll_s)

    def _round_over(self, work: AccountWork, _: object) -> None:
        del self._rounds[work]

    async def _renew(self, work: AccountWork) -> None:
        while True:
            await asyncio.sleep(_RENEW_S)
            try:
                if not await account_lease.lease(self._pool, work, self._holder, _LEASE_S):
                    log.warning(
                        "the lease of a processor account is lost: another process reads it too"
                    )
                    return
            except Exception as error:
                log.warning(
                    "a lease was not renewed: %s: %s",
                    *(type(error).__name__, error),
                    exc_info=not is_passing(error),
                )

    async def _account(self, key: bytes) -> Account | None:
        login = await self._directory.login_of_account(key)
        return None if login is None else login.account

    # never sent --------------------------------------------------------------------------------

    async def end_not_sent(self) -> int:
        """End operations that were never sent and not repeated. That is proven: no inquiry needed.

        Returns how many were ended.
        """
        ended = 0
        while claimed := await store.claim_not_sent(self._pool, _NOT_SENT):
            due: list[Case] = []
            over: list[Case] = []
            again: list[Case] = []
            for case in claimed:
                if case.state is State.NOT_SENT:
                    due.append(case)
                else:  # repeated meanwhile
                    (again if case.state in MAYBE_SENT else over).append(case)
            await store.close(self._pool, over)
            await store.ask_about(self._pool, again)
            rows = await store.rows_of(self._pool, due)
            # An operation repeated since the claim may be under way: it is no longer proven unsent.
            due = [case for case in due if rows[case.id][0].state is State.NOT_SENT]
            evidence = Evidence(
                source="inquiry",
                finding=NEVER_SENT_FINDING,
                inquiries=1,
                at=rfc3339(clock.now()),
            )
            recorded = await asyncio.gather(
                *(
                    self._recorder.record(*rows[case.id], NEVER_SENT, evidence=evidence)
                    for case in due
                ),
                return_exceptions=True,
            )
            finished = [
                case
                for case, result in zip(due, recorded, strict=True)
                if not isinstance(result, BaseException) and result.state not in store.STILL_OPEN
            ]
            for result in recorded:
                if isinstance(result, BaseException):
                    log.error("an operation that was never sent cannot be ended: %s", result)
            await store.close(self._pool, finished)
            ended += len(finished)
        return ended

    async def mind_the_clock(self) -> None:
        """Let no inquiry wait for an hour that has come already, if the database's clock is set
        back."""
        count = await store.mind_the_clock(self._pool, self._longest_s)
        await account_lease.mind_the_clock(self._pool, 2 * _LEASE_S)
        if count:
            log.warning(
                "inquiries about %d operations were due in the far future, and are due now: the "
                "database's clock was set back",
                count,
            )

    # on demand ---------------------------------------------------------------------------------

    async def resolve_payment(self, key: PaymentKey) -> bool:
        """Ask now about every open operation of a payment, and record the outcomes that are found.
        Proof of absence still takes its time.

        Returns whether any was ended, so that the caller may try again.
        """
        ended = False
        for case in await store.cases_of_payment(self._pool, key.merchant_id, key.payment_id):
            async with self._soon:
                try:
                    ended = await self._ask_now(case) or ended
                except Exception as error:
                    log.error(
                        "operation %s was not asked about: %s: %s",
                        *(case.reference, type(error).__name__, error),
                        exc_info=not is_passing(error),
                    )
        return ended

    async def _ask_now(self, case: Case) -> bool:
        if case.state is State.NOT_SENT:
            return False  # no inquiry is needed; it ends by itself
        if case.state not in (*MAYBE_SENT, State.HELD):
            await store.close(self._pool, [case])
            return True
        if case.held and case.active_operation is not None:
            return False
        account = await self._account_of(case)
        if account is None:
            return False
        finding = without_decision(
            case,
            await self._processors[account.processor].inquire(
                request_of(case, account), Deadline(monotonic() + _SOON_DEADLINE_S)
            ),
        )
        if not isinstance(finding, Found):
            return False
        if case.held and isinstance(finding.outcome, HeldForReview):
            return False
        rows = await store.rows_of(self._pool, [case])
        operation, payment = rows[case.id]
        found = Ended(case, finding.outcome, f"found: {finding.evidence}")
        if await self._pass.end(found, operation, payment):
            await store.close(self._pool, [case])
            return True
        return False

    async def _account_of(self, case: Case) -> Account | None:
        login = (
            await self._directory.current_login(case.merchant_id, case.mode, case.processor)
            if case.login_id is None
            else await self._directory.login(case.merchant_id, case.login_id)
        )
        return None if login is None else login.account


async def _repeat(name: str, chore: Callable[[], Awaitable[object]], every_s: float) -> None:
    while True:
        try:
            await chore()
        except Exception as error:
            log.warning(
                "the resolver's chore %r failed: %s: %s",
                *(name, type(error).__name__, error),
                exc_info=not is_passing(error),
            )
            await asyncio.sleep(min(_PAUSE_S, 10 * every_s))
        await asyncio.sleep(every_s)
