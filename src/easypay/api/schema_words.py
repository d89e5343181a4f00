"""What the schemas say beyond the types: descriptions, formats, patterns, closed sets of words."""

from collections.abc import Mapping
from typing import Any, Final, get_args

from easypay.merchants.model import SCOPES
from easypay.mode import Mode
from easypay.money import EXPONENT
from easypay.payment_details import DETAIL_DESCRIPTIONS
from easypay.payments.model import SETTLEMENT_STATES, Kind
from easypay.payments.views import PARTIAL_REFUNDS, REFUND_METHODS, REFUND_STATUS
from easypay.processors.base import AvsMatch, CvvMatch, Retry
from easypay.reconciliation.model import BreakKind, BreakState
from easypay.webhooks.model import TYPES

REF: Final = "#/components/schemas/"


def _line(text: str) -> str:
    return " ".join(text.split())


STATUSES: Final = _line("""
The payment's current state. `processing`: the outcome is not known yet; read it again.
`authorized`: the money is held. `captured`: the money is taken. `declined`: the issuer said no.
`failed`: the processor refused the request, or its records show no charge. `in_review`: a person
at the processor decides. `voided`: released or undone. `expired`: the hold ran out. `pending`:
accepted, not sent yet.""")

_STATES: Final = _line("""
`queued`: accepted, and sent soon. `in_flight`: sent, waiting for the answer. `approved`,
`declined`, `rejected`, `held`: the processor's answer. `unknown`: sent, and no clear answer yet.
`not_sent`: it never left the gateway; the same Idempotency-Key sends it again. `absent`: the
processor's records do not show it. `cancelled`: it ended before it was sent.""")

