"""From stories to the rows that the gateway would have written, in the binary COPY format.

This is where a seed spends its time, so each row is put together from parts that are encoded once.
A test compares the rows with what the gateway's own functions make of the same stories.
"""

from hashlib import blake2b
from typing import Final
from uuid import UUID

from asyncpg.pgproto.pgproto import UUID as DriverUUID
from msgspec.structs import astuple

from easypay import ids
from easypay.db import binary_copy as field
from easypay.db.binary_copy import FALSE, NULL, TRUE
from easypay.payment_details import DETAIL_FIELDS
from easypay.payments.outcome_changes import REVIEW_INTERVAL_S
from easypay.processors.base import Absent, Approved, Declined, HeldForReview, Rejected
from easypay.seeding.replies import evidence_of, replies
from easypay.seeding.stories import Outcome, Step, Told

PAYMENTS: Final = (
    *("id", "merchant_id", "mode", "status", "amount_minor", "authorized_minor", "captured_minor"),
    *("refunded_minor", "version", "currency", "capture", "active_operation", "method_type"),
    *("card_brand", "card_last4", "card_exp_month", "card_exp_year", "card_fingerprint"),
    *("decline_code", "processor", "transaction_id", "network_transaction_id", "auth_code"),
    *("avs_result", "cvv_result", "avs_word", "cvv_word", "processor_code", "processor_message"),
    "retry",
    *DETAIL_FIELDS,
    *("customer", "billing_address", "metadata", "created_at", "updated_at", "login_id"),
)
OPERATIONS: Final = (
    *("id", "merchant_id", "payment_id", "mode", "kind", "state", "amount_minor", "currency"),
    *("reference", "parent_transaction_id", "transaction_id", "auth_code", "decline_code"),
    *("processor_code", "processor_message", "retry", "evidence", "processor_us", "reply_status"),
    *("reply_body", "begun_at", "finished_at", "voided"),
)
EVENTS: Final = (
    *("id", "merchant_id", "payment_id", "operation_id", "mode", "type", "status"),
    *("amount_minor", "currency", "created_at"),
)
KEYS: Final = (
    *("merchant_id", "mode", "key", "fingerprint", "operation_id", "payment_id", "created_at"),
)
UNRESOLVED: Final = (
    *("merchant_id", "operation_id", "payment_id", "since", "next_inquiry_at", "held"),
)
"""The columns that a seed writes; all others have their defaults, as from the gateway. The rows of
the tables that have months begin with their id, so sorted rows are in the order of time."""


class _Texts(dict[str | None, bytes]):
    """Text fields of which there are few, encoded once."""

    def __missing__(self, value: str | None) -> bytes:
        made = self[value] = field.text(None if value is None else str(value))
        return made


_texts: Final = _Texts()
_PAYMENT, _OPERATION, _EVENT, _KEY, _OPEN = map(
    field.row_start, (PAYMENTS, OPERATIONS, EVENTS, KEYS, UNRESOLVED)
)
_NO_CHARGE: Final = "No charge was found at the processor."
_STATES: Final[dict[type, str]] = {
    Approved: "approved",
    Declined: "declined",
    Rejected: "rejected",
    HeldForReview: "held",
    Absent: "absent",
}
_AFTER_CREATE: Final[dict[type, str]] = {
    Declined: "declined",
    Rejected: "failed",
    HeldForReview: "in_review",
    Absent: "failed",
}


class Rows:
    """Collects the rows of stories, table by table."""

    def __init__(self, keys_from_us: int) -> None:
        self._keys_from_us = keys_from_us
        self.payments: list[bytes] = []
        self.operations: list[bytes] = []
        self.events: list[bytes] = []
        self.keys: list[bytes] = []
        self.unresolved: list[bytes] = []

    def add(self, told: Told) -> None:
        """Add everything that the gateway would have written about one payment."""
        recent = told.steps[-1].begun_us >= self._keys_from_us
        answers = list(replies(told)) if recent else []
        after = _Payment(told)
        for number, step in enumerate(told.steps):
            if step.kind != "expiry":
                kept = recent and step.begun_us >= self._keys_from_us
                reply = answers[number] if kept else None
                self.operations.append(_operation(told, step, after, reply))
                if kept:
                    self.keys.append(_key(told, step))
            happened = after.step(step)
            if happened is not None:
                self.events.append(_event(told, step, happened, after.status))
        self.payments.append(after.row())
        if after.is_open:
            self.unresolved.append(_unresolved(told, told.steps[-1]))


