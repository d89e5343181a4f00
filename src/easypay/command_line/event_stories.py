"""How each type of event comes about: a real payment at the simulator, and what is done to it.

A story makes its event happen and returns the payment's id; None if the event is about no payment.
"""

import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from easypay import clock
from easypay.command_line.trial_shop import BANK, CARD, CHOOSING_CARD, TrialShop
from easypay.webhooks.model import DISABLED

COMES_WITHIN_S: Final = 30.0
"""How long after its story an event comes at most: the resolver's first question is after 5 s."""
_ABSENT_WITHIN_S: Final = 180.0
_LATE_MS: Final = 90_000.0
"""How late a late charge comes: after its payment has failed."""
_WITNESS_AFTER_S: Final = 1.0


class Story(NamedTuple):
    """How to let a type of event happen. `told` says it to a person."""

    type: str
    told: str
    tell: Callable[[TrialShop, "Stage"], str | None]


class Stage(NamedTuple):
    """What a story can do beside paying. `hurry` lets the resolver look now at what it watches of a
    payment; `disable_endpoint` makes a webhook endpoint that is disabled, and deletes it."""

    hurry: Callable[[str], None]
    disable_endpoint: Callable[[], None]
    late_ms: float = _LATE_MS
    tell_of_expiring: Callable[[], None] = lambda: None
    """Tells now of the stored cards that expire soon; a gateway does so once a day."""
    read_books: Callable[[], None] = lambda: None
    """Reads the processor's books now; a worker does so once an hour."""
    remind: Callable[[str], None] = lambda _: None
    """Tells now that a payment's authorization expires; a gateway does so after 23 days."""


def _authorized(shop: TrialShop) -> Any:
    return shop.pay(capture="manual")


def _held(shop: TrialShop) -> Any:
    return shop.pay(25_300, card=CHOOSING_CARD)


def _settled(shop: TrialShop, card: str = CARD) -> Any:
    payment = shop.pay(card=card)
    shop.control("/settle")
    return payment


def _captured(shop: TrialShop, _: Stage) -> str:
    return _id(shop.pay())


def _authorize(shop: TrialShop, _: Stage) -> str:
    return _id(_authorized(shop))


def _declined(shop: TrialShop, _: Stage) -> str:
    return _id(shop.pay(billing_address={"postal_code": "46282"}))


def _failed(shop: TrialShop, _: Stage) -> str:
    problem = shop.pay(1_700, card=CHOOSING_CARD, refused=True)
    return str(problem["payment_id"])


def _voided(shop: TrialShop, _: Stage) -> str:
    payment = _authorized(shop)
    shop.post(f"/payments/{payment['id']}/void", {})
    return _id(payment)


def _in_review(shop: TrialShop, _: Stage) -> str:
    return _id(_held(shop))


def _expired(shop: TrialShop, _: Stage) -> str:
    payment = _authorized(shop)
    shop.set_status(payment, "expired")
    shop.post(f"/payments/{payment['id']}/capture", {}, refused=True)
    return _id(payment)


def _void_failed(shop: TrialShop, _: Stage) -> str:
    payment = shop.pay()
    shop.set_status(payment, "updatingSettlement")
    shop.post(f"/payments/{payment['id']}/void", {}, refused=True)
    return _id(payment)


def _approve_failed(shop: TrialShop, _: Stage) -> str:
    return _too_late(shop, "approve")


def _decline_failed(shop: TrialShop, _: Stage) -> str:
    return _too_late(shop, "decline")


def _too_late(shop: TrialShop, decision: str) -> str:
    payment = _held(shop)
    shop.set_status(payment, "capturedPendingSettlement")
    shop.post(f"/payments/{payment['id']}/{decision}", {}, refused=True)
    return _id(payment)


def _queued(shop: TrialShop, _: Stage) -> str:
    return _id(shop.pay(queue=True))


def _refunded(shop: TrialShop, _: Stage) -> str:
    payment = _settled(shop)
    shop.post(f"/payments/{payment['id']}/refunds", {"amount": 1000})
    return _id(payment)


def _payment_settled(shop: TrialShop, stage: Stage) -> str:
    payment = _settled(shop)
    stage.read_books()
    return _id(payment)


def _became(status: str, *, card: str = CARD) -> Callable[[TrialShop, Stage], str]:
    """Return the story of a settled payment whose transaction gets this status later."""

    def tell(shop: TrialShop, stage: Stage) -> str:
        payment = _settled(shop, card)
        shop.set_status(payment, status)
        stage.read_books()
        return _id(payment)

    return tell


