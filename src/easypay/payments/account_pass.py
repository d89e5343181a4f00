"""One round over the open and watched operations of one processor account.

Sales, authorizations and refunds are transactions of their own: the account's lists are read once
to find all of them. Captures, voids and reviews change a parent transaction, which is asked about.
An outcome that is found is recorded during the round; what was not found is judged by
`absence_rules` at its end.

A round covers one account only, so a slow account delays no other.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from easypay import clock, ids
from easypay.clock import monotonic, rfc3339
from easypay.db.failures import is_passing
from easypay.observed import observed
from easypay.payments import absence_rules, account_lease, witnesses
from easypay.payments import resolver_rows as store
from easypay.payments.absence_rules import Look, Schedule
from easypay.payments.inquiries import LISTED, MAYBE_SENT, request_of, without_decision
from easypay.payments.late_charges import LateCharges
from easypay.payments.model import Operation, Payment, State
from easypay.payments.outcome_changes import Evidence, Learned
from easypay.payments.resolver_rows import AccountWork, Case, Missed
from easypay.payments.statements import Recorder
from easypay.payments.watched_operations import Watching
from easypay.processors.base import (
    Absent,
    Account,
    Approved,
    Deadline,
    Finding,
    Found,
    HeldForReview,
    Inconclusive,
    PassRequest,
    Processors,
)

log = logging.getLogger(__name__)

MOST_CASES: Final = 20_000
"""Most operations looked for in one round: new ones first, then the longest waiting."""
_DETAILS_AT_ONCE: Final = 8
_ROUND_S: Final = 240.0
"""Time limit of a round. The next round takes up the rest."""
_PARENTS_S: Final = 30.0
"""Time limit for asking about parent transactions, one by one. The rest stays due."""
_QUESTION_S: Final = 20.0
_GROUP: Final = 256
"""Outcomes recorded together."""
_BATCHES_REMEMBERED: Final = 500


class Times(NamedTuple):
    """When to ask again, in seconds."""

    interval_s: float
    review_interval_s: float
    longest_s: float


class DatabaseClock:
    """The database's clock: read once, then advanced by this machine's clock."""

    def __init__(self, moment: datetime) -> None:
        self._moment, self._read_at = moment, monotonic()

    def now(self) -> datetime:
        """Return the time of the clock that stamps operations; never ahead of it."""
        return self._moment + timedelta(seconds=monotonic() - self._read_at)


class Ended(NamedTuple):
    """What a round learned about one case."""

    case: Case
    learned: Learned
    why: str


class AccountPass:
    """Runs rounds over accounts."""

    def __init__(
        self,
        *,
        pool: Any,
        recorder: Recorder,
        processors: Processors,
        late: LateCharges,
        watching: Watching,
        schedule: Schedule,
        times: Times,
    ) -> None:
        self._pool = pool
        self._recorder = recorder
        self._processors = processors
        self._late = late
        self._watching = watching
        self._schedule = schedule
        self._times = times
        self.inconclusive = 0

    @observed("a pass over an account's lists")
    async def run(self, work: AccountWork, account: Account | None) -> None:
        """Look once for everything that is due. `account` is None if it cannot be used."""
        key = work.account
        db_clock = DatabaseClock(await self._pool.fetchval("SELECT db_now()"))
        open_cases = await store.open_cases(self._pool, work, MOST_CASES)
        watched = await store.watched_cases(self._pool, work, MOST_CASES)
        if account is None:
            reason = "the processor account cannot be used any more"
            both = [*open_cases, *watched]
            await store.postpone(self._pool, [self._retry(case, reason) for case in both])
            if key == account_lease.NO_ACCOUNT:  # the merchant may have one by the next look
                await account_lease.forget_account(self._pool, open_cases)
            return
        states = (*MAYBE_SENT, State.NOT_SENT, State.HELD)
        await store.close(self._pool, [case for case in open_cases if case.state not in states])
        await store.not_sent(
            self._pool, [case for case in open_cases if case.state is State.NOT_SENT]
        )
        asked = [case for case in open_cases if case.state in (*MAYBE_SENT, State.HELD)]
        watched, others = await self._watching.due(watched, account)
        wanted: list[Case] = []
        parents: list[Case] = []
        for case in [*asked, *watched]:
            (wanted if case.kind in LISTED and not case.held else parents).append(case)
        endings: asyncio.Queue[Ended | None] = asyncio.Queue(maxsize=4 * _GROUP)
        writer = asyncio.create_task(self._write(key, endings))
        try:
            # If one fails the others still finish, so that none goes on after the lease has ended.
            looks = await asyncio.gather(
                self._look_in_lists(key, account, wanted, db_clock, endings),
                self._ask_parents(account, parents, db_clock, endings),
                self._watching.see_to(others, account),
                return_exceptions=True,
            )
            await endings.put(None)
            await writer
        finally:
            writer.cancel()  # if the round itself was cancelled
        failed = [look for look in looks if isinstance(look, BaseException)]
        missed = [each for look in looks if not isinstance(look, BaseException) for each in look]
        await store.postpone(self._pool, missed)
        if failed:
            raise failed[0]

    # lists -------------------------------------------------------------------------------------

    async def _look_in_lists(
        self,
        key: bytes,
        account: Account,
        wanted: Sequence[Case],
        db_clock: DatabaseClock,
        endings: "asyncio.Queue[Ended | None]",
    ) -> list[Missed]:
        if not wanted:
            return []
        by_reference = {case.reference: case for case in wanted}
        first_ended = min(self._call_ended(case) for case in wanted)
        known = await witnesses.newest_known(self._pool, key, _id_from(first_ended))
        began_at = db_clock.now()

        async def on_found(reference: str, finding: Finding) -> None:
            if isinstance(finding, Found):
                case = by_reference[reference]
                await endings.put(Ended(case, finding.outcome, f"found: {finding.evidence}"))

        passed = await self._processors[account.processor].look(
            PassRequest(
                account=account,
                now_ms=int(began_at.timestamp() * 1000),
                wanted=[request_of(case, account) for case in wanted],
                searched={
                    case.reference: frozenset(case.searched) for case in wanted if case.searched
                },
            ),
            Deadline(monotonic() + _ROUND_S),
            on_found=on_found,
        )
        ended_at = db_clock.now()
        found = [
            case.begun_at
            for case in wanted
            if isinstance(finding := passed.findings[case.reference], Found)
            and isinstance(finding.outcome, Approved)
        ]
        listed = await witnesses.newest_listed(
            self._pool, key, [bounds for text in passed.listed if (bounds := _bounds(text))]
        )
        caught_up = max([*found, *([] if listed is None else [listed])], default=None)
        look = Look(began_at, ended_at, caught_up, known)
        missed: list[Missed] = []
        for case in wanted:
            finding = passed.findings[case.reference]
            searched = sorted({*case.searched, *passed.batches})[-_BATCHES_REMEMBERED:]
            match finding:
                case Absent():
                    missed += await self._missed(case, look, finding, endings, searched)
                case Inconclusive():
                    self.inconclusive += 1
                    missed.append(self._retry(case, finding.reason))
                case Found():
                    pass
        return missed

    # parents -----------------------------------------------------------------------------------

    async def _ask_parents(
        self,
        account: Account,
        parents: Sequence[Case],
        db_clock: DatabaseClock,
        endings: "asyncio.Queue[Ended | None]",
    ) -> list[Missed]:
        room = asyncio.Semaphore(_DETAILS_AT_ONCE)
        ends = monotonic() + _PARENTS_S

        async def one(case: Case) -> list[Missed]:
            async with room:
                if monotonic() >= ends:
                    return []  # still due: the next round takes it
                return await self._ask_parent(account, case, db_clock, endings)

        return [each for some in await asyncio.gather(*map(one, parents)) for each in some]

    async def _ask_parent(
        self,
        account: Account,
        case: Case,
        db_clock: DatabaseClock,
        endings: "asyncio.Queue[Ended | None]",
    ) -> list[Missed]:
        if case.held and case.status != "in_review":  # voided, or decided by another operation
            await store.close(self._pool, [case])
            return []
        if case.held and case.active_operation is not None:
            return [self._retry(case, "another operation has the payment")]
        began_at = db_clock.now()
        finding = await self._processors[account.processor].inquire(
            request_of(case, account), Deadline(monotonic() + _QUESTION_S)
        )
        finding = without_decision(case, finding)
        match finding:
            case Found() if case.held and isinstance(finding.outcome, HeldForReview):
                return [self._retry(case, "still held for review")]
            case Found():
                await endings.put(Ended(case, finding.outcome, f"found: {finding.evidence}"))
                return []
            case Absent() if case.held:
                log.error("operation %s is held for review but was not found", case.reference)
                return [self._retry(case, f"absent from {finding.searched}")]
            case Absent():
                look = Look(began_at, db_clock.now())
                return await self._missed(case, look, finding, endings, case.searched)
            case Inconclusive():
                self.inconclusive += 1
                return [self._retry(case, finding.reason)]

    # not found ---------------------------------------------------------------------------------

    async def _missed(
        self,
        case: Case,
        look: Look,
        finding: Absent,
        endings: "asyncio.Queue[Ended | None]",
        searched: list[str],
    ) -> list[Missed]:
        """Record a case as absent if that is proven; otherwise return when to look again."""
        if case.purpose is not None:
            return [self._watching.missed(case, f"absent from {finding.searched}", searched)]
        ended = self._call_ended(case)
        listed = case.kind in LISTED
        if absence_rules.is_absent(
            ended, case.absent_from, case.absent_to, look, self._schedule, listed=listed
        ):
            why = "a newer charge is listed" if look.caught_up_to and listed else "time has passed"
            await endings.put(
                Ended(case, finding, f"absent: no charge was found in {finding.searched}; {why}")
            )
            return []
        if listed and absence_rules.misses_its_witness(ended, look):
            searched = []  # it may be in a batch that was skipped: the next pass reads all again
        first_from, first_to = case.absent_from, case.absent_to
        if first_from is None or first_from < ended:
            counts = absence_rules.counts(ended, look)
            first_from, first_to = (look.began_at, look.ended_at) if counts else (None, None)
        again_in_s = self._delay_s(case)
        if first_to is not None and first_to == look.ended_at:
            again_in_s = self._schedule.gap_s * 1.02  # the second pass, as early as it counts
        elif first_to is None:
            again_in_s = min(again_in_s, max(0.0, (ended - look.ended_at).total_seconds()) + 0.05)
        return [
            Missed(
                case,
                again_in_s,
                f"absent from {finding.searched}",
                first_from,
                first_to,
                searched if first_to is not None else [],
            )
        ]

    def _retry(self, case: Case, finding: str) -> Missed:
        """Return when to look again for a case about which nothing was learned."""
        if case.purpose is not None:
            return self._watching.not_learned(case, finding)
        return Missed(
            case, self._delay_s(case), finding, case.absent_from, case.absent_to, case.searched
        )

    def _delay_s(self, case: Case) -> float:
        """Return a wait that grows with each look, with jitter."""
        if case.held:
            return self._times.review_interval_s
        waits = self._times.interval_s * 1.6 ** min(case.looks, 12)
        return min(waits, self._times.longest_s) * random.uniform(0.8, 1.2)  # noqa: S311

    def _call_ended(self, case: Case) -> datetime:
        return case.begun_at + timedelta(seconds=self._schedule.call_s)

    # recording ---------------------------------------------------------------------------------

    async def _write(self, key: bytes, endings: "asyncio.Queue[Ended | None]") -> None:
        """Record what arrives in the queue, in groups, until its end."""
        more = True
        while more:
            group: list[Ended] = []
            ended = await endings.get()
            while ended is not None:
                group.append(ended)
                if len(group) == _GROUP or endings.empty():
                    break
                ended = endings.get_nowait()
            more = ended is not None
            if group:
                try:
                    await self._write_group(key, group)
                except Exception as error:
                    # The cases stay on their lists, and the next round finds them again.
                    log.error(
                        "%d outcomes could not be recorded: %s: %s",
                        *(len(group), type(error).__name__, error),
                        exc_info=not is_passing(error),
                    )

    async def _write_group(self, key: bytes, group: Sequence[Ended]) -> None:
        absent = [
            each.case for each in group if isinstance(each.learned, Absent) and not each.case.held
        ]
        if absent:  # before it is called absent, so that no crash can lose the watch
            await self._watching.begin(key, absent)
        rows = await store.rows_of(self._pool, [each.case for each in group])

        async def one(ended: Ended) -> Case | None:
            operation, payment = rows[ended.case.id]
            try:
                over = await self.end(ended, operation, payment)
            except Exception as error:
                log.error(
                    "operation %s cannot be ended: %s: %s",
                    *(operation.reference, type(error).__name__, error),
                    exc_info=not is_passing(error),
                )
                await store.postpone(self._pool, [self._retry(ended.case, f"failed: {error}")])
                return None
            return ended.case if over else None

        closed = await asyncio.gather(*map(one, group))
        await store.close(self._pool, [case for case in closed if case is not None])

    async def end(self, ended: Ended, operation: Operation, payment: Payment) -> bool:
        """Record what was learned about an operation. Returns whether its case is over."""
        case = ended.case
        if case.purpose is not None:
            over = await self._late.found(operation, payment, ended.learned, ended.why)
            if not over:  # look again later; a charge to be given back has its own schedule
                again = self._watching.not_learned(case, f"not dealt with yet: {ended.why}")
                await store.postpone(self._pool, [again])
            return over
        if operation.state is State.NOT_SENT or operation.begun_at != case.begun_at:
            return False  # restarted since the case was read: nothing is known about that call
        if operation.state not in (*MAYBE_SENT, State.HELD):
            return True
        evidence = Evidence(
            source="inquiry", finding=ended.why, inquiries=case.looks + 1, at=rfc3339(clock.now())
        )
        recorded = await self._recorder.record(operation, payment, ended.learned, evidence=evidence)
        if recorded.state in (*MAYBE_SENT, State.NOT_SENT):
            return False  # a request with the same key restarted it meanwhile
        if operation.gives_back is not None:
            await self._late.returned(operation, recorded.state, ended.learned)
        log.info("operation %s is %s: %s", operation.reference, recorded.state, ended.why)
        return recorded.state != State.HELD  # a held case stays on the list until its review ends


def _id_from(moment: datetime) -> UUID:
    """Return a bound below every id made after a moment, by gateways whose clocks may differ."""
    return ids.lowest_id_at(moment - timedelta(minutes=15))


def _bounds(reference: str) -> tuple[UUID, UUID] | None:
    return ids.own_reference_bounds(reference, clock.now() + timedelta(days=1))
