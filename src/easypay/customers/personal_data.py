"""Every column that could hold personal data of a customer, and what an erasure does with it. Pure.

The erasure builds its statements from this table, and docs/customers.md shows it. A test fails if
the database has a column of text, JSON or bytes that is not named here.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Final, NamedTuple

from easypay.payment_details import DETAIL_FIELDS


class Fate(StrEnum):
    """What an erasure does with a column."""

    ERASED = "erased"
    ON_REQUEST = "on request"  # erased if references are to go, too
    KEPT = "kept"
    NOT_PERSONAL = "not personal"  # it is about no customer


class Columns(NamedTuple):
    """Columns of a table with one fate, and why."""

    table: str
    columns: tuple[str, ...]
    fate: Fate
    why: str


def _of(table: str, columns: str, fate: Fate, why: str) -> Columns:
    return Columns(table, tuple(columns.split()), fate, why)


_BOOKS: Final = "bookkeeping: what was paid, when, how much, and what became of it"
_MATCHES: Final = "bookkeeping: finds the payment at the processor and the bank"
_ANSWER: Final = "the processor's own words about the payment"
_CARD: Final = "brand and last four digits: bookkeeping, refunds and disputes need them"
_WORDS: Final = "words and ids of EasyPay's own"
_CONFIGURED: Final = "what merchants and operators have set up"
_REPEATS: Final = (
    "recognises a repeated request, so that nothing is done twice; a hash, or a key that the shop "
    "chose"
)
_REPLY: Final = "a repeat with its key gets the same reply, without what was erased"

COLUMNS: Final[tuple[Columns, ...]] = (
    # the customer and its methods
    _of("customers", "email name description metadata", Fate.ERASED, "the customer's own"),
    _of("customers", "reference", Fate.ON_REQUEST, "the shop's own id of the customer"),
    _of("customers", "request_fingerprint", Fate.ERASED, "a hash of what was asked"),
    _of("customers", "mode", Fate.KEPT, _WORDS),
    _of("customers", "idempotency_key", Fate.KEPT, _REPEATS),
    _of("payment_methods", "billing_address", Fate.ERASED, "names, address and phone"),
    _of("payment_methods", "card_fingerprint", Fate.ERASED, "a hash of the card number"),
    _of("payment_methods", "wanted failure", Fate.ERASED, "may hold an address"),
    _of("payment_methods", "request_fingerprint", Fate.ERASED, "a hash of what was asked"),
    _of("payment_methods", "brand last4", Fate.KEPT, _CARD),
    _of(
        "payment_methods",
        "customer_profile_id payment_profile_id network_transaction_id",
        *(Fate.KEPT, "the processor's ids; the processor has deleted what they named"),
    ),
    _of("payment_methods", "mode processor state type source", Fate.KEPT, _WORDS),
    _of("payment_methods", "idempotency_key", Fate.KEPT, _REPEATS),
    _of(
        "customer_profiles",
        "mode processor reference customer_profile_id state",
        *(Fate.KEPT, "the processor's id; the processor has deleted what it named"),
    ),
    _of("customer_events", "data", Fate.ERASED, "the customer or method as it was then"),
    _of("customer_events", "mode", Fate.KEPT, _WORDS),
    _of("customer_erasures", "mode state step rows waiting_for", Fate.KEPT, _WORDS),
    _of("erasure_work", "mode reason", Fate.KEPT, _WORDS),
    _of("erased_payments", "mode", Fate.KEPT, _WORDS),
    _of("vault_work", "mode kind reason", Fate.KEPT, _WORDS),
    # payments
    _of("payments", "customer", Fate.ERASED, "e-mail, IP address and reference of the customer"),
    _of("payments", "billing_address", Fate.ERASED, "names, address and phone"),
    _of("payments", "metadata", Fate.ERASED, "the shop's free text"),
    _of("payments", "card_fingerprint", Fate.ERASED, "a hash of the card number"),
    _of(
        "payments",
        " ".join(DETAIL_FIELDS),
        *(Fate.ON_REQUEST, "the shop's own texts: its books may need them"),
    ),
    _of(
        "payments",
        "mode status currency capture method_type processor settlement_state",
        *(Fate.KEPT, _BOOKS),
    ),
    _of("payments", "card_brand card_last4", Fate.KEPT, _CARD),
    _of("payments", "transaction_id network_transaction_id auth_code", Fate.KEPT, _MATCHES),
    _of(
        "payments",
        "decline_code avs_result cvv_result avs_word cvv_word retry processor_code"
        " processor_message",
        *(Fate.KEPT, _ANSWER),
    ),
    _of("operations", "reply_body", Fate.ERASED, _REPLY),
    _of("operations", "mode kind state currency reference", Fate.KEPT, _BOOKS),
    _of("operations", "parent_transaction_id transaction_id auth_code", Fate.KEPT, _MATCHES),
    _of(
        "operations",
        "decline_code processor_code processor_message retry",
        *(Fate.KEPT, _ANSWER),
    ),
    _of("operations", "evidence", Fate.KEPT, "why an outcome is believed: the processor's ids"),
    _of("events", "mode type status currency", Fate.KEPT, _BOOKS),
    _of("idempotency_keys", "mode", Fate.KEPT, _WORDS),
    _of("idempotency_keys", "key fingerprint", Fate.KEPT, f"{_REPEATS}. Deleted after 30 days"),
    _of(
        "queued_operations",
        "sealed",
        *(Fate.KEPT, "encrypted, and deleted once sent; the erasure waits for it"),
    ),
    _of("queued_operations", "mode kind reason", Fate.KEPT, _WORDS),
    _of("late_charges", "mode kind transaction_id currency state", Fate.KEPT, _BOOKS),
    _of("late_charges", "reason evidence", Fate.KEPT, "why money was given back or kept"),
    _of("duplicate_guards", "mode digest", Fate.KEPT, "a hash; deleted within a day"),
    _of("restored_operations", "mode kind transaction_id currency", Fate.KEPT, _BOOKS),
    _of("restored_operations", "last4", Fate.KEPT, _CARD),
    _of("restored_operations", "order_digest", Fate.KEPT, _REPEATS),
    _of("unresolved_operations", "last_finding account searched", Fate.KEPT, _WORDS),
    _of("watched_operations", "account purpose last_finding searched", Fate.KEPT, _WORDS),
    # what is made from payments
    _of(
        "payment_search",
        "customer_reference order_reference",
        *(Fate.ON_REQUEST, "a copy of the payment's"),
    ),
    _of(
        "payment_search",
        "status currency card_brand card_last4 decline_code transaction_id counted_status"
        " counted_brand",
        *(Fate.KEPT, _BOOKS),
    ),
    # what the processor's books say of payments
    _of("settled_transactions", "order_reference", Fate.ON_REQUEST, "a copy of the payment's"),
    _of("settled_transactions", "card_brand last4", Fate.KEPT, _CARD),
    _of("settled_transactions", "account batch_id transaction_id reference", Fate.KEPT, _MATCHES),
    _of(
        "settled_transactions",
        "kind status settlement_state currency mode told change_code change_message",
        *(Fate.KEPT, _BOOKS),
    ),
    _of(
        "settlement_sums",
        "account batch_id mode currency card_brand kind",
        *(Fate.NOT_PERSONAL, "sums of many payments"),
    ),
    _of("settlement_changes", "account batch_id transaction_id", Fate.KEPT, _MATCHES),
    _of("settlement_changes", "became code message currency mode", Fate.KEPT, _BOOKS),
    _of("account_books", "account currency last_failure", Fate.KEPT, _WORDS),
    _of(
        "settled_batches",
        "account batch_id state method statistics",
        *(Fate.NOT_PERSONAL, "sums of many payments"),
    ),
    _of("reconciliation_breaks", "last4", Fate.KEPT, _CARD),
    _of(
        "reconciliation_breaks",
        "account subject batch_id transaction_id reference",
        *(Fate.KEPT, _MATCHES),
    ),
    _of(
        "reconciliation_breaks",
        "kind state mode our_state our_currency their_state their_currency",
        *(Fate.KEPT, _BOOKS),
    ),
    _of(
        "reconciliation_breaks",
        "owner closed_by reason",
        *(Fate.KEPT, "what whoever closed a difference wrote about it, and their name"),
    ),
    _of("payment_counts", "mode grain currency brand", Fate.NOT_PERSONAL, "sums of many payments"),
    _of("decline_counts", "mode grain currency brand code", Fate.NOT_PERSONAL, "sums of many"),
    # batches
    _of("batch_lines", "state operation outcome currency", Fate.KEPT, _BOOKS),
    _of(
        "batch_lines",
        "request",
        *(Fate.ERASED, "what the file said; of a line that waits, what is needed to send it stays"),
    ),
    _of("batch_lines", "reference", Fate.ON_REQUEST, "the shop's own reference of the line"),
    _of("batch_lines", "sealed", Fate.KEPT, "encrypted, and deleted once sent or never to be sent"),
    _of("batch_lines", "detail", Fate.KEPT, "why the line failed, without what it said"),
    _of(
        "batches",
        "mode key name format on_error state reason digest",
        *(Fate.NOT_PERSONAL, "about a whole file"),
    ),
    _of("batch_events", "data", Fate.NOT_PERSONAL, "the batch as it was then"),
    _of("batch_groups", "reason", Fate.KEPT, _WORDS),
    _of("batch_totals", "operation state outcome currency", Fate.NOT_PERSONAL, "sums of many"),
    # webhooks
    _of("webhook_attempts", "answer", Fate.ERASED, "what the shop answered may repeat the event"),
    _of("webhook_attempts", "type outcome url reason", Fate.KEPT, _WORDS),
    _of(
        "webhook_deliveries",
        "mode type data reason",
        *(Fate.KEPT, "an event's object is made when it is sent; `data` is for other messages"),
    ),
    _of(
        "webhook_endpoints",
        "mode url description types state reason secret old_secret",
        *(Fate.NOT_PERSONAL, _CONFIGURED),
    ),
    # what the processor tells by itself
    _of(
        "notifications", "transaction_id reference", Fate.KEPT, f"{_MATCHES}. Deleted after 14 days"
    ),
    _of("notifications", "account notification_id event_type", Fate.NOT_PERSONAL, _WORDS),
    _of("notification_work", "reference charge_reference", Fate.KEPT, _MATCHES),
    _of(
        "notification_work",
        "account notification_id happened reason",
        *(Fate.NOT_PERSONAL, _WORDS),
    ),
    _of("account_webhooks", "account webhook_id url state", Fate.NOT_PERSONAL, _CONFIGURED),
    # what people did
    _of(
        "audit_entries",
        "actor action subject detail",
        *(Fate.KEPT, "who did what by hand; never changed, and no place for personal data"),
    ),
    # what is about no customer
    _of("api_keys", "mode name digest last4 scopes", Fate.NOT_PERSONAL, _CONFIGURED),
    _of(
        "merchants",
        "name currencies late_charges duplicates time_zone",
        *(Fate.NOT_PERSONAL, _CONFIGURED),
    ),
    _of("configuration", "copy timeline", Fate.NOT_PERSONAL, _WORDS),
    _of("processor_accounts", "mode processor credentials", Fate.NOT_PERSONAL, _CONFIGURED),
    _of(
        "processor_logins",
        "mode processor url account credentials",
        *(Fate.NOT_PERSONAL, _CONFIGURED),
    ),
    _of("statistics_seals", "time_zone", Fate.NOT_PERSONAL, _CONFIGURED),
    _of("streams", "mode", Fate.NOT_PERSONAL, _WORDS),
    _of("account_passes", "account", Fate.NOT_PERSONAL, _WORDS),
    _of("archive_changes", "month", Fate.NOT_PERSONAL, _WORDS),
    _of("archived_months", "month label manifest", Fate.NOT_PERSONAL, "which files a month is in"),
    _of("compacted_months", "month", Fate.NOT_PERSONAL, _WORDS),
    _of("feed_months", "month", Fate.NOT_PERSONAL, _WORDS),
    _of("feed_readers", "name", Fate.NOT_PERSONAL, _WORDS),
    _of("leases", "name", Fate.NOT_PERSONAL, _WORDS),
    _of("alert_states", "rule series told told_over", Fate.NOT_PERSONAL, _WORDS),
    _of(
        "error_kinds",
        "fingerprint level exception place message",
        *(Fate.NOT_PERSONAL, "places in the code, and texts without values"),
    ),
    _of("migrations", "name checksum", Fate.NOT_PERSONAL, _WORDS),
)

TEXTS_OF_PAYMENTS: Final = ("customer_reference", "order_reference")
"""Columns of payments that `payment_search` repeats."""


def erased(table: str, *, references: bool) -> tuple[str, ...]:
    """Return the columns of a table that an erasure removes."""
    fates = {Fate.ERASED, Fate.ON_REQUEST} if references else {Fate.ERASED}
    return tuple(
        column
        for each in COLUMNS
        if each.table == table and each.fate in fates
        for column in each.columns
    )


def kept(*, references: bool) -> Iterator[Columns]:
    """Yield what an erasure leaves of a customer and of its payments, and why."""
    for each in COLUMNS:
        if each.fate is Fate.KEPT or (each.fate is Fate.ON_REQUEST and not references):
            yield each


def as_table() -> str:
    """Return the table in Markdown, for docs/customers.md. Columns that are about no customer are
    left out."""
    lines = ["| table | columns | an erasure | why |", "| --- | --- | --- | --- |"]
    for each in COLUMNS:
        if each.fate is not Fate.NOT_PERSONAL:
            columns = ", ".join(f"`{column}`" for column in each.columns)
            done = {"erased": "removes them", "on request": "removes them with `references`"}
            what = done.get(each.fate, "keeps them")
            lines.append(f"| `{each.table}` | {columns} | {what} | {each.why} |")
    return "\n".join(lines)