def _refund_settled(shop: TrialShop, stage: Stage) -> str:
    payment, _ = _settled_refund(shop, CARD)
    stage.read_books()
    return _id(payment)


def _refund_returned(shop: TrialShop, stage: Stage) -> str:
    payment, refund = _settled_refund(shop, BANK)
    shop.set_status(refund, "returnedItem")
    stage.read_books()
    return _id(payment)


def _settled_refund(shop: TrialShop, card: str) -> tuple[Any, Any]:
    payment = _settled(shop, card)
    refund = shop.post(f"/payments/{payment['id']}/refunds", {"amount": 1000})
    shop.control("/settle")
    return payment, refund


def _expiring(shop: TrialShop, stage: Stage) -> str:
    payment = _authorized(shop)
    stage.remind(payment["id"])
    return _id(payment)


def _refund_failed(shop: TrialShop, _: Stage) -> str:
    payment = shop.pay()
    shop.post(f"/payments/{payment['id']}/refunds", {"amount": 1000}, refused=True)
    return _id(payment)


def _unknown(shop: TrialShop, _: Stage) -> str:
    shop.fault("drop_reply")
    return _id(shop.pay())


def _late_charge(shop: TrialShop, stage: Stage) -> str:
    shop.fault("late_charge", delay_ms=stage.late_ms)
    comes_at = time.monotonic() + stage.late_ms / 1000
    payment = shop.pay()
    time.sleep(_WITNESS_AFTER_S)
    shop.pay()  # a newer charge in the lists shows that they are up to date
    shop.has(payment["id"], "payment.failed", within_s=_ABSENT_WITHIN_S)
    time.sleep(max(0.0, comes_at + _WITNESS_AFTER_S - time.monotonic()))
    stage.hurry(payment["id"])
    return _id(payment)


def _customer_created(shop: TrialShop, _: Stage) -> None:
    shop.customer()


def _customer_updated(shop: TrialShop, _: Stage) -> None:
    shop.send("PATCH", f"/customers/{shop.customer()['id']}", {"name": "Ada Byron"})


def _customer_deleted(shop: TrialShop, _: Stage) -> None:
    shop.send("DELETE", f"/customers/{shop.customer()['id']}")


def _customer_erased(shop: TrialShop, _: Stage) -> None:
    shop.post(f"/customers/{shop.customer()['id']}/erase", {})


def _method_created(shop: TrialShop, _: Stage) -> None:
    shop.stored_method()


def _method_updated(shop: TrialShop, _: Stage) -> None:
    method = shop.stored_method()
    shop.send("PATCH", f"/payment_methods/{method['id']}", {"exp_month": 11, "exp_year": 2036})


def _method_deleted(shop: TrialShop, _: Stage) -> None:
    shop.send("DELETE", f"/payment_methods/{shop.stored_method()['id']}")


def _method_expiring(shop: TrialShop, stage: Stage) -> None:
    method, now = shop.stored_method(), clock.now()
    expiry = {"exp_month": now.month, "exp_year": now.year}  # at the end of this month
    shop.send("PATCH", f"/payment_methods/{method['id']}", expiry)
    stage.tell_of_expiring()


def _endpoint_disabled(_: TrialShop, stage: Stage) -> None:
    stage.disable_endpoint()


def _id(payment: Any) -> str:
    return str(payment["id"])


_LATE: Final = "the charge comes after its payment failed, and is given back; takes two minutes"


def _batch(*moves: str, lines: int = 1, rate: int = 1) -> Callable[[TrialShop, Stage], None]:
    """Return the story of a batch of so many lines: uploaded, and then what is asked of it."""

    def tell(shop: TrialShop, _: Stage) -> None:
        void = {"operation": "void", "payment": _id(_authorized(shop))}
        path = f"/batches/{shop.upload([void] * lines, rate)['id']}"
        for move in moves:
            if move == "done":
                shop.until(
                    lambda: shop.get(path)["state"] == "done",
                    within_s=COMES_WITHIN_S,
                    what="the batch is done: does `easypay worker` run?",
                )
            else:
                shop.post(f"{path}/{move}", {})

    return tell


def _invalid_batch(shop: TrialShop, _: Stage) -> None:
    shop.upload([{"operation": "none"}])


