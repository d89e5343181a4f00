"""What a person ends by hand: an operation whose outcome nobody can learn, or a late charge.

A person's word is enough for absence only, and even then the operation stays watched. That money
moved is verified at the processor before it is recorded. Every outcome is recorded like any other,
with the person's reason as evidence, and adds an audit entry that nobody can change. A refused
request changes no outcome and adds no entry.
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
from easypay.payments.inquiries import LISTED, MAYBE_SENT, request_of, without_decision
from easypay.payments.late_charges import LateCharges, LateState
from easypay.payments.model import Kind, State
from easypay.payments.operation_details import Details
from easypay.payments.outcome_changes import Evidence, Learned
from easypay.payments.resolver import SENT_MARGIN_S
from easypay.payments.statements import Recorder
from easypay.payments.watched_operations import Watching
from easypay.processors.base import (
    Absent,
    Account,
    Approved,
    Deadline,
    Declined,
    Found,
    Inconclusive,
    Processors,
)

LONGEST_REASON: Final = 500
_QUESTION_S: Final = 60.0
_TRANSACTION_ID: Final = re.compile("[1-9][0-9]{0,19}")
_ENDED: Final = {
    "approved": "the operation is approved: the processor did it, and the payment shows it",
    "declined": "the operation is declined: its outcome is known",
    "rejected": "the operation is rejected: its outcome is known",
    "not_sent": "the operation was never sent, so nothing can have been charged; it ends by "
    "itself within a minute if nobody repeats it",
    "held": "the operation is held for review: decide at the processor, or with "
    "POST /payments/{id}/approve or /decline",
}


class Refused(Exception):
    """The request is refused. Says why, in a sentence for the person who made it."""


class Done(msgspec.Struct, frozen=True):
    """What was done, as stored in the audit entry."""

    operation_id: str
    reference: str
    before: dict[str, str | None]
    after: dict[str, str | None]
    evidence: str


def bounds(text: str) -> tuple[UUID, UUID] | None:
    """Return the lowest and highest id of the operation that a reference or an id (op_…) names.
    None if the text is neither."""
    typed = ids.parse(ids.OPERATION, text)
    if typed is not None:
        return typed, typed
    try:
        return ids.reference_bounds(text.upper())
    except ValueError:
        return None


def is_transaction_id(text: str) -> bool:
    """Whether the text has the form of the processor's transaction ids."""
    return bool(_TRANSACTION_ID.fullmatch(text))


def wrong_reason(text: str) -> str | None:
    """Return why a text cannot be stored as a reason, or None."""
    if not text.strip() or len(text) > LONGEST_REASON or not text.isprintable():
        return f"a reason is one line of 1 to {LONGEST_REASON} characters"
    if contains_card_number(text):
        return "this looks like a card number, which is never stored"
    return None


def wrong_actor(text: str) -> str | None:
    """Return why a text cannot be stored as a person's name, or None."""
    wrong = inputs.wrong_name(text)
    return None if wrong is None else wrong[1]


