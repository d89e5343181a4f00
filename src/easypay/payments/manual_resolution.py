"""What a person ends by hand: an operation whose outcome nobody can learn, a late charge.

A person's word is taken for absence alone, and even then the operation stays watched. That money
moved is asked of the processor before it is written down. Every outcome enters through the same
door as any other, with its reason as evidence, and leaves an entry that nobody can change. What is
refused changes no outcome and leaves none.
"""

import re
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from easypay import clock, ids, inputs
from easypay.card_numbers import contains_card_number
from easypay.clock import monotonic, rfc3339
from easypay.errors import InvalidState
from easypay.merchants.directory import Directory
from easypay.merchants.model import Login
from easypay.merchants.vault import VaultError
from easypay.payments import operation_details, resolver_rows
from easypay.payments.audit_log import write_down
from easypay.payments.inquiries import LISTED, OPEN, request_of, without_decision
from easypay.payments.late_charges import Late
from easypay.payments.operation_details import Known
from easypay.payments.outcome_changes import Evidence, Learned
from easypay.payments.recorder import Recorder
from easypay.payments.resolver import SENT_MARGIN_S
from easypay.payments.watched_operations import Watching
from easypay.processors.base import (
    Absent,
    Account,
    Approved,
    Deadline,
    Declined,
    Found,
    Inconclusive,
    Processor,
)

LONGEST_REASON: Final = 500
_QUESTION_S: Final = 60.0
_TRANSACTION_ID: Final = re.compile("[1-9][0-9]{0,19}")
_ENDED: Final = {
    "approved": "it is approved: the processor did it, and the payment says so",
    "declined": "it is declined: the processor said no, and that is an outcome",
    "rejected": "it is rejected: the processor would not take it, and that is an outcome",
    "not_sent": "it is proven never to have left, so nothing can have been charged; it ends by "
    "itself within a minute if nobody repeats it",
    "held": "it is held for review at the processor, which is no unknown; decide on it there, or "
    "by POST /payments/{id}/approve or /decline",
}


class Refused(Exception):
    """It is not done. Says why, in a sentence for the person who asked."""


class Done(msgspec.Struct, frozen=True):
    """What was done, as it stands in the audit entry."""

    operation_id: str
    reference: str
    before: dict[str, str | None]
    after: dict[str, str | None]
    evidence: str


def bounds(text: str) -> tuple[UUID, UUID] | None:
    """Between which ids an operation lies that a person names by reference or id (op_…). None where
    the text is neither."""
    typed = ids.parse(ids.OPERATION, text)
    if typed is not None:
        return typed, typed
    try:
        return ids.reference_bounds(text.upper())
    except ValueError:
        return None


def is_transaction_id(text: str) -> bool:
    """Is it a number such as the processor gives to transactions?"""
    return bool(_TRANSACTION_ID.fullmatch(text))


def wrong_reason(text: str) -> str | None:
    """Why a text gives no reason that can be kept; None where it does."""
    if not text.strip() or len(text) > LONGEST_REASON or not text.isprintable():
        return f"a reason is one line of 1 to {LONGEST_REASON} characters"
    if contains_card_number(text):
        return "this looks like a card number, which is never stored"
    return None


def wrong_actor(text: str) -> str | None:
    """Why a text names nobody; None where it does."""
    wrong = inputs.wrong_name(text)
    return None if wrong is None else wrong[1]


async def find(runner: Any, text: str) -> Known:
    """What a person names, with all that is known of it. Raises Refused where there is nothing."""
    between = bounds(text)
    operation = None if between is None else await operation_details.find(runner, *between)
    if operation is None:
        raise Refused(f"there is no operation {text}")
    return await operation_details.gather(runner, operation)