STORIES: Final = {
    "payment.pending": Story("payment.pending", "a payment is queued", _queued),
    "payment.processing": Story("payment.processing", "a queued payment begins", _queued),
    "payment.in_review": Story("payment.in_review", "a fraud filter holds a payment", _in_review),
    "payment.authorized": Story("payment.authorized", "an amount is held", _authorize),
    "payment.captured": Story("payment.captured", "a payment is taken", _captured),
    "payment.declined": Story("payment.declined", "the bank declines", _declined),
    "payment.failed": Story("payment.failed", "the processor refuses the payment", _failed),
    "payment.voided": Story("payment.voided", "an authorization is voided", _voided),
    "payment.expired": Story(
        "payment.expired", "an authorization has run out: its capture is refused", _expired
    ),
    "capture.failed": Story(
        "capture.failed", "the capture of an authorization that has run out is refused", _expired
    ),
    "void.failed": Story("void.failed", "a void comes while its batch is settled", _void_failed),
    "approve.failed": Story(
        "approve.failed", "a review ended before it was approved", _approve_failed
    ),
    "decline.failed": Story(
        "decline.failed", "a review ended before it was declined", _decline_failed
    ),
    "refund.succeeded": Story("refund.succeeded", "a part of a payment is refunded", _refunded),
    "refund.failed": Story(
        "refund.failed", "a part is refunded before settlement, which is refused", _refund_failed
    ),
    "payment.settled": Story("payment.settled", "the batch of a payment settles", _payment_settled),
    "payment.returned": Story(
        "payment.returned",
        "a bank returns a payment days later",
        _became("returnedItem", card=BANK),
    ),
    "payment.charged_back": Story(
        "payment.charged_back", "a cardholder's bank takes the money back", _became("chargeback")
    ),
    "payment.chargeback_reversed": Story(
        "payment.chargeback_reversed", "a chargeback is undone", _became("chargebackReversal")
    ),
    "refund.settled": Story("refund.settled", "the batch of a refund settles", _refund_settled),
    "refund.returned": Story(
        "refund.returned", "a bank returns a refund days later", _refund_returned
    ),
    "authorization.expiring": Story(
        "authorization.expiring", "an authorization expires in a week", _expiring
    ),
    "late_charge.found": Story("late_charge.found", _LATE, _late_charge),
    "late_charge.returned": Story("late_charge.returned", _LATE, _late_charge),
    "customer.created": Story("customer.created", "a customer is made", _customer_created),
    "customer.updated": Story("customer.updated", "a customer is changed", _customer_updated),
    "customer.deleted": Story("customer.deleted", "a customer is deleted", _customer_deleted),
    "customer.erased": Story("customer.erased", "a customer is erased", _customer_erased),
    "payment_method.created": Story(
        "payment_method.created", "a customer's card is stored", _method_created
    ),
    "payment_method.updated": Story(
        "payment_method.updated", "a stored card gets another expiry date", _method_updated
    ),
    "payment_method.deleted": Story(
        "payment_method.deleted", "a stored card is deleted", _method_deleted
    ),
    "payment_method.expiring": Story(
        "payment_method.expiring", "a stored card expires soon", _method_expiring
    ),
    DISABLED: Story(
        DISABLED, "another endpoint is disabled; only endpoints are told of it", _endpoint_disabled
    ),
    "batch.created": Story("batch.created", "a batch is uploaded", _batch()),
    "batch.invalid": Story(
        "batch.invalid", "a batch with a wrong line is uploaded", _invalid_batch
    ),
    "batch.started": Story("batch.started", "a batch starts", _batch("start")),
    "batch.progress": Story(
        "batch.progress",
        "another tenth of a batch's lines has ended",
        _batch("start", lines=100, rate=20),
    ),
    "batch.paused": Story("batch.paused", "a batch is paused", _batch("start", "pause", lines=5)),
    "batch.resumed": Story(
        "batch.resumed",
        "a batch is resumed",
        _batch("start", "pause", "resume", lines=5),
    ),
    "batch.cancelled": Story("batch.cancelled", "a batch is cancelled", _batch("cancel")),
    "batch.done": Story("batch.done", "a batch ends", _batch("start", "done")),
    "held": Story("payment.in_review", "the same as payment.in_review", _in_review),
    "unknown": Story(
        "payment.captured", "the reply is lost; the resolver finds the charge", _unknown
    ),
    "late_charge": Story("late_charge.returned", "the same as late_charge.returned", _late_charge),
}
"""By the word that `easypay trigger` takes."""