_RETRY: Final = _line("""
Whether to try again after a decline or rejection. `later`: the same request may work another time.
`fix_data`: correct the data or use another card. `never`: it will not work. Null if unknown.""")
_PRINTED: Final = r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff"
_NOTE: Final = {"description": "For people: one printable line.", "pattern": rf"^{_PRINTED}]*$"}
_NAME: Final = {"pattern": rf"^{_PRINTED}]*{_PRINTED}\s]{_PRINTED}]*$"}
# As `inputs.credential` reads it: copied text may have blanks around it.
_CREDENTIAL: Final = r"^[\t-\r \u00a0\u200b\ufeff]*[!-~]{1,%d}[\t-\r \u00a0\u200b\ufeff]*$"
MOMENT: Final = {"format": "date-time", "pattern": "^(19[7-9][0-9]|[2-8][0-9]{3})-"}
"""A time as `inputs.moment` reads it."""
_CURRENCY: Final = {"description": "ISO 4217, upper case.", "pattern": "^[A-Z]{3}$"}
_DECLINE: Final = (
    "Why it was declined: `generic_decline`, `expired_card`, `cvc_mismatch` and so on. "
    "Null if nothing was declined."
)
WORDS: Final[Mapping[str, str | Mapping[str, Any]]] = {
    # By field name, or by Schema.field where one schema differs. A text is a description.
    "id": "The id. Ids sort by creation time.",
    "payment_id": "The payment this belongs to.",
    "operation_id": "The operation: one call to the processor.",
    "merchant_id": "The merchant this belongs to.",
    "amount": "Minor units of the currency: 2500 is USD 25.00.",
    "currency": _CURRENCY,
    "captured_amount": "Captured so far, in minor units.",
    "refunded_amount": "Refunded so far, in minor units.",
    "capture": {
        "description": "`automatic`: the money is taken at once. `manual`: it is held first.",
        "enum": ["automatic", "manual"],
    },
    "payment_method": "The payment method to charge.",
    "Payment.payment_method": "The payment method that was charged.",
    "decline_code": _DECLINE,
    "processor": "The processor's answer.",
    **DETAIL_DESCRIPTIONS,
    "metadata": "The merchant's own keys and values.",
    "mode": {"description": "`test` or `live`; the two never mix.", "enum": list(Mode)},
    "version": {"description": "Grows with every change. The ETag begins with it.", "minimum": 1},
    "created_at": {"description": "When it was created.", "format": "date-time"},
    "updated_at": {"description": "When it last changed.", "format": "date-time"},
    "begun_at": {"description": "When the call started.", "format": "date-time"},
    "finished_at": {"description": "When its outcome was recorded.", "format": "date-time"},
    "expires_at": {"description": "When it expires.", "format": "date-time"},
    "CreateKey.expires_at": MOMENT,
    "revoked_at": {"description": "When it was revoked, or null.", "format": "date-time"},
    "kind": {"description": "The kind of operation.", "enum": sorted(Kind)},
    "state": {"description": _STATES, "enum": list(REFUND_STATUS)},
    "name": "A name for people: one printable line.",
    "last4": "The last four digits.",
    "Batch.id": "The id. Ids sort by creation time.",
    "Batch.state": {
        "description": _line("""
            `invalid`: a line is wrong, and nothing runs. `ready`: it waits to be started.
            `running`; `paused`; `done`: every line has ended; `cancelled`."""),
        "enum": ["invalid", "ready", "running", "paused", "done", "cancelled"],
    },
    "Batch.reason": "Why it is invalid, or why a worker paused it.",
    "format": {"description": "The format of the file.", "enum": ["jsonl", "csv"]},
    "on_error": {
        "description": "What was to be done with wrong lines.", "enum": ["refuse", "skip"]},
    "bytes": "How long the file is.",
    "lines": "How many lines can be run.",
    "BatchSum.lines": "How many lines.",
    "BatchSum.operation": "`payment`, `capture`, `refund` or `void`.",
    "BatchSum.amount": "All their amounts, in minor units of `currency`.",
    "BatchSum.currency": "ISO 4217; null if no money is known of them.",
    "outcome": "The payment's or refund's status after it, or the code of the problem.",
    "wrong_lines": "How many lines cannot be run.",
    "waiting": "Lines that have not begun.",
    "under_way": "Lines that are being sent.",
    "unknown": "Lines that were sent and whose outcome is not known yet.",
    "done": "Lines to which the processor has answered, declines among them.",
    "failed": "Lines that were refused, or proven never to have happened. They moved no money.",
    "cancelled": "Lines that never began, because the batch was cancelled.",
    "sums": "What has ended, by operation, outcome and currency.",
    "rate": "How many lines ended in each second that it ran.",
    "seconds_left": "How long it will take at that rate; null if nobody can say.",
    "lines_per_second": "How many lines may begin in a second; null: as many as can.",
    "at_once": "How many lines may be under way at the same time.",
    "started_at": {"description": "When it first ran, or null.", "format": "date-time"},
    "ended_at": {"description": "When it ended, or null.", "format": "date-time"},
    "Break.id": "The id. Ids sort by when the difference was found.",
    "Break.kind": {
        "description": "What differs.", "enum": list(BreakKind)},
    "Break.state": {
        "description": _line("""
            `open`; `matched`: a person explained it; `cleared`: it is no more."""),
        "enum": list(BreakState),
    },
    "Break.merchant_id": "The merchant.",
    "Break.mode": "`test` or `live`.",
    "Break.owner": "Who sees to it; null: nobody yet.",
    "Break.payment_id": "The payment, if one is known.",
    "Break.operation_id": "The operation whose reference it is, if one is known.",
    "Break.transaction_id": "The processor's transaction.",
    "Break.reference": "The invoice number at the processor; ours if the operation is known.",
    "Break.reason": "Why it was matched, or how it cleared itself.",
    "Break.ours": "What EasyPay says; all null if it knows nothing of it.",
    "Break.theirs": "What the processor's books say.",
    "batch_id": "The processor's batch in which it settled, if it has.",
    "card_last4": "The last four digits, if they are known.",
    "happened_at": {"description": "When the money moved.", "format": "date-time"},
    "found_at": {"description": "When it was found first.", "format": "date-time"},
    "closed_at": {"description": "When it was matched or cleared.", "format": "date-time"},
    "closed_by": "Who matched it: a key's id or a name; `easypay` if it cleared itself.",
    "Side.state": {
        "description": "The payment's status or operation's state; the processor's own word.",
        "enum": None,
    },
    "Side.amount": "The amount in minor units.",
    "Side.currency": "ISO 4217; null if it is not known.",
    "MatchBreak.reason": "Why it is explained: one line.",
    "ReadBooks.account": "The account: the first digits of its fingerprint.",
    "ReadBooks.retired_at": {
        "description": "Since when the books are not read any more, by the operator's decision.",
        "format": "date-time",
    },
    "ReadBooks.shared": _line("""
        Other programs charge at this account, too: what has no reference of our form is theirs, and
        no difference."""),
    "read_until": {
        "description": "Every batch that settled before was read.", "format": "date-time"},
    "last_started_at": {
        "description": "When the books were read last; null: never.", "format": "date-time"},
    "last_ended_at": {
        "description": "When they were last read to their end.", "format": "date-time"},
    "failure": "Why the last reading did not end; null if it did.",
    "accounts": "Every account of the merchant in this mode.",
    "open": "The open differences, by kind.",
    "OpenBreaks.kind": {"description": "What differs.", "enum": list(BreakKind)},
    "OpenBreaks.count": "How many are open.",
    "oldest_found_at": {"description": "When the oldest was found.", "format": "date-time"},
    "endpoint": "The endpoint.",
    "event_id": "The event's id; messages about it have it as `webhook-id`.",
    "events": "How many events are sent again.",
    "types": {
        "description": "The types of events that are wanted; empty: every type.",
        "items": {"type": "string", "enum": list(TYPES)},
    },
    "description": "For people: one printable line.",
    "paused": "Whether events wait.",
    "since": {"description": "The start of a span of time (RFC 3339).", **MOMENT},
    "until": {"description": "The end of the span, which does not belong to it.", **MOMENT},
    "failing_since": {"description": "The first failure since a success.", "format": "date-time"},
    "old_secret_until": {
        "description": "Until when messages are also signed with the secrets before.",
        "format": "date-time",
    },
    "StoredCustomer.default_payment_method":
        "Charged if a payment names only the customer; null if there is none.",
    "StoredCustomer.deleted": "Whether it was deleted.",
    "StoredCustomer.erasure": "How far its erasure is; absent if nobody has asked for it.",
    "EraseCustomer.references":
        "Whether references and descriptions on its payments are erased, too.",
    "Erasure.state": {
        "description": "`erasing`: it goes on. `erased`: it is done.",
        "enum": ["erasing", "erased"],
    },
    "Erasure.references": "Whether references and descriptions are erased, too.",
    "Erasure.reference": "Your own id of the customer, if it is kept.",
    "Erasure.waiting_for": "What the erasure waits for; null if nothing.",
    "Erasure.asked_at": {"description": "When it was asked for first.", "format": "date-time"},
    "Erasure.erased_at": {"description": "When it was done first.", "format": "date-time"},
    "Erasure.erased": "What is removed, by table.",
    "Erasure.kept": "What stays, and why.",
    "Erasure.not_reached": "What EasyPay cannot erase.",
    "ErasedFields.table": "The table of the database.",
    "ErasedFields.fields": "Its columns.",
    "ErasedFields.rows": "How many rows were changed.",
    "KeptFields.table": "The table of the database.",
    "KeptFields.fields": "Its columns.",
    "KeptFields.why": "Why they stay.",
    "NotReached.what": "What it is.",
    "NotReached.why": "Why, and what to do.",
    "reference": "Your own id of the customer.",
    "default_payment_method": "One of the customer's stored payment methods; null: none.",
    "StoredMethod.state": {
        "description": _line("""
            `making`: the processor has not answered clearly yet. `active`: it can be charged.
            `failed`: it was not stored; `failure` says why. `deleting` and `deleted`: only in
            events."""),
        "enum": ["making", "active", "failed", "deleting", "deleted"],
    },
    "StoredMethod.type": "`card` or `bank_account`.",
    "StoredMethod.source": "What it was made from.",
    "StoredMethod.payment_id": "The payment that it was made from, if it was.",
    "StoredMethod.billing_address": "The billing address; null if none was given.",
    "StoredMethod.failure": "Why it is `failed`.",
    "default": "Whether it is its customer's default.",
    "UpdatePaymentMethod.default": "`true` makes it its customer's default.",
    "MethodFailure.code": "A stable word, such as `card_declined`.",
    "MethodFailure.processor_code": "The processor's code, as sent.",
    "MethodFailure.processor_message": "The processor's message, as sent.",
    "MethodAddress.state": {"description": "State or province.", "enum": None},
    "line1": "Street and number; the address check reads it.",
    "Validity.valid": "Whether the issuer says that it is good; null if nobody answered.",
    "Validity.detail": "Why it is not valid, or why nobody answered.",
    "Validity.processor_code": "The processor's code, as sent.",
    "Validity.processor_message": "The processor's message, as sent.",
    "StorePaymentMethod.payment_method": "What is to be stored.",
    "StorePaymentMethod.billing_address":
        "The cardholder's billing address, stored with it. Not for `payment`.",
    "StorePaymentMethod.validate":
        "Ask the issuer first whether the card is good. Not for `payment`.",
    "UpdatePaymentMethod.billing_address": "Another billing address, in place of the one before.",
    "ValidatePaymentMethod.cvc": "The card code, if the customer has just typed it. Never stored.",
    "PaymentMethodOfPayment.payment": {
        "description": "The payment's id.",
        "pattern": "^pay_[0-9a-f]{32}$",
    },
    "customer_id": "The customer this belongs to.",
    "Endpoint.state": {
        "description": _line("""
            `enabled`; `paused`: events wait; `disabled`: it answered 410 or failed for five days,
            and gets nothing until `paused: false`."""),
        "enum": ["enabled", "paused", "disabled"],
    },
    "Endpoint.reason": "Why it was disabled.",
    "Delivery.delivery": "The attempt, and what the endpoint answered.",
    "Delivery.request": "What was sent.",
    "SentRequest.headers": "The headers, without the signature.",
    "SentRequest.body": _line("""
        The body as it was sent. Null if it is not known any more: the event's month was archived,
        or the event is about no payment and was delivered."""),
    "Attempt.type": "The event's type.",
    "Attempt.attempt": "1 for the first attempt.",
    "Attempt.outcome": "`failed`: it is tried again. `parked`: it is not.",
    "Attempt.status": "The HTTP status of the answer; null if none came.",
    "Attempt.reason": "Why it failed.",
    "Attempt.url": "The address at that time.",
    "url": "The address to which messages are sent.",
    "sent_at": {"description": "When the attempt began.", "format": "date-time"},
    "took_ms": "Until the answer, in milliseconds.",
    "answer": "The beginning of the answer's body.",
    "scopes": f"What the key may do: {', '.join(SCOPES)}.",
    "type": "The kind of payment method.",
    "code": "A stable code for programs.",
    "detail": "What is wrong and what to do, for people.",
    "currencies": {
        "description": "The ISO 4217 codes that the account accepts.",
        "items": {"$ref": REF + "Currency"},
        "minItems": 1,
        "maxItems": len(EXPONENT),
    },
    "duplicates": _line("""
        What to do with a payment that looks like one made shortly before. `off`: nothing. `flag`:
        take it and show `possible_duplicate_of`. `reject`: 409 `duplicate_payment`, unless it has
        `Allow-Duplicate: true`."""),
    "duplicate_window_seconds": "How long a payment is compared with later ones, in seconds.",
    "read_staleness_ms": _line("""
        How old the answer to a read may be if the request does not say, in milliseconds. 0: as new
        as can be. `Cache-Control` of a request comes first."""),
    "possible_duplicate_of": _line("""
        The earlier payment that this one looked like when it began. Absent if there is none, or if
        the merchant does not check."""),
    "DuplicateGroup.payments": "At least two payments, oldest first.",
    "AlikePayment.status": "The payment's present status.",
    "late_charges": _line("""
        How to treat a charge that the processor made although its payment is `failed` here.
        `return`: refund it; the payment stays failed. `keep`: the payment takes the processor's
        status."""),
    "time_zone": "Whose days, weeks and months the statistics have: an IANA name, `Europe/Berlin`.",
    "allow_raw_cards": "Whether raw cards are accepted as well as tokens. Wider PCI DSS scope.",
    "disabled": "Whether all keys of the merchant are stopped.",
    "exp_month": "The month of expiry, 1 to 12.",
    "exp_year": "The year of expiry, four digits.",
    "login_id": {"description": "The API login id, as issued.", "pattern": _CREDENTIAL % 25},
    "transaction_key": {"description": "Its key, as issued.", "pattern": _CREDENTIAL % 16},
    "signature_key": {
        "description": "Signs the processor's notifications. Left out: as it was.",
        "pattern": _CREDENTIAL % 128,
    },
    "email": "The customer's e-mail address.",
    "first_name": "Given name.",
    "last_name": "Family name.",
    "company": "Company.",
    "city": "City.",
    "country": "Country.",
    "phone": "Telephone number.",
    "postal_code": "Postal code; the address check reads it.",
    "status": "The current status.",
    "AcceptToken.data_descriptor": "`opaqueData.dataDescriptor`, as received.",
    "AcceptToken.data_value": "`opaqueData.dataValue`, as received.",
    "AcceptTokenMethod.accept_token": "The token.",
    "ApiKey.last4": "The secret's last four characters.",
    "BankAccount.account_number": "The account's number. Never stored or logged.",
    "BankAccount.account_type": "The kind of account.",
    "BankAccount.name_on_account": "The account holder's name.",
    "BankAccount.routing_number": "The bank's ABA number. Never stored or logged.",
    "BankAccountMethod.bank_account": "The bank account (eCheck).",
    "CreateMerchant.name": _NAME,
    "UpdateMerchant.name": _NAME,
    "CreateKey.name": _NAME,
    "CreateEndpoint.description": _NOTE,
    "UpdateEndpoint.description": _NOTE,
    "BillingAddress.state": {"description": "State or province.", "enum": None},
    "BillingAddress.line1": "Street and number; the address check reads it.",
    "Card.cvc": "The card code. Never stored.",
    "Card.number": "The card number, digits only. Never stored or logged.",
    "CardMethod.card": "The card.",
    "CreatePayment.billing_address": "The cardholder's billing address.",
    "CreatePayment.currency": "ISO 4217, one that the account accepts.",
    "CreatePayment.customer": "The customer who pays.",
    "CreatePayment.stored_credential": "For a card kept on file with the customer's consent.",
    "Customer.ip_address": "The customer's IPv4 or IPv6 address.",
    "Event.status": "The payment's status after the event.",
    "Event.type": _line("""
        What happened. `payment.` and the payment's new status, such as `payment.captured` and
        `payment.expired`; `refund.succeeded` and `refund.failed`; `capture.failed`,
        `void.failed`, `approve.failed` and `decline.failed`; `late_charge.found`, when the
        processor made a charge whose payment is failed here, and `late_charge.returned`,
        when that charge was refunded; `payment.settled` and `refund.settled`, when the batch
        settled, and `payment.returned`, `refund.returned`, `payment.charged_back` and
        `payment.chargeback_reversed`, also weeks later; `authorization.expiring`, some days
        before the processor lets a hold go. New types may be added."""),
    "Settled.kind": {"description": "What it was.", "enum": ["charge", "refund"]},
    "Settled.settlement_state": {
        "description": "What became of it, as of the payment.", "enum": list(SETTLEMENT_STATES),
    },
    "settled_at": {"description": "When the batch settled.", "format": "date-time"},
    "changed_at": {
        "description": "When it was returned, as far as the processor tells.",
        "format": "date-time",
    },
    "Payment.settled_at": {
        "description": _line("""
            When its batch settled. Absent until the processor's books were read that say so."""),
        "format": "date-time",
    },
    "Payment.settlement_state": {
        "description": _line("""
            What became of the money. `settled`: paid out; parts can be refunded, and it cannot be
            voided. `returned`, `charged_back`: the bank took it back, and it cannot be refunded.
            `chargeback_reversed`: it came back. Absent until it is known to have settled: until
            then only all of it can be refunded."""),
        "enum": list(SETTLEMENT_STATES),
    },
    "Payment.partial_refund": {
        "description": _line("""
            Whether a part of the payment can be refunded, as far as it is known. Absent until it is
            known to have settled: until then a part cannot, and the whole is given back by a void
            or by a refund of all of it. `impossible`: the bank took the money back, or nothing is
            left."""),
        "enum": list(PARTIAL_REFUNDS),
    },
    "FeedEvent.api_version": "The version of the API whose objects the event has.",
    "FeedEvent.data": {
        "description": _line("""
            The payment as it was after this event; null if its month was archived. For an event of
            a customer, a stored payment method or a batch, that object as it was; null once it was
            erased or purged."""),
        "anyOf": [
            *(
                {"$ref": REF + name}
                for name in ("Payment", "StoredCustomer", "StoredMethod", "Batch")
            ),
            {"type": "null"},
        ],
    },
    "FeedEvent.payment_id":
        "The payment. Null, as the fields down to `currency`, if the event is about a customer or "
        "a batch.",
    "FeedEvent.status": "The payment's status after the event.",
    "FeedEvent.type": "What happened, as in the events of a payment.",
    "FeedEventPage.data": "Events, oldest first.",
    "FeedEventPage.has_more": "Whether there are more events already.",
    "FeedEventPage.next_cursor": "The next page's `?after=`. It is never null.",
    "IdempotencyKey.key": "The key, as it was sent.",
    "IdempotencyKey.reply_status": "The HTTP status of the stored reply; null while there is none.",
    "NewApiKey.key": "The key, without its secret.",
    "NewApiKey.secret": "The bearer key. It is shown only once: store it safely.",
    "Operation.attempt": {"description": "1 for the first try, and so on.", "minimum": 1},
    "Operation.evidence": {
        "description": "Proof of an outcome that did not come as the call's own reply.",
        "type": ["object", "null"],
    },
    "Operation.processor_ms": "The processor's response time in milliseconds.",
    "Operation.reference": "The 20 characters sent to the processor as the invoice number.",
    "PaymentMethod.type": "`card`, `accept_token` or `bank_account`.",
    "PaymentMethod.id": {
        "description": "The stored payment method that was charged. Absent if none was.",
        "pattern": "^pm_[0-9a-f]{32}$",
    },
    "PaymentMethod.brand": _line("""
        `visa`, `mastercard`, `amex`, `discover`, `jcb`, `diners`, `unionpay`, or `echeck` for
        a bank account."""),
    "Processor.name": "The processor's name.",
    "Processor.auth_code": "The issuer's authorization code.",
    "Processor.avs_result": "The address check's letter, as sent.",
    "Processor.avs": {
        "description": "The address check's result, the same words for every processor.",
        "enum": [*AvsMatch, None],
    },
    "Processor.cvv_result": "The card code check's letter, as sent.",
    "Processor.cvv": {
        "description": "The card code check's result, the same words for every processor.",
        "enum": [*CvvMatch, None],
    },
    "Processor.retry": {
        "description": _RETRY,
        "enum": [*get_args(Retry), None],
    },
    "Processor.code": "The processor's code, as sent.",
    "Processor.message": "The processor's message, as sent.",
    "Processor.network_transaction_id": _line("""
        The card network's id. Keep the id of the first payment with a card on file: later
        payments send it."""),
    "Processor.transaction_id": "The processor's id.",
    "Problem.type": {
        "description": "The problem's page: /problems/ and the code.",
        "format": "uri-reference",
    },
    "Problem.title": "The kind of problem, in a sentence.",
    "Problem.status": {"description": "The HTTP status.", "minimum": 400, "maximum": 599},
    "Problem.request_id": "Quote it when you ask for help.",
    "Problem.errors": "Every bad field.",
    "Problem.payment_id": "The payment concerned.",
    "Problem.operation_id": "The operation concerned.",
    "Problem.processor_code": "The processor's code, as sent.",
    "Problem.processor_message": "The processor's message, as sent.",
    "Problem.decline_code": "Why it was declined, if known.",
    "Problem.archive": "Where an archived payment is, in the operator's words.",
    "BadField.pointer": _line("""
        A JSON pointer into the body (`#/amount`), `?name` for the query, or a header's name."""),
    "BadField.code": "A stable code: `missing`, `unknown_field`, `invalid`, ...",
    "Refund.method": {
        "description": _line("""
        How the money went back: `refund`, or `void` if the payment had not settled. Null until
        the refund succeeds."""),
        "enum": [*REFUND_METHODS, None],
    },
    "Refund.status": {
        "description": "`processing` until the outcome is known.",
        "enum": sorted(set(REFUND_STATUS.values())),
    },
    "SetAccount.processor": "The processor that the account is at.",
    "SetAccount.credentials": _line("""
        The account's credentials by name, for any processor. `login_id` and `transaction_key`
        stand for those of `authorize_net`."""),
    "SetAccount.check": "Ask the processor first, and save only what it accepts.",
    "StoredCredential.initiator": "The `customer`, if present; the `merchant`, if by agreement.",
    "StoredCredential.first": "Whether the customer agrees to it with this payment.",
    "StoredCredential.reason": "Why the merchant starts it. Only with `initiator: merchant`.",
    "StoredMethodToCharge.id": {
        "description": "The payment method's id.", "pattern": "^pm_[0-9a-f]{32}$",
    },
    "StoredMethodToCharge.cvc": "The card code, if the customer has typed it. Never stored.",
    "StoredPaymentMethod.stored": "The stored payment method.",
    "StoredCredential.recurring": "Whether it is part of a series.",
    "StoredCredential.network_transaction_id": _line("""
        `processor.network_transaction_id` of the first payment. A stored payment method
        remembers it."""),
    "Bucket.from": {"description": "Its beginning.", "format": "date-time"},
    "Bucket.to": {"description": "Its end: the next begins there.", "format": "date-time"},
    "Statistics.from": {"description": "The beginning.", "format": "date-time"},
    "Statistics.to": {"description": "The end; it is not part of it.", "format": "date-time"},
    "Statistics.interval": "What the time is split into.",
    "Bucket.totals": "For each currency, and brand if asked by brand. Empty if nothing happened.",
    "Count.count": "How many.",
    "Total.rates": "What share was approved, declined and given back.",
    "TakeProfile.what": "What to look at.",
    "TakeProfile.seconds": "For how long; the answer comes then. The operator may allow less.",
    "Profile.what": "What was looked at.",
    "Profile.unit": "What values count: `samples`, or `bytes`.",
    "Profile.pid": "The process that answered.",
    "Profile.seconds": "How long it was looked at.",
    "Profile.stacks": "The largest value first.",
    "ProfileStack.frames": "From the outermost call to the innermost. The first is the route, or "
    "the task.",
    "ProfileStack.value": "How often it was seen, or its bytes.",
    "RotateKey.overlap_seconds": "How long the old key keeps working, in seconds.",
    "Page.data": "The rows of this page.",
    "Page.has_more": "Whether another page follows.",
    "Payment.customer": _line("""
        The id of the customer whose stored payment method was charged; with `expand=customer` the
        customer, as it is now. Absent if no stored payment method was charged."""),
    "ExpandedCustomer.id": {
        "description": "The customer's id.", "pattern": "^cus_[0-9a-f]{32}$",
    },
    "ExpandedCustomer.reference": "The merchant's own id of the customer.",
    "ExpandedCustomer.email": "The customer's e-mail address.",
    "ExpandedCustomer.name": "The customer's name.",
    "ExpandedCustomer.description": "What the merchant noted.",
    "ExpandedCustomer.deleted": "Whether the customer was deleted since.",
    "Payment.refunds": "With `expand=refunds`: its oldest refunds. Absent otherwise.",
    "Payment.operations": "With `expand=operations`: its oldest operations. Absent otherwise.",
    "ExpandedRefunds.data": "The refunds, oldest first, 20 at most.",
    "ExpandedRefunds.has_more":
        "Whether there are more. They are in the list of the payment's refunds.",
    "ExpandedOperations.data": "The operations, oldest first, 20 at most.",
    "ExpandedOperations.has_more":
        "Whether there are more. They are in the list of the payment's operations.",
    "NumberedPage.data": "The rows of this page.",
    "NumberedPage.pagination": "Which page this is, and how many there are.",
    "Pagination.page": {"description": "The page's number, from 1.", "minimum": 1},
    "Pagination.size": {"description": "How many rows a page has.", "minimum": 1},
    "Pagination.total": "How many rows there are.",
    "Pagination.pages": "How many pages can be asked for.",
    "Pagination.total_is_estimate":
        "False: `total` is exact. True: there are at least so many rows.",
}  # fmt: skip
IDS: Final = {
    "Payment": "pay", "Refund": "re", "Operation": "op", "Event": "evt", "Merchant": "mer",
    "ApiKey": "key", "AlikePayment": "pay", "possible_duplicate_of": "pay", "payment_id": "pay",
    "operation_id": "op", "merchant_id": "mer", "Endpoint": "whe", "Attempt": "wha",
    "event_id": "evt", "StoredCustomer": "cus", "StoredMethod": "pm", "customer_id": "cus",
    "default_payment_method": "pm", "Batch": "bat", "Erasure": "cus",
}  # fmt: skip
