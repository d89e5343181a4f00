"""Every metric of the gateway, by name. docs/monitoring.md says what to do when one moves.

Names follow OpenTelemetry's semantic conventions, in Prometheus' spelling; where there is none they
begin with `easypay_`. No label holds an id or anything that a client sends.
"""

from pathlib import Path
from typing import Final

from easypay import __version__
from easypay.observability.metric_registry import Family, Registry

SECONDS: Final = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.075, 0.1, 0.2, 0.3,
    0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
)  # fmt: skip
"""OpenTelemetry's buckets, finer around the targets."""
_MONEY: Final = ("authorize", "sale", "capture", "void", "refund")
_OUTCOMES: Final = ("approved", "declined", "rejected", "held_for_review", "not_sent", "unknown")
SIZES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)


class Instruments:
    """One process's metrics. `directory`: where the processes of this host share them."""

    def __init__(self, directory: Path | None = None) -> None:
        self.registry = Registry(directory)
        self.postgres: dict[str, Family] = {}
        self.valkey: dict[str, Family] = {}
        self._for_requests(self.registry)
        self._for_processor_calls(self.registry)
        self._for_database(self.registry)
        self._for_caches(self.registry)
        self._for_exports(self.registry)
        self._for_feed(self.registry)
        self._for_work(self.registry)
        self._for_notifications(self.registry)
        self._for_unknown_outcomes(self.registry)
        self._for_reconciliation(self.registry)
        self._for_what_runs_out(self.registry)
        self._for_processes(self.registry)
        self._for_hosts(self.registry)
        self._for_postgres(self.registry)
        self._for_valkey(self.registry)

    def _for_requests(self, registry: Registry) -> None:
        self.requests = registry.histogram(
            "http_server_request_duration_seconds",
            "Duration of requests. Status 499: the client left first.",
            "http_request_method",
            "http_route",
            "http_response_status_code",
            bounds=SECONDS,
        )
        self.own_time = registry.histogram(
            "easypay_own_time_seconds",
            "Duration of a money request without the processor's part: our own time.",
            "http_route",
            bounds=SECONDS,
        )
        self.read_bytes = registry.counter(
            "easypay_read_bytes_total",
            "Bytes of the bodies sent for GET requests, by content coding.",
            "coding",
        )
        self.open_requests = registry.gauge("easypay_open_requests", "Requests in flight.")
        self.open_connections = registry.gauge(
            "easypay_open_connections", "Open client connections."
        )
        self.turned_away = registry.counter(
            "easypay_connections_turned_away_total",
            "Client connections that were refused, or ended for what the client did.",
            "reason",
        )

    def _for_processor_calls(self, registry: Registry) -> None:
        self.processor_calls = registry.histogram(
            "easypay_processor_call_duration_seconds",
            "Duration of calls to a processor.",
            "processor",
            "operation",
            bounds=SECONDS,
        )
        self.operations = registry.counter(
            "easypay_payment_operations_total",
            "Calls to a processor, by outcome.",
            "operation",
            "outcome",
        )
        for (
            operation
        ) in _MONEY:  # Prometheus sees no increase in a series that begins with its count
            for outcome in _OUTCOMES:
                self.operations.add(operation, outcome, by=0)
        self.possible_duplicates = registry.counter(
            "easypay_possible_duplicates_total",
            "Payments that looked like an earlier one, by what became of them.",
            "result",
        )
        self.account_refused = registry.counter(
            "easypay_processor_account_refused_total",
            "Calls for which the processor refused a merchant's credentials or account.",
            "code",
        )

        self.processor_connections = registry.gauge(
            "easypay_processor_connections",
            "Open connections to a processor.",
            "processor",
            "state",
        )
        self.processor_connection_age = registry.gauge(
            "easypay_processor_connection_age_seconds",
            "Age of the oldest open connection to a processor.",
            "processor",
            merge="max",
        )
        self.processor_connections_made = registry.counter(
            "easypay_processor_connections_made_total",
            "Connections to a processor that were opened, took the place of one, or failed.",
            "processor",
            "result",
        )
        self.processor_reuses = registry.counter(
            "easypay_processor_connection_reuses_total",
            "Requests to a processor over a connection that had carried one before.",
            "processor",
        )
        self.dns_lookups = registry.counter(
            "easypay_dns_lookups_total",
            "Questions to DNS for a processor's addresses.",
            "processor",
            "result",
        )
        self.certificate_days = registry.gauge(
            "easypay_processor_certificate_days",
            "Days until the certificate ends with which a processor answers.",
            "processor",
            merge="max",
        )
        self.dns_stale = registry.counter(
            "easypay_dns_stale_total",
            "How often a processor's addresses were used beyond their time to live.",
            "processor",
        )

    def _for_database(self, registry: Registry) -> None:
        self.database = registry.histogram(
            "db_client_operation_duration_seconds",
            "Duration of database statements. A group has the name of its committer.",
            "db_query_summary",
            bounds=SECONDS,
        )
        self.group_size = registry.histogram(
            "easypay_group_size", "Items that shared one commit.", "group", bounds=SIZES
        )
        self.group_wait = registry.histogram(
            "easypay_group_wait_seconds",
            "How long the oldest item of a group waited for it to start.",
            "group",
            bounds=SECONDS,
        )
        self.group_queue = registry.gauge(
            "easypay_group_queue", "Items waiting for a group.", "group"
        )
        self.pool = registry.gauge(
            "db_client_connection_count", "Connections of the pool.", "db_client_connection_state"
        )
        self.horizon = registry.gauge(
            "easypay_partition_horizon_days",
            "How many days ahead payments have tables of their month, without a gap.",
            merge="max",
        )
        self.compacted = registry.counter(
            "easypay_compacted_months_total",
            "Months whose operations were rewritten, without replies.",
        )
        self.compaction_saved = registry.counter(
            "easypay_compaction_saved_bytes_total",
            "Bytes that compacted months no longer take in the database.",
        )
        self.connections = registry.gauge(
            "easypay_database_connections",
            "Connections to the database server: allowed to clients, used, and the most that the "
            "running gateways and the other clients need.",
            "what",
            merge="max",
        )
        self.reading = registry.gauge(
            "easypay_reading_statements", "Statements of lists and other reading.", "state"
        )
        self.reads = registry.counter(
            "easypay_reads_total",
            "Lists and statistics by where they were read, if there is a read replica.",
            "place",
        )
        self.shared_reads = registry.counter(
            "easypay_shared_reads_total",
            "Answers that came from the read of another client, who asked the same just then.",
        )
        self.replica_lag = registry.gauge(
            "easypay_replica_lag_seconds",
            "Age of the latest moment that the read replica is known to have reached.",
            merge="max",
        )
        self.replica_in_use = registry.gauge(
            "easypay_replica_in_use", "Processes that read the read replica now."
        )

    def _for_caches(self, registry: Registry) -> None:
        self.cache = registry.counter(
            "easypay_cache_requests_total", "Look-ups in the caches.", "cache", "result"
        )
        self.cache_bytes = registry.gauge(
            "easypay_cache_near_bytes", "Bytes of answers that processes keep."
        )
        self.cache_entries = registry.gauge(
            "easypay_cache_near_entries", "Answers that processes keep."
        )

    def _for_exports(self, registry: Registry) -> None:
        self.exports_running = registry.gauge("easypay_exports_running", "Exports that run now.")
        self.exports = registry.counter(
            "easypay_exports_total",
            "Exports that ended: whole, cut by the gateway, or left by their client.",
            "result",
        )
        self.export_rows = registry.counter(
            "easypay_export_rows_total", "Payments that were exported."
        )

    def _for_feed(self, registry: Registry) -> None:
        self.feed_events = registry.counter(
            "easypay_feed_events_total", "Events that were given their place in the feed."
        )
        self.feed_behind = registry.histogram(
            "easypay_feed_behind_seconds",
            "How old the oldest event of a batch was when it got its place in the feed.",
            bounds=SECONDS,
        )

    def _for_work(self, registry: Registry) -> None:
        self.work_rows = registry.gauge(
            "easypay_work_rows",
            "Rows of a work list: ready to be claimed, waiting for their turn or time, parked.",
            "list",
            "state",
            merge="max",
        )
        self.work_age = registry.gauge(
            "easypay_work_age_seconds",
            "How long the oldest row of a work list that is ready has been due.",
            "list",
            merge="max",
        )
        self.work_ended = registry.counter(
            "easypay_work_ended_total",
            "Pieces of work by how they ended: done, later, parked, or lost to another worker.",
            "list",
            "how",
        )

        self.webhook_delay = registry.histogram(
            "easypay_webhook_delay_seconds",
            "How long after its event the first attempt to deliver a webhook began.",
            bounds=SECONDS,
        )

    def _for_notifications(self, registry: Registry) -> None:
        self.notifications = registry.counter(
            "easypay_notifications_total",
            "Notifications from processors: stored, repeated, irrelevant, unreadable, or refused "
            "for their signature.",
            "result",
        )
        self.processor_webhooks = registry.gauge(
            "easypay_processor_webhooks",
            "Accounts whose notifications were ordered, by what the processor says of the order.",
            "state",
            merge="max",
        )
        self.notifications_expected = registry.counter(
            "easypay_notifications_expected_total",
            "Approved charges that were looked at: whether their notification has come.",
            "result",
        )
        for result in ("came", "missed"):
            self.notifications_expected.add(result, by=0)

    def _for_unknown_outcomes(self, registry: Registry) -> None:
        self.unknown = registry.gauge(
            "easypay_unknown_operations", "Operations with an unknown outcome.", merge="max"
        )
        self.unknown_age = registry.gauge(
            "easypay_unknown_age_seconds", "Age of the oldest unknown outcome.", merge="max"
        )
        self.held = registry.gauge(
            "easypay_held_operations", "Payments that wait for a reviewer.", merge="max"
        )
        self.watched = registry.gauge(
            "easypay_watched_operations",
            "Operations still looked for although nobody waits for them, counted up to 100,000.",
            merge="max",
        )
        self.late_charges = registry.gauge(
            "easypay_late_charges",
            "Late charges that are being returned, and those that need a person.",
            "state",
            merge="max",
        )
        self.found_late = registry.counter(
            "easypay_late_charges_found_total",
            "Operations called absent that the processor had carried out after all.",
        )
        self.clock_offset = registry.gauge(
            "easypay_clock_offset_seconds",
            "How far this host's clock is ahead of the database's; negative: behind.",
            merge="max",
        )
        self.kept = registry.gauge(
            "easypay_outcomes_unrecorded",
            "Outcomes from the processor that the database has not taken yet.",
        )
        self.inconclusive = registry.counter(
            "easypay_inquiries_inconclusive_total", "Inquiries that proved nothing."
        )

    def _for_reconciliation(self, registry: Registry) -> None:
        self.breaks = registry.gauge(
            "easypay_reconciliation_breaks",
            "Differences between the processor's books and ours that are open.",
            "kind",
            merge="max",
        )
        self.break_age = registry.gauge(
            "easypay_reconciliation_break_age_seconds",
            "How long ago the oldest open difference was found.",
            merge="max",
        )
        self.reconciled_age = registry.gauge(
            "easypay_reconciliation_age_seconds",
            "How long ago the books were last read to their end: of the account whose were not for "
            "longest.",
            merge="max",
        )
        self.reconciliations = registry.counter(
            "easypay_reconciliations_total",
            "Readings of an account's books by how they ended.",
            "result",
        )
        for result in ("done", "failed"):
            self.reconciliations.add(result, by=0)

    def _for_what_runs_out(self, registry: Registry) -> None:
        self.disk_used = registry.gauge(
            "easypay_disk_used_ratio",
            "Used part (0 to 1) of the disk of this host, and of the database server's if it "
            "runs here.",
            "of",
            merge="max",
        )
        self.key_days = registry.gauge(
            "easypay_api_key_expiry_days",
            "Days until the first API key ends that was made for more than a week.",
            merge="max",
        )

    def _for_processes(self, registry: Registry) -> None:
        self.loop_lag = registry.histogram(
            "easypay_event_loop_lag_seconds",
            "How late the event loop was, measured ten times a second.",
            bounds=SECONDS,
        )
        self.process_cpu = registry.counter(
            "process_cpu_seconds_total", "CPU time of all gateway processes."
        )
        self.process_memory = registry.gauge(
            "process_resident_memory_bytes", "Memory of gateway processes."
        )
        self.open_files = registry.gauge(
            "process_open_fds", "Open files and connections of all processes."
        )
        self.most_files = registry.gauge(
            "process_max_fds", "How many files and connections one process may open.", merge="max"
        )
        self.threads = registry.gauge("process_threads", "Threads of all processes.")
        self.process_disk = registry.gauge(
            "process_disk_io_bytes", "Bytes that the processes read and wrote.", "disk_io_direction"
        )
        self.gc_pause = registry.histogram(
            "easypay_gc_pause_seconds",
            "How long Python's collector stopped a process.",
            "generation",
            bounds=SECONDS,
        )
        self.blocked = registry.counter(
            "easypay_event_loop_blocked_total",
            "How often an event loop stood still for longer than 0.1 s.",
        )
        self.functions = registry.histogram(
            "easypay_function_duration_seconds",
            "Duration of work in the background, by function and by how it ended.",
            "function",
            "result",
            bounds=SECONDS,
        )
        self.errors = registry.counter(
            "easypay_errors_total", "Log lines of errors, by their level.", "level"
        )
        self.error_kinds = registry.counter(
            "easypay_error_kinds_total", "Kinds of errors that had not been seen before."
        )
        self.profiles = registry.gauge("easypay_profiles_running", "Profiles that are taken now.")
        self.processes = registry.gauge(
            "easypay_processes", "Gateway processes alive on this host."
        )
        self.trace_spans = registry.counter(
            "easypay_trace_spans_total",
            "Spans by what became of them: sent; refused by the collector; failed; no room in the "
            "queue (full). And traces that were worth keeping and too many (limited).",
            "result",
        )
        registry.gauge(
            "easypay_build_info", "Always 1. The label is the version.", "version", merge="max"
        ).set(1, __version__)

    def _for_hosts(self, registry: Registry) -> None:
        """Every process of a host reads the same figures."""
        self.host_cpu = registry.seen(
            "system_cpu_time_seconds_total", "CPU time of the host, by its use.", "cpu_mode"
        )
        self.host_cpus = registry.gauge(
            "system_cpu_logical_count", "Processors of the host.", merge="max"
        )
        self.host_memory = registry.gauge(
            "system_memory_usage_bytes",
            "Memory of the host.",
            "system_memory_state",
            merge="max",
        )
        self.host_disk = registry.seen(
            "system_disk_io_bytes_total",
            "Bytes that the disks of the host read and wrote.",
            "disk_io_direction",
        )
        self.host_network = registry.seen(
            "system_network_io_bytes_total",
            "Bytes that the host received and sent, without those to itself.",
            "network_io_direction",
        )
        self.host_filesystem = registry.gauge(
            "system_filesystem_usage_bytes",
            "The file system of the directory that the gateway runs in.",
            "system_filesystem_state",
            merge="max",
        )

    def _for_postgres(self, registry: Registry) -> None:
        """One worker reads them for all; the others show nothing."""
        for name, text, *labels in (
            ("sessions", "Clients of the server, by what they do.", "state"),
            ("locks", "Locks that are held, and those that are waited for.", "state"),
            ("oldest_transaction_seconds", "How long the oldest transaction has been open."),
            ("replicas", "Replicas that are connected."),
            ("replication_lag_bytes", "How much of the log the last replica has yet to replay."),
            ("slot_kept_bytes", "Log that is kept for the slot that is behind most."),
            ("rows", "Rows of all tables: live, and dead until vacuum removes them.", "state"),
            ("database_bytes", "Size of the database."),
            ("transaction_id_age", "Age of the oldest transaction id of the database."),
        ):
            full = f"easypay_postgres_{name}"
            self.postgres[name] = registry.gauge(full, text, *labels, merge="max")
        for name, text, *labels in (
            ("wal_bytes_total", "Log that the server has written."),
            ("checkpoints_total", "Checkpoints, by why they were made.", "why"),
            ("checkpoint_seconds_total", "Time that checkpoints took to write and to sync."),
            ("blocks_total", "Pages that were found in the server's cache, or not.", "result"),
            ("transactions_total", "Transactions of the database, by how they ended.", "result"),
            ("deadlocks_total", "Deadlocks."),
            ("temporary_bytes_total", "Bytes that statements wrote because memory was short."),
        ):
            self.postgres[name] = registry.seen(f"easypay_postgres_{name}", text, *labels)

    def _for_valkey(self, registry: Registry) -> None:
        """The shared cache, read by the same worker."""
        for name, text, *labels in (
            ("memory_bytes", "Memory: used, and the most that is allowed.", "what"),
            ("clients", "Connected clients."),
            ("keys", "Keys."),
            ("replication_lag_bytes", "How much the last replica has yet to read."),
        ):
            full = f"easypay_valkey_{name}"
            self.valkey[name] = registry.gauge(full, text, *labels, merge="max")
        for name, text, *labels in (
            ("commands_total", "Commands that were run."),
            ("lookups_total", "Keys that were looked up, found or not.", "result"),
            ("evicted_total", "Keys that were thrown out because memory was short."),
            ("network_bytes_total", "Bytes that came in and went out.", "network_io_direction"),
        ):
            self.valkey[name] = registry.seen(f"easypay_valkey_{name}", text, *labels)