class ByHand:
    """Ends operations on a person's behalf. `connection` is one asyncpg connection."""

    def __init__(
        self,
        *,
        connection: Any,
        recorder: Recorder,
        processor: Processor,
        directory: Directory,
        call_deadline_s: float,
        actor: str,
    ) -> None:
        self._connection = connection
        self._recorder = recorder
        self._processor = processor
        self._directory = directory
        self._call_s = call_deadline_s + min(SENT_MARGIN_S, call_deadline_s)
        self._actor = actor
        self._late = Late(
            pool=connection,
            recorder=recorder,
            processor=processor,
            call_deadline_s=call_deadline_s,
        )
        self._watching = Watching(pool=connection, processor=processor, late=self._late)

    async def absent(self, text: str, because: str) -> Done:
        """No charge was found, says the person, who may have asked the processor by telephone.

        Raises Refused.
        """
        before = await find(self._connection, text)
        self._must_be_open(before)
        login = await self._login(before)
        learned = Absent(searched=f"what {self._actor} looked through")
        finding = f"absent: {self._actor} says that no charge was found: {because}"
        # Before it is called absent, so that no crash can make us forget to watch.
        await self._watching.begin(login.digest, [operation_details.case_of(before)])
        return await self._record(before, learned, finding, {"as": "absent", "reason": because})

    async def charged(self, text: str, transaction_id: str, because: str) -> Done:
        """The processor did it, says the person, and the processor must say so too. Raises Refused.

        What had been called absent is handled as any late charge.
        """
        before = await find(self._connection, text)
        late = before.operation.state == "absent"
        if late and before.late is not None:
            raise Refused(
                f"its charge is known already, as late charge {before.late['transaction_id']}, "
                f"which is {before.late['state']}: see `easypay late-charges list`"
            )
        if not late:
            self._must_be_open(before)
        login = await self._login(before)
        learned, shown = await self._verified(before, login.account, transaction_id)
        finding = f"found: {self._actor} named it: {because}; {shown}"
        detail = {"as": "charged", "reason": because, "transaction_id": transaction_id}
        if late:
            return await self._found_late(before, login, learned, finding, detail)
        return await self._record(before, learned, finding, detail)

    def _must_be_open(self, before: Known) -> None:
        state = before.operation.state
        if state == "in_flight" and before.age_s <= self._call_s:
            raise Refused(
                f"its call may still be under way: it began {before.age_s:.0f} s ago; try again "
                f"after {self._call_s:.0f} s"
            )
        if state == "absent":
            raise Refused(
                "it is absent already, and the payment says so; if the processor has charged it "
                "after all: --as charged --transaction-id …"
            )
        if state not in OPEN:
            raise Refused(_ENDED[state])

    # whose lists tell ----------------------------------------------------------------------------

    async def _login(self, of: Known) -> Login:
        """The account that took the payment."""
        try:
            login = await self._login_of_payment(of)
        except VaultError as error:
            raise Refused(f"the account that was asked cannot be used: {error}") from None
        if login is None:
            raise Refused(
                "nobody knows which processor account was asked: the payment is of an older "
                "version, and its merchant has none now; set it with `easypay merchant account`"
            )
        return login

    async def _login_of_payment(self, of: Known) -> Login | None:
        payment = of.payment
        if payment.login_id is not None:
            return await self._directory.login(payment.merchant_id, payment.login_id)
        if of.unresolved is not None and of.unresolved["account"] is not None:
            return await self._directory.login_of_account(of.unresolved["account"])
        # Taken by an older version: its account is today's, and no other has been kept.
        newest = await self._connection.fetchval(
            "SELECT id FROM processor_logins WHERE merchant_id = $1 AND mode = $2"
            " ORDER BY saved_at DESC LIMIT 1",
            payment.merchant_id,
            payment.mode,
        )
        if newest is None:
            return await self._directory.current_login(payment.merchant_id, payment.mode)
        return await self._directory.login(payment.merchant_id, newest)

    # what the processor says ---------------------------------------------------------------------

    async def _verified(
        self, before: Known, account: Account, transaction_id: str
    ) -> tuple[Approved | Declined, str]:
        """The outcome that the processor's own details prove, and its words. Raises Refused."""
        case, operation = operation_details.case_of(before), before.operation
        request = request_of(case, account)
        deadline = Deadline(monotonic() + _QUESTION_S)
        parent = operation.parent_transaction_id
        own = operation.kind in LISTED and transaction_id != parent
        if own:
            finding = await self._processor.inquire_transaction(request, transaction_id, deadline)
        elif transaction_id != parent:
            raise Refused(
                f"a {operation.kind} changes its parent, transaction {parent}, and makes none of "
                "its own: name that one"
            )
        else:
            finding = without_decision(case, await self._processor.inquire(request, deadline))
        match finding:
            case Found(outcome=Approved() as outcome):
                if operation.kind == "decline":
                    raise Refused(f"it was approved, not declined: {finding.evidence}")
                if own:
                    _must_be_of_card(before, outcome)
                elif operation.kind == "refund" and not outcome.voided:
                    raise Refused(
                        f"{transaction_id} is the payment itself; the refund is transaction "
                        f"{outcome.transaction_id}: name that one"
                    )
                return outcome, finding.evidence
            case Found(outcome=Declined() as declined) if operation.kind == "decline":
                return declined, finding.evidence
            case Found():
                word = type(finding.outcome).__name__
                raise Refused(f"the processor does not call it done ({word}): {finding.evidence}")
            case Absent():
                raise Refused(f"the processor does not show it done: {finding.searched}")
            case Inconclusive():
                raise Refused(f"it cannot be verified at the processor: {finding.reason}")

    # what is written -----------------------------------------------------------------------------

    async def _record(
        self, before: Known, learned: Learned, finding: str, detail: dict[str, str]
    ) -> Done:
        operation = before.operation
        evidence = Evidence(
            source="person",
            finding=finding,
            inquiries=0 if before.unresolved is None else before.unresolved["inquiries"],
            at=rfc3339(clock.now()),
        )
        try:
            recorded = await self._recorder.record(
                operation, before.payment, learned, evidence=evidence
            )
        except (InvalidState, asyncpg.CheckViolationError) as error:
            raise Refused(f"the payment cannot follow: {error}") from None
        after = await operation_details.gather(self._connection, await self._again(operation))
        kept = msgspec.json.decode(after.operation.evidence or "{}")
        if kept.get("finding") != finding:
            raise Refused(f"somebody else was first: the operation is {after.operation.state}")
        if recorded.state not in resolver_rows.STILL_OPEN:
            await resolver_rows.close(self._connection, [operation_details.case_of(before)])
        if operation.gives_back is not None:
            await self._late.returned(operation, recorded.state, learned)
        return await self._audit(before, after, finding, detail)

    async def _found_late(
        self,
        before: Known,
        login: Login,
        learned: Approved | Declined,
        finding: str,
        detail: dict[str, str],
    ) -> Done:
        case = msgspec.structs.replace(operation_details.case_of(before), purpose="absent")
        if before.watched is None:  # the three days are over: what is given back needs its row
            await self._watching.begin(login.digest, [case])
        over = await self._late.found(before.operation, before.payment, learned, finding)
        after = await operation_details.gather(
            self._connection, await self._again(before.operation)
        )
        if after.late is None and after.operation.state == "absent":
            raise Refused(
                "nothing was changed: another operation has the payment just now, or a later one "
                "has done the same"
            )
        if over:
            await resolver_rows.close(self._connection, [case])
        return await self._audit(before, after, finding, detail)

    async def _again(self, operation: Any) -> Any:
        found = await operation_details.find(self._connection, operation.id, operation.id)
        if found is None:
            raise Refused("the database does not have the operation any more")
        return found

    async def _audit(
        self, before: Known, after: Known, evidence: str, detail: dict[str, str]
    ) -> Done:
        done = Done(
            operation_id=ids.typed(ids.OPERATION, before.operation.id),
            reference=before.operation.reference,
            before=_standing(before),
            after=_standing(after),
            evidence=evidence,
        )
        more = {"before": done.before, "after": done.after, "evidence": evidence}
        await write_down(
            self._connection, self._actor, "operation.resolve", done.operation_id, detail | more
        )
        return done