class _Payment:
    """What the steps made of a payment."""

    __slots__ = (
        "_answered", "_told", "authorized", "captured", "refunded", "said", "status", "version"
    )  # fmt: skip

    def __init__(self, told: Told) -> None:
        self._told = told
        self.status = "processing"
        self.version = 1
        self.authorized = self.captured = self.refunded = 0
        self.said: Step | None = None
        """The step whose answer became the payment's."""
        self._answered = False
        """The processor described the card."""

    @property
    def is_open(self) -> bool:
        return self.status in ("processing", "in_review")

    def step(self, step: Step) -> str | None:
        """Take a step. Returns the type of its event; None if its outcome is not known."""
        told, outcome = self._told, step.outcome
        if outcome is None and step.kind != "expiry":
            return None
        self.version += 1
        approved = isinstance(outcome, Approved)
        match step.kind:
            case "sale" | "authorize":
                self._created(step, outcome)
                return f"payment.{self.status}"
            case "expiry":
                self.status = "expired"
            case "capture":
                self.status, self.captured = "captured", step.amount_minor
            case "void":
                self.status, self.captured = "voided", 0
            case "approve":
                self.said = step
                self.status = "captured" if told.capture == "automatic" else "authorized"
                self.authorized = told.amount_minor
                self.captured = told.amount_minor if told.capture == "automatic" else 0
            case "decline":
                self.said, self.status = step, "declined"
            case "refund" if approved and outcome.voided:  # type: ignore[union-attr]
                self.status, self.captured = "voided", 0
                return "refund.succeeded"
            case "refund":
                self.refunded += step.amount_minor if approved else 0
                return "refund.succeeded" if approved else "refund.failed"
            case _:
                raise AssertionError(step.kind)
        return f"payment.{self.status}"

    def _created(self, step: Step, outcome: Outcome | None) -> None:
        self.said = step
        self._answered = not isinstance(outcome, Rejected | Absent)
        if isinstance(outcome, Approved):
            sale = step.kind == "sale"
            self.status = "captured" if sale else "authorized"
            self.authorized = step.amount_minor
            self.captured = step.amount_minor if sale else 0
        else:
            self.status = _AFTER_CREATE[type(outcome)]

    def row(self) -> bytes:
        """Return the row of `payments` after all steps."""
        told, said, last = self._told, self.said, self._told.steps[-1]
        first = told.steps[0]
        known = self._answered or told.method != "accept_token"
        checks = told.checks if self._answered else (None, None, None, None)
        updated = told.created_us if self.version == 1 else last.ended_us
        answer = _NOTHING_SAID if said is None else _answer(said, first)
        return b"".join(
            (
                _PAYMENT,
                field.uuid(told.id),
                field.uuid(told.shop.id),
                _texts[told.mode],
                _texts[self.status],
                field.bigint(told.amount_minor),
                field.bigint(self.authorized),
                field.bigint(self.captured),
                field.bigint(self.refunded),
                field.integer(self.version),
                _texts[told.currency],
                _texts[told.capture],
                field.uuid(first.id) if self.status == "processing" else NULL,
                _texts[told.method],
                _texts[told.brand] if known else NULL,
                _texts[told.last4] if known else NULL,
                field.smallint(told.exp_month),
                field.smallint(told.exp_year),
                field.octets(told.fingerprint),
                answer[2],
                _texts["authorize_net"],
                answer[0],
                field.text(told.network_id) if self._answered else NULL,
                answer[1],
                _texts[checks[0]],
                _texts[checks[1]],
                _texts[checks[2]],
                _texts[checks[3]],
                *answer[3:],
                *map(field.text, astuple(told.details)),
                field.jsonb(told.customer),
                field.jsonb(told.address),
                field.jsonb(told.metadata),
                field.moment(told.created_us),
                field.moment(updated),
                field.uuid(told.shop.login_id),
            )
        )