async def find(runner: Any, text: str) -> Details:
    """Return the operation that a person names, with all that is known. Raises Refused if none."""
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
        processors: Processors,
        directory: Directory,
        call_deadline_s: float,
        actor: str,
    ) -> None:
        self._connection = connection
        self._recorder = recorder
        self._processors = processors
        self._directory = directory
        self._call_s = call_deadline_s + min(SENT_MARGIN_S, call_deadline_s)
        self._actor = actor
        self._late = LateCharges(
            pool=connection,
            recorder=recorder,
            processors=processors,
            call_deadline_s=call_deadline_s,
        )
        self._watching = Watching(pool=connection, processors=processors, late=self._late)

    async def absent(self, text: str, because: str) -> Done:
        """Record absence on the word of the person, who may have asked the processor by telephone.

        Raises Refused.
        """
        before = await find(self._connection, text)
        self._must_be_open(before)
        login = await self._login(before)
        learned = Absent(searched=f"what {self._actor} looked through")
        finding = f"absent: {self._actor} says that no charge was found: {because}"
        # Before it is called absent, so that no crash can lose the watch.
        await self._watching.begin(login.digest, [operation_details.case_of(before)])
        return await self._record(before, learned, finding, {"as": "absent", "reason": because})

    async def charged(self, text: str, transaction_id: str, because: str) -> Done:
        """Record that the processor did it, which the processor must confirm. Raises Refused.

        If the operation had been called absent, it is handled like any late charge.
        """
        before = await find(self._connection, text)
        late = before.operation.state is State.ABSENT
        if late and before.late is not None:
            raise Refused(
                f"its late charge {before.late['transaction_id']} is known already and is "
                f"{before.late['state']}: see `easypay late-charges list`"
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

    def _must_be_open(self, before: Details) -> None:
        state = before.operation.state
        if state is State.IN_FLIGHT and before.age_s <= self._call_s:
            raise Refused(
                f"its call may still be running: it began {before.age_s:.0f} s ago; try again when "
                f"it is {self._call_s:.0f} s old"
            )
        if state is State.ABSENT:
            raise Refused(
                "the operation is absent already, and the payment shows it; if the processor has "
                "charged it after all, use --as charged --transaction-id …"
            )
        if state not in MAYBE_SENT:
            raise Refused(_ENDED[state])

    # the account ---------------------------------------------------------------------------------

    async def _login(self, before: Details) -> Login:
        """Return the account that took the payment. Raises Refused."""
        try:
            login = await self._login_of_payment(before)
        except VaultError as error:
            raise Refused(f"the processor account cannot be used: {error}") from None
        if login is None:
            raise Refused(
                "the processor account is unknown: an older version took the payment, and the "
                "merchant has no account now; set it with `easypay merchant account`"
            )
        return login

    async def _login_of_payment(self, before: Details) -> Login | None:
        payment = before.payment
        if payment.login_id is not None:
            return await self._directory.login(payment.merchant_id, payment.login_id)
        if before.unresolved is not None and before.unresolved["account"] is not None:
            return await self._directory.login_of_account(before.unresolved["account"])
        # An older version took the payment and stored no account: use the newest one.
        newest = await self._connection.fetchval(
            "SELECT id FROM processor_logins"
            " WHERE merchant_id = $1 AND mode = $2 AND processor = $3"
            " ORDER BY saved_at DESC LIMIT 1",
            *(asked := (payment.merchant_id, payment.mode, payment.processor)),
        )
        if newest is None:
            return await self._directory.current_login(*asked)
        return await self._directory.login(payment.merchant_id, newest)

    # verification --------------------------------------------------------------------------------

    async def _verified(
        self, before: Details, account: Account, transaction_id: str
    ) -> tuple[Approved | Declined, str]:
        """Return the outcome that the processor's details prove, with evidence. Raises Refused."""
        case, operation = operation_details.case_of(before), before.operation
        request = request_of(case, account)
        deadline = Deadline(monotonic() + _QUESTION_S)
        parent, processor = operation.parent_transaction_id, self._processors[account.processor]
        own = operation.kind in LISTED and transaction_id != parent
        if own:
            finding = await processor.inquire_transaction(request, transaction_id, deadline)
        elif transaction_id != parent:
            raise Refused(
                f"a {operation.kind} changes its parent transaction and has no transaction of its "
                f"own: use {parent}"
            )
        else:
            finding = without_decision(case, await processor.inquire(request, deadline))
        match finding:
            case Found(outcome=Approved() as outcome):
                if operation.kind is Kind.DECLINE:
                    raise Refused(f"the payment was approved, not declined: {finding.evidence}")
                if own:
                    _must_be_of_card(before, outcome)
                elif operation.kind is Kind.REFUND and not outcome.voided:
                    raise Refused(
                        f"{transaction_id} is the payment itself; use the refund's transaction, "
                        f"{outcome.transaction_id}"
                    )
                return outcome, finding.evidence
            case Found(outcome=Declined() as declined) if operation.kind is Kind.DECLINE:
                return declined, finding.evidence
            case Found():
                word = type(finding.outcome).__name__
                raise Refused(f"the processor shows another outcome, {word}: {finding.evidence}")
            case Absent():
                raise Refused(f"the processor does not show it done: {finding.searched}")
            case Inconclusive():
                raise Refused(f"it cannot be verified at the processor: {finding.reason}")

    # recording -----------------------------------------------------------------------------------

    async def _record(
        self, before: Details, learned: Learned, finding: str, detail: dict[str, str]
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
            raise Refused(f"the payment does not allow this outcome: {error}") from None
        after = await operation_details.gather(self._connection, await self._reload(operation))
        stored = msgspec.json.decode(after.operation.evidence or "{}")
        if stored.get("finding") != finding:
            raise Refused(f"it was ended by another meanwhile: it is {after.operation.state}")
        if recorded.state not in resolver_rows.STILL_OPEN:
            await resolver_rows.close(self._connection, [operation_details.case_of(before)])
        if operation.gives_back is not None:
            await self._late.returned(operation, recorded.state, learned)
        return await self._audit(before, after, finding, detail)

    async def _found_late(
        self,
        before: Details,
        login: Login,
        learned: Approved | Declined,
        finding: str,
        detail: dict[str, str],
    ) -> Done:
        case = msgspec.structs.replace(operation_details.case_of(before), purpose="absent")
        if before.watched is None:  # its three days are over, but giving back needs the watch row
            await self._watching.begin(login.digest, [case])
        over = await self._late.found(before.operation, before.payment, learned, finding)
        after = await operation_details.gather(
            self._connection, await self._reload(before.operation)
        )
        if after.late is None and after.operation.state is State.ABSENT:
            raise Refused(
                "nothing was changed: another operation on the payment is running, or a later one "
                "has done the same"
            )
        if over:
            await resolver_rows.close(self._connection, [case])
        return await self._audit(before, after, finding, detail)

    async def _reload(self, operation: Any) -> Any:
        found = await operation_details.find(self._connection, operation.id, operation.id)
        if found is None:
            raise Refused("the operation is no longer in the database")
        return found

    async def _audit(
        self, before: Details, after: Details, evidence: str, detail: dict[str, str]
    ) -> Done:
        done = Done(
            operation_id=ids.typed(ids.OPERATION, before.operation.id),
            reference=before.operation.reference,
            before=_states(before),
            after=_states(after),
            evidence=evidence,
        )
        more = {"before": done.before, "after": done.after, "evidence": evidence}
        await write_down(
            self._connection, self._actor, "operation.resolve", done.operation_id, detail | more
        )
        return done


async def close_late_charge(connection: Any, text: str, because: str, actor: str) -> Done:
    """Close a late charge that a person has dealt with, or that needs no more. Raises Refused."""
    before = await find(connection, text)
    if before.late is None:
        raise Refused("no late charge of this operation is known")
    operation, state = before.operation, before.late["state"]
    if state not in (LateState.NEEDS_PERSON, LateState.RETURNING):
        raise Refused(f"its late charge is {state}: nothing is left to do")
    busy = [
        each.reference for each in before.gives_back if each.state in (*MAYBE_SENT, State.NOT_SENT)
    ]
    if busy:
        raise Refused(f"operation {busy[0]} is giving it back: wait until that operation has ended")
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
            raise Refused("it was changed by another meanwhile: see `easypay late-charges list`")
        after = await operation_details.gather(connection, operation)
        done = Done(
            operation_id=ids.typed(ids.OPERATION, operation.id),
            reference=operation.reference,
            before=_states(before) | {"reason": before.late["reason"]},
            after=_states(after),
            evidence=before.late["evidence"],
        )
        detail = {"reason": because, "before": done.before, "after": done.after}
        await write_down(connection, actor, "late_charge.close", done.operation_id, detail)
    return done


def _must_be_of_card(before: Details, outcome: Approved) -> None:
    """Raise Refused if the charge is of another card, or its card is not shown."""
    our_last4, their_last4 = before.payment.card_last4, outcome.card_last4
    if our_last4 and our_last4 != their_last4:
        shown = f"ends in {their_last4}" if their_last4 else "is not shown"
        raise Refused(f"the charge's card {shown}, the payment's card ends in {our_last4}")


def _states(known: Details) -> dict[str, str | None]:
    return {
        "operation": known.operation.state,
        "payment": known.payment.status,
        "late_charge": None if known.late is None else known.late["state"],
    }