async def close_late_charge(connection: Any, text: str, because: str, actor: str) -> Done:
    """A person has dealt with a late charge, or needs no more done about it. Raises Refused."""
    before = await find(connection, text)
    if before.late is None:
        raise Refused("no late charge of this operation is known")
    operation, state = before.operation, before.late["state"]
    if state not in ("needs_person", "returning"):
        raise Refused(f"its late charge is {state}: nothing is left to do")
    busy = [each.reference for each in before.gives_back if each.state in (*OPEN, "not_sent")]
    if busy:
        raise Refused(f"it is being given back just now, by operation {busy[0]}, which ends first")
    async with connection.transaction():
        closed = await connection.fetchval(
            "UPDATE late_charges SET state = 'closed', reason = $3, changed_at = db_now()"
            " WHERE merchant_id = $1 AND operation_id = $2 AND state = $4 RETURNING true",
            operation.merchant_id,
            operation.id,
            because,
            state,
        )
        if not closed:
            raise Refused("somebody else was first: see `easypay late-charges list`")
        after = await operation_details.gather(connection, operation)
        done = Done(
            operation_id=ids.typed(ids.OPERATION, operation.id),
            reference=operation.reference,
            before=_standing(before) | {"reason": before.late["reason"]},
            after=_standing(after),
            evidence=before.late["evidence"],
        )
        detail = {"reason": because, "before": done.before, "after": done.after}
        await write_down(connection, actor, "late_charge.close", done.operation_id, detail)
    return done


def _must_be_of_card(before: Known, outcome: Approved) -> None:
    """Raises Refused where the money is another card's, or nobody can tell."""
    ours, theirs = before.payment.card_last4, outcome.card_last4
    if ours and ours != theirs:
        shown = f"ends in {theirs}" if theirs else "is not shown"
        raise Refused(f"it is of another card: theirs {shown}, the payment's ends in {ours}")


def _standing(of: Known) -> dict[str, str | None]:
    return {
        "operation": of.operation.state,
        "payment": of.payment.status,
        "late_charge": None if of.late is None else of.late["state"],
    }
