"""Why a payment method was not stored or changed, in plain words. Pure."""

from typing import Final

from easypay.customers.model import Failure

NOT_STORED: Final = "not_stored"
BEING_DELETED: Final = "being_deleted"
AMBIGUOUS: Final = "ambiguous"
NOT_SENT: Final = "not_sent"
STORED_BEFORE: Final = "stored_before"
NEW_KEY: Final = frozenset({NOT_STORED, BEING_DELETED, AMBIGUOUS, NOT_SENT, STORED_BEFORE})
"""Words of ours: the processor refused nothing, and the same request may work under a new key."""

_WHY: Final = {
    NOT_STORED: (
        "The processor did not answer in time, and it is now certain that it stored nothing. Store "
        "the payment method again with a new Idempotency-Key; a token from the browser needs to be "
        "a new one."
    ),
    BEING_DELETED: (
        "The same card is being deleted from this customer just now. Store it again in a minute, "
        "with a new Idempotency-Key."
    ),
    AMBIGUOUS: (
        "The processor did not answer in time, and it is not certain which of the customer's "
        "methods there is this one. Nothing was charged. Store it again with a new Idempotency-Key."
    ),
    NOT_SENT: (
        "The processor could not be reached, and nothing was sent to it. Store the payment method "
        "again with a new Idempotency-Key."
    ),
    STORED_BEFORE: (
        "The customer has this payment method already. Repeat the request with the same "
        "Idempotency-Key: you get that method."
    ),
    "card_declined": "The issuer declined the card. Ask the customer for another one.",
    "transaction_voided": (
        "The payment was voided. The processor stores a card only from a payment that took or "
        "holds money. Ask the customer for the card again."
    ),
    "duplicate_method": (
        "The customer has this payment method already, and the processor does not say which one "
        "it is. Look at the customer's payment methods."
    ),
    "transaction_not_storable": (
        "The processor stores nothing from this payment: it took no money, or it was paid in a way "
        "that cannot be stored. Ask the customer for the card again."
    ),
    "transaction_not_found": (
        "The processor does not have this payment any more. Ask the customer for the card again."
    ),
    "tied_to_subscription": (
        "The processor charges this payment method for a subscription that was made there. End the "
        "subscription there first."
    ),
    "profile_full": "The processor has no room for one more payment method of this customer.",
    "method_not_found": (
        "The processor does not have this payment method any more: somebody has deleted it there."
    ),
    "profile_not_found": (
        "The processor does not have this customer any more: somebody has deleted it there."
    ),
    "expired_payment_token": (
        "The token is not valid: it was used before, or is older than 15 minutes. Let the browser "
        "make a new one, and send it with a new Idempotency-Key."
    ),
}


def why_failed(failure: Failure) -> str:
    """Return what happened and what to do. Words that are not known get the processor's text."""
    known = _WHY.get(failure.word)
    if known is not None:
        return known
    return f"The processor refused it: {failure.message or failure.word}"