_Answer = tuple[bytes, bytes, bytes, bytes, bytes, bytes]
"""transaction_id, auth_code, decline_code, processor_code, processor_message, retry."""
_NOTHING_SAID: Final[_Answer] = (NULL, NULL, NULL, NULL, NULL, NULL)
_ABSENT: Final[_Answer] = (NULL, NULL, NULL, NULL, field.text(_NO_CHARGE), NULL)


def _answer(step: Step, first: Step) -> _Answer:
    """Return what the processor said. The end of a review is completed by the hold's answer."""
    outcome = step.outcome
    if outcome is None:
        return _NOTHING_SAID
    if isinstance(outcome, Absent):
        return _ABSENT
    review = step.kind in ("approve", "decline")
    return (
        field.text(step.transaction_id),
        field.text(first.auth_code if review else step.auth_code),
        _texts[outcome.decline_code],
        _texts[outcome.code],
        _texts[outcome.message],
        _texts[outcome.retry],
    )


def _operation(told: Told, step: Step, before: _Payment, reply: tuple[int, bytes] | None) -> bytes:
    """Return the row of `operations`. `before`: the payment before this step."""
    outcome, first = step.outcome, told.steps[0]
    if outcome is None:
        state = "unknown"
    elif step.kind == "decline":
        state = "approved"  # the operation asked for the decline
    else:
        state = _STATES[type(outcome)]
    voided = isinstance(outcome, Approved) and outcome.voided
    evidence = NULL
    if step.reply_lost or outcome is None:
        evidence = field.jsonb(evidence_of(step))
    return b"".join(
        (
            _OPERATION,
            field.uuid(step.id),
            field.uuid(told.shop.id),
            field.uuid(told.id),
            _texts[told.mode],
            _texts[step.kind],
            _texts[state],
            field.bigint(step.amount_minor),
            _texts[told.currency],
            field.text(ids.reference(DriverUUID(step.id))),
            NULL if step is first else field.text(first.transaction_id),
            *_answer(step, first),
            evidence,
            field.integer(step.processor_us),
            NULL if reply is None else field.smallint(reply[0]),
            NULL if reply is None else field.octets(reply[1]),
            field.moment(step.begun_us),
            NULL if outcome is None else field.moment(step.ended_us),
            TRUE if voided else FALSE,
        )
    )


def _event(told: Told, step: Step, happened: str, status: str) -> bytes:
    """Return the row of `events`."""
    return b"".join(
        (
            _EVENT,
            field.uuid(step.event_id),
            field.uuid(told.shop.id),
            field.uuid(told.id),
            field.uuid(step.id),
            _texts[told.mode],
            _texts[happened],
            _texts[status],
            field.bigint(step.amount_minor),
            _texts[told.currency],
            field.moment(step.ended_us),
        )
    )


def _key(told: Told, step: Step) -> bytes:
    """Return the row of `idempotency_keys`: a random UUID, as most clients send."""
    digest = blake2b(step.id, digest_size=48).digest()
    return b"".join(
        (
            _KEY,
            field.uuid(told.shop.id),
            _texts[told.mode],
            field.text(str(UUID(bytes=digest[32:], version=4))),
            field.octets(digest[:32]),
            field.uuid(step.id),
            field.uuid(told.id),
            field.moment(step.begun_us),
        )
    )


def _unresolved(told: Told, step: Step) -> bytes:
    """Return the row of `unresolved_operations` of what is still open."""
    held = step.outcome is not None
    wait_s = REVIEW_INTERVAL_S if held else 5.0
    return b"".join(
        (
            _OPEN,
            field.uuid(told.shop.id),
            field.uuid(step.id),
            field.uuid(told.id),
            field.moment(step.ended_us),
            field.moment(step.ended_us + int(wait_s * 1e6)),
            TRUE if held else FALSE,
        )
    )
