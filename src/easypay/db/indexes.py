"""Every index of the schema, with what it serves.

docs/database.md shows this table with sizes. Tests compare it with the schema, and each entry with
the plans of the statements that it serves (tests/plans). `easypay db doctor` warns of indexes that
are missing, and of unused ones that are not listed here.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple


class Index(NamedTuple):
    """What an index is for."""

    table: str
    serves: str
    is_rule: bool = False
    """It exists for its rule alone, that something appears once; no statement searches by it."""


def _of(table: str, **serves: str) -> dict[str, Index]:
    return {name: Index(table, text) for name, text in serves.items()}


def _rule(table: str, **serves: str) -> dict[str, Index]:
    return {name: Index(table, text, is_rule=True) for name, text in serves.items()}


INDEXES: Final[Mapping[str, Index]] = {
    **_of(
        "payments",
        payments_pkey="reads and writes by id; the list of a merchant and mode, newest first",
    ),
    **_of(
        "operations",
        operations_pkey="reads and writes by id; the way from the processor's reference to the row",
        operations_of_payment="a payment's operations and refunds",
        operations_refunds="a merchant's refunds",
        operations_recent="the sweeps: operations of all merchants begun in a span of time",
    ),
    **_of(
        "events",
        events_of_payment="a payment's events; the fold of the feed: an event by its ids",
        events_written="the feed: events of transactions that were not read yet",
        events_pkey="reconciliation: what ended in a span of time; an event is written once",
    ),
    **_of(
        "idempotency_keys",
        idempotency_keys_pkey="the look-up of a key; a key is claimed once",
        idempotency_keys_age="the daily purge of keys past their time",
    ),
    **_of(
        "unresolved_operations",
        unresolved_operations_pkey="the resolver: recording, postponing and closing an operation",
        unresolved_operations_account="the resolver: what is due of one account",
        unresolved_operations_due="the resolver: what was never sent and is due",
    ),
    **_of(
        "watched_operations",
        watched_operations_pkey="watching, postponing and closing an operation",
        watched_operations_due="the resolver: what is due of one account",
    ),
    **_of(
        "queued_operations",
        queued_operations_pkey="the end of a queued operation, repeats of its request, and turns of"
        " merchants",
        queued_operations_due="workers: what is due, oldest first",
        queued_operations_order="workers: whether an earlier operation of the payment waits",
    ),
    **_of(
        "notifications",
        notifications_reference="approved charges of which nothing was told",
        notifications_age="the purge of notifications past their time",
    ),
    **_rule("notifications", notifications_pkey="a notification is stored once"),
    **_of(
        "notification_work",
        notification_work_pkey="the end of the work on a notification",
        notification_work_due="workers: what is due, oldest first",
    ),
    **_of("account_webhooks", account_webhooks_pkey="the webhook of an account"),
    **_of("account_passes", account_passes_pkey="the lease of an account"),
    **_of("leases", leases_pkey="taking and holding a lease"),
    **_of("alert_states", alert_states_pkey="the row of an alert"),
    **_of("error_kinds", error_kinds_pkey="the row of a kind of errors"),
    **_of(
        "late_charges",
        late_charges_pkey="the late charge of an operation",
        late_charges_open="the list and the count of what is being given back or needs a person",
    ),
    **_of(
        "feed",
        feed_pkey="readers of everything, in order",
        feed_position="the cursor of a stream of events, and the next position",
    ),
    **_of(
        "streams",
        streams_pkey="the fold of the feed: whose stream it is",
        stream_once="the stream of a merchant and mode",
    ),
    **_rule("feed_months", feed_months_pkey="a month has one mark; a few hundred rows, read whole"),
    **_rule("feed_head", feed_head_pkey="there is one row"),
    **_rule("feed_readers", feed_readers_pkey="a reader has one mark; a few rows, read whole"),
    **_of(
        "payment_search",
        payment_search_pkey="filling the search table; filters without an index of their own",
        payment_search_status="the filters `status` and `currency`, alone and together",
        payment_search_amount="the filters on the amount",
        payment_search_card="the filters on the card's last four digits, also with an amount",
        payment_search_transaction="the filter on the processor's transaction",
        payment_search_order="the filter `order_reference`",
        payment_search_customer="the filter `customer_reference`",
        payment_search_stored="the filter `customer`",
        payment_search_decline="the filter on the decline code",
        payment_search_refunded="the filter on refunds",
    ),
    **_of(
        "settled_transactions",
        settled_transactions_pkey="the comparison of a batch; statements by batch",
        settled_transactions_payment="the settlement of one payment; the erasure of its references",
        settled_transactions_untold="the settlement: what payments were not told of yet",
    ),
    **_of("settlement_sums", settlement_sums_pkey="a merchant's settlements"),
    **_of(
        "settlement_changes",
        settlement_changes_pkey="the number of a change; what became of a batch's transactions",
    ),
    **_of("account_books", account_books_pkey="the lease of whoever reads an account's books"),
    **_of(
        "settled_batches",
        settled_batches_pkey="the comparison of the list of batches",
        settled_batches_time="settlements, newest first",
    ),
    **_of(
        "reconciliation_breaks",
        reconciliation_breaks_pkey="reads of one difference",
        break_once="a difference is found once; clearing it",
        reconciliation_breaks_open="open differences, their number and age",
        reconciliation_breaks_merchant="a merchant's differences, newest first",
    ),
    **_of("payment_counts", payment_counts_pkey="statistics: the counts of a span"),
    **_of("decline_counts", decline_counts_pkey="statistics: why payments were declined"),
    **_of(
        "statistics_seals",
        statistics_seals_pkey="until when days and months are added up",
        statistics_seals_newest="the fold of the feed: whether anything is older than a sealed day",
    ),
    **_of("duplicate_guards", duplicate_guards_pkey="the begin of a payment that is compared"),
    **_of(
        "webhook_endpoints",
        webhook_endpoints_pkey="a merchant's endpoints; the endpoint of a delivery",
    ),
    **_of(
        "webhook_deliveries",
        webhook_deliveries_pkey="finishing, postponing and parking a delivery",
        webhook_deliveries_due="a claim: which endpoints have something, and the oldest of each",
        webhook_deliveries_order="a claim: whether an earlier event of the payment still waits",
    ),
    **_of(
        "webhook_attempts",
        webhook_attempts_pkey="the attempts at an endpoint, newest first",
        webhook_attempts_age="the daily purge of old attempts",
    ),
    **_of(
        "customers",
        customers_pkey="reads and writes by id; the list of a merchant and mode, newest first",
        customers_reference="the customer with a shop's reference; it belongs to one at a time",
        customers_request="repeats of a request that creates a customer",
        customers_email="the customers with an email address",
    ),
    **_of(
        "customer_profiles",
        customer_profiles_pkey="reads and writes by id",
        customer_profiles_customer="a profile with room; the deletion of a customer",
    ),
    **_rule("customer_profiles", profile_reference_once="a reference names one profile"),
    **_of(
        "payment_methods",
        payment_methods_pkey="paying with a stored method; reads and writes by id",
        payment_methods_customer="a customer's methods; the deletion of a customer",
        payment_methods_request="repeats of a request that stores a method",
        payment_methods_vaulted="whether a method of the vault is known; one row has it",
        payment_methods_expiring="the daily pass over cards that expire soon",
    ),
    **_of(
        "vault_work",
        vault_work_pkey="the end of a piece of work",
        vault_work_due="a claim: what is due, oldest first",
    ),
    **_of(
        "customer_events",
        customer_events_pkey="the object of an event of a customer",
        customer_events_age="the daily purge of old objects",
    ),
    **_of(
        "batches",
        batches_pkey="a merchant's batches, newest first; the batch of a group",
        batches_key="uploads: the batch of a key",
        batches_file="uploads: the batch of the same file",
        batches_running="workers: the batches that run",
        batches_uploads="workers: uploads that were cut",
        batches_over="the purge: batches that are over, oldest first",
    ),
    **_of("batch_lines", batch_lines_pkey="the lines of a group, and the results, in order"),
    **_of(
        "batch_groups",
        batch_groups_pkey="the end of a group; which groups of a batch are under way",
        batch_groups_due="workers: groups whose lease has ended",
    ),
    **_of("batch_events", batch_events_pkey="the object of an event of a batch"),
    **_of("batch_totals", batch_totals_pkey="adding up what has ended"),
    **_of("merchants", merchants_pkey="authentication, and all changes of a merchant"),
    **_of(
        "api_keys",
        api_keys_digest="authentication: the digest of a bearer token finds its row",
        api_keys_pkey="a merchant's keys",
    ),
    **_of("processor_accounts", processor_accounts_pkey="authentication: the account of a mode"),
    **_of(
        "processor_logins",
        processor_logins_pkey="the account that took a payment",
        processor_logins_account="the resolver: whose operations an account's lists prove",
        login_once="the id under which an account is kept; an account is kept once",
    ),
    **_of(
        "restored_operations",
        restored_operations_pkey="what a restore brought back, each once",
        restored_operations_alike="authentication: has the merchant any; what a request repeats",
    ),
    **_rule("configuration", configuration_pkey="there is one row"),
    **_rule("sweeps", sweeps_pkey="there is one row"),
    **_rule(
        "archived_months", archived_months_pkey="a month is archived once; a few rows, read whole"
    ),
    **_rule(
        "compacted_months",
        compacted_months_pkey="a month is compacted once; a row for each month, read whole",
    ),
    **_of(
        "customer_erasures",
        customer_erasures_pkey="how far the erasure of a customer is",
    ),
    **_of(
        "erased_payments",
        erased_payments_pkey="an erasure: whether a message was about one of its payments",
    ),
    **_of(
        "erasure_work",
        erasure_work_pkey="the end of an erasure",
        erasure_work_due="a claim: what is due, oldest first",
    ),
    **_rule("audit_entries", audit_entries_pkey="an entry has one row"),
    **_rule("migrations", migrations_pkey="a migration is applied once"),
}
