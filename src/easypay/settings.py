"""Every setting of a gateway, read once from the environment (prefix `EASYPAY_`) and passed down.

A gateway reads nothing else from the environment. `data_dir.Environment` has the variables that
`easypay up` and the other commands read. `docs/settings.md` is generated from the descriptions.
"""

import shlex
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from easypay import addresses

QUESTION_CONNECTIONS = 2
"""Connections of one process for statistics, which need a transaction of their own."""
WORKER_POOL_SIZE = 4
SANDBOX_URL = "https://apitest.authorize.net/xml/v1/request.api"
PRODUCTION_URL = "https://api.authorize.net/xml/v1/request.api"
_SECRET_ADDRESSES: Final[Mapping[str, Callable[[str], object]]] = {
    "alerts_smtp": addresses.check_mail_server,
    "alerts_webhook": addresses.secret_web_address,
    "cache_url": addresses.check_cache,
    "database_replica_url": addresses.check_one_server,
    "traces_headers": addresses.headers_of,
}
"""What an address with a password in it must be, and headers; each raises ValueError."""


class Settings(BaseSettings):
    """The settings of one gateway process. A name's ending is its unit: `_s` is seconds."""

    model_config = SettingsConfigDict(
        env_prefix="EASYPAY_",
        frozen=True,
        extra="ignore",
        str_strip_whitespace=True,
        allow_inf_nan=False,
    )

    database_url: SecretStr = Field(description="PostgreSQL 15 to 18, as a postgresql:// URL")
    encryption_key: SecretStr = Field(
        description="32 random bytes in base64. It encrypts the merchants' processor credentials "
        "and signs list cursors. Keep a copy: without it the credentials cannot be read"
    )
    admin_key: SecretStr | None = Field(
        default=None,
        description="Bearer key for `/api/v1/admin` and `/metrics`. If unset, both refuse every "
        "request",
    )

    authorize_net_test_url: str = Field(
        default=SANDBOX_URL, description="Where payments made with test keys are sent"
    )
    authorize_net_live_url: str = Field(
        default=PRODUCTION_URL, description="Where payments made with live keys are sent"
    )
    processor_urls: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Addresses of other processors, where they differ from the processor's own: "
        "`name.test=https://…` or `name.live=https://…`, separated by commas",
    )
    processor_deadline_s: float = Field(
        default=10.0,
        gt=0,
        description="Time limit for one call to the processor. After it the outcome is unknown, "
        "the client gets 202, and the resolver asks the processor",
    )
    processor_connect_timeout_s: float = Field(
        default=1.0,
        gt=0,
        description="Time limit for connecting to the processor. After it the request is known "
        "not to have been sent, and the client gets 503",
    )
    processor_connections: int = Field(
        default=1024, gt=0, description="Maximum open connections to each processor, per process"
    )
    processor_connection_age_s: float = Field(
        default=600.0,
        gt=0,
        description="How old a connection to a processor may become before a new one takes its "
        "place, while requests go on",
    )
    processor_resolver: str | None = Field(
        default=None,
        description="DNS resolver for the processors' names, as an IP address or `address:port`. "
        "If unset, those of `/etc/resolv.conf`. `/etc/hosts` comes first",
    )
    processor_dns_stale_s: float = Field(
        default=600.0,
        ge=0,
        description="How long a processor's addresses may be used beyond their time to live "
        "(TTL), while the resolver fails",
    )

    database_pool_size: int = Field(
        default=3,
        ge=2,
        description="Connections for replays, the resolver and administration, per process",
    )
    group_size: int = Field(default=64, gt=0, description="Maximum payments in one commit")
    groups_in_flight: int = Field(
        default=2,
        gt=0,
        description="Commits of one kind that may run at once, each on its own connection. A "
        "process opens four times this many connections, five times if merchants check duplicates, "
        "once more if payments are queued, and those of the pool and of reading",
    )
    max_queued: int = Field(
        default=2048,
        gt=0,
        description="Maximum requests that wait for a commit, per kind and process. Further "
        "requests get 503",
    )
    queue_limit: int = Field(
        default=100_000,
        gt=0,
        description="About how many requests with `Prefer: respond-async` may wait to be sent, of "
        "all merchants together. Further ones get 503",
    )
    queue_limit_per_merchant: int = Field(
        default=20_000,
        gt=0,
        description="About how many of them may be one merchant's. Further ones get 429",
    )
    batch_max_bytes: int = Field(
        default=512 * 1024 * 1024,
        gt=0,
        description="Maximum bytes of the file of a batch",
    )
    batch_max_lines: int = Field(
        default=1_000_000,
        gt=0,
        le=2_000_000_000,
        description="Maximum lines of the file of a batch",
    )
    batch_uploads_per_merchant: int = Field(
        default=2,
        gt=0,
        description="How many batches of one merchant may be uploaded at the same time, in all "
        "processes together. Further ones get 429",
    )
    batch_upload_timeout_s: float = Field(
        default=900.0,
        gt=0,
        description="How long an upload may take in all",
    )
    batch_days: int = Field(
        default=90,
        ge=1,
        description="How long batches and their results are kept, from the end of the batch. Not "
        "less than keys: an upload that is repeated with its key makes no second batch",
    )
    queue_poll_s: float = Field(
        default=1.0,
        gt=0,
        description="How often a worker without work looks for queued payments",
    )
    database_patience_s: float = Field(
        default=5.0,
        gt=0,
        description="How long a client waits for the database before it gets 503. A connection "
        "that is silent for four fifths of this time is replaced",
    )
    record_patience_s: float = Field(
        default=5.0,
        gt=0,
        description="How long a client waits for a known outcome to be recorded. After it the "
        "client gets 202, and recording goes on in the background",
    )

    database_reading_connections: int = Field(
        default=3,
        ge=1,
        description="Connections for lists, other reading and statistics, per process. So many "
        "reading requests run at once. They never use the connections of payments",
    )
    reading_queue: int = Field(
        default=64,
        ge=0,
        description="Maximum reading requests that wait for one of these connections, per "
        "process. Further requests get 503",
    )
    reading_timeout_s: float = Field(
        default=4.0,
        gt=0,
        description="Time limit for one reading statement. The database stops it after three "
        "quarters of this time, and the client gets 503",
    )

    database_replica_url: SecretStr | None = Field(
        default=None,
        description="A streaming replica of the database, one server, as a postgresql:// URL. It "
        "serves lists, statistics and exports, never what decides about money, nor one payment by "
        "its id",
    )
    database_replica_lag_s: float = Field(
        default=1.0,
        ge=0.5,
        description="How far the replica may be behind. While it is further behind, or cannot be "
        "asked, the primary is read instead",
    )

    exports: int = Field(
        default=4,
        ge=0,
        description="Exports of payments that may run at once, per process, each over a connection "
        "of its own. Further ones get 503. 0 turns them off",
    )
    exports_per_merchant: int = Field(
        default=2,
        ge=1,
        description="Exports of one merchant that may run at once, in all processes together. "
        "Further ones get 429",
    )
    export_timeout_s: float = Field(
        default=600.0,
        gt=0,
        description="Time limit for one export. After it the export is cut off. While it runs, "
        "PostgreSQL keeps every row version that was replaced since it began",
    )
    export_stall_s: float = Field(
        default=30.0,
        gt=0,
        description="How long the client of an export may take to read 64 KiB before it is cut off",
    )
    export_share: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="The part of the time that an export works while payments are written. Alone, "
        "it uses all of it",
    )

    unknown_first_inquiry_s: float = Field(
        default=5.0,
        ge=0,
        description="When an outcome is unknown: time from then until the first inquiry",
    )
    unknown_interval_s: float = Field(
        default=10.0, gt=0, description="Time between later inquiries about an unknown outcome"
    )
    unknown_pass_gap_s: float = Field(
        default=30.0,
        ge=0,
        description="Minimum time between the two passes that must both miss an operation before "
        "it is called absent",
    )
    unknown_absent_after_s: float = Field(
        default=900.0,
        gt=0,
        description="Minimum age of an operation that is called absent, if no newer charge shows "
        "that the processor's lists are up to date",
    )
    not_sent_ends_after_s: float = Field(
        default=60.0,
        gt=0,
        description="How long a request that was never sent can be repeated with its key. After "
        "it the payment fails",
    )
    review_interval_s: float = Field(
        default=300.0,
        gt=0,
        description="Time between inquiries about a payment that the processor holds for review",
    )
    resolver_poll_s: float = Field(
        default=1.0, gt=0, description="How often the resolver looks for work"
    )
    reconcile_every_s: float = Field(
        default=3600.0,
        ge=0.0,
        le=86_400.0,
        description="How often a worker reads the processor's books of each account and compares "
        "them with our operations. 0: only `easypay reconcile` does.",
    )
    settlement_years: int = Field(
        default=7,
        ge=1,
        le=100,
        description="How long it is kept what settled with which batch. Payments are kept by "
        "themselves. Workers that read the books forget it",
    )
    idempotency_key_days: int = Field(
        default=30,
        ge=1,
        description="How long idempotency keys are kept. Keys of open or watched operations are "
        "kept longer",
    )
    customer_event_days: int = Field(
        default=400,
        ge=31,
        description="How long events about customers keep their object. After that their `data` is "
        "null",
    )
    partitions_ahead_months: int = Field(
        default=3, ge=1, description="How many months of tables are created in advance"
    )

    cache_lease_s: float = Field(
        default=0.9,
        gt=0,
        lt=1,
        description="Maximum age of a cached API key or merchant: a revoked key stops working "
        "within this time",
    )
    cache_near_bytes: int = Field(
        default=32 * 1024 * 1024,
        ge=0,
        description="Memory for answers that may be some time old, per process. 0 turns the caches "
        "off: then every answer is as new as can be",
    )
    cache_url: SecretStr | None = Field(
        default=None,
        description="A Valkey or Redis (7 or newer) that all gateways share: `redis://`, "
        "`rediss://`, `unix:///path`, `sentinel://host,host/name` or `cluster://host,host`. It "
        "holds answers that may be some time old, never keys or settings. If it fails, answers "
        "come from the database",
    )
    profile_longest_s: int = Field(
        default=300,
        ge=0,
        le=300,
        description="The longest profile that the admin key may take of a gateway; longer ones end "
        "then. 0: none",
    )
    slow_statement_s: float = Field(
        default=1.0,
        ge=0,
        description="A statement that takes so long is logged with its plan, once in ten minutes "
        "and without values. 0: none",
    )
    server_metrics_every_s: float = Field(
        default=15.0,
        ge=0,
        le=300,
        description="How often one of the workers asks PostgreSQL and the shared cache for "
        "their own figures (connections, log, locks, memory), which /metrics then shows. 0: never, "
        "because exporters of their own do",
    )
    drain_s: float = Field(
        default=0.5,
        ge=0,
        description="After SIGTERM: how long new requests are still accepted while `/readyz` "
        "says no. Set it to at least your load balancer's check interval",
    )
    shutdown_grace_s: float = Field(
        default=15.0,
        gt=0,
        description="After draining: time limit for requests that are still running",
    )
    metrics_dir: Path | None = Field(
        default=None,
        description="Directory in which the gateway processes of one host share their metrics. "
        "If unset, each process reports only its own",
    )
    metrics_listen: str | None = Field(
        default=None,
        description="`host:port` that serves only `/metrics`, without the admin key. The "
        "processes of one host may share it: one of them listens",
    )
    request_log: bool = Field(
        default=True, description="Log each request as one line of JSON on standard error"
    )

    traces_url: str | None = Field(
        default=None,
        description="Where traces are sent: a collector that takes OTLP over HTTP, such as "
        "`http://127.0.0.1:4318` (`/v1/traces` is added). If unset, there are none. Needs the "
        "extra `traces`",
    )
    traces_headers: SecretStr | None = Field(
        default=None,
        description="Headers for the collector, such as `Authorization=Bearer abc`, separated by "
        "commas; `%20` is a space",
    )
    traces_rate: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Share of the ordinary requests and pieces of work whose traces are kept. "
        "Errors, unknown outcomes and what is slow are kept besides, up to 50 a second of "
        "each kind",
    )
    traces_slow_s: float = Field(
        default=0.5,
        gt=0,
        description="What takes longer is slow, and its trace is kept",
    )
    traces_slow_own_s: float = Field(
        default=0.01,
        gt=0,
        description="The same for a money request without the processor's part",
    )
    traces_trust_parent: bool = Field(
        default=False,
        description="Whether the `sampled` flag of a client's `traceparent` decides in place of "
        "the rate. For gateways that only your own services reach",
    )

    max_head_bytes: int = Field(
        default=16 * 1024,
        ge=4096,
        description="Maximum size of the request line and headers together. Larger ones get 431",
    )
    head_timeout_s: float = Field(
        default=10.0,
        gt=0,
        description="Time limit for receiving a request's headers, from the connection or the "
        "first byte",
    )
    body_timeout_s: float = Field(
        default=20.0, gt=0, description="Time limit for receiving a request's body"
    )
    answer_timeout_s: float = Field(
        default=30.0, gt=0, description="Time limit for a client to read its response"
    )
    max_connections: int = Field(
        default=20_000,
        gt=0,
        description="Maximum client connections per process. A low limit on open files "
        "(`ulimit -n`) lowers it",
    )
    max_connections_per_address: int = Field(
        default=1000,
        gt=0,
        description="Maximum client connections per process from one IPv4 address or IPv6 /64. "
        "Loopback and trusted proxies are exempt",
    )
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        default=(),
        description="Networks of your own proxies, separated by commas, such as `10.0.0.0/8`",
    )

    webhook_private_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        default=(),
        description="Private networks to which webhooks may be sent, separated by commas, such as "
        "`10.1.0.0/16`. Without it they are sent to public addresses only",
    )

    alerts_webhook: SecretStr | None = Field(
        default=None,
        description="Address to which a worker posts alerts, as JSON with a `text`. With this or "
        "one of the next two, workers judge the rules themselves, without Prometheus",
    )
    alerts_smtp: SecretStr | None = Field(
        default=None,
        description="Mail server for alerts: `smtp://user:password@host:587`, or `smtps://…`. "
        "Needs the next two",
    )
    alerts_mail_from: str = Field(default="", description="Sender of the mails")
    alerts_mail_to: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), validate_default=True, description="Who gets the mails, separated by commas"
    )
    alerts_command: str | None = Field(
        default=None,
        description="Command that gets alerts as JSON on its standard input, such as "
        "`/usr/local/bin/page --team payments`. No shell reads it, and it gets no `EASYPAY_…`",
    )
    alerts_every_s: float = Field(
        default=15.0,
        ge=0.1,
        le=30.0,
        description="How often a worker reads the metrics and judges them",
    )
    alerts_scrape: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Metrics listeners of the gateways, separated by commas, such as "
        "`http://pay-1:9464/metrics`: those whose `EASYPAY_METRICS_DIR` a worker does not share",
    )

    failpoint: str | None = Field(
        default=None,
        description="For tests only: kill this process at a named point of a payment",
    )
    clock_file: Path | None = Field(
        default=None,
        description="For tests only: a file with the offset of this process's clock, in "
        "milliseconds",
    )

    @field_validator(
        *("trusted_proxies", "processor_urls", "webhook_private_networks"),
        *("alerts_mail_to", "alerts_scrape"),
        mode="before",
    )
    @classmethod
    def _separated_by_commas(cls, given: Any) -> Any:
        if isinstance(given, str):
            return tuple(part.strip() for part in given.split(",") if part.strip())
        return given

    @field_validator(*_SECRET_ADDRESSES)
    @classmethod
    def _is_such_an_address(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None or not value.get_secret_value():
            return None
        _SECRET_ADDRESSES[info.field_name or ""](value.get_secret_value())
        return value

    @field_validator("alerts_webhook", "alerts_smtp", "alerts_command", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: Any) -> Any:
        return value or None

    @field_validator("alerts_scrape")
    @classmethod
    def _are_web_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(addresses.web_address(each) for each in value)

    @field_validator("alerts_mail_to")
    @classmethod
    def _mail_has_a_sender(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if info.data.get("alerts_smtp") and not (value and info.data.get("alerts_mail_from")):
            raise ValueError("mail needs EASYPAY_ALERTS_MAIL_FROM and EASYPAY_ALERTS_MAIL_TO")
        return value

    @field_validator("alerts_command")
    @classmethod
    def _is_a_command(cls, value: str | None) -> str | None:
        return value if value is None or shlex.split(value) else None

    @field_validator("metrics_listen", "processor_resolver")
    @classmethod
    def _is_an_address(cls, value: str | None, info: ValidationInfo) -> str | None:
        if not value:
            return None
        listens = info.field_name == "metrics_listen"
        (addresses.host_and_port if listens else addresses.resolver_address)(value)
        return value

    @field_validator("traces_url")
    @classmethod
    def _is_a_collector(cls, value: str | None) -> str | None:
        return addresses.web_address(value) if value else None

    @field_validator("authorize_net_test_url", "authorize_net_live_url")
    @classmethod
    def _leads_to_a_host(cls, value: str, info: ValidationInfo) -> str:
        default = PRODUCTION_URL if info.field_name == "authorize_net_live_url" else SANDBOX_URL
        return addresses.web_address(value or default)

    @field_validator("processor_urls")
    @classmethod
    def _are_named_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            addresses.check_named(each)
        return value

    @property
    def processor_addresses(self) -> dict[str, str]:
        """Every processor's address that is set, by `name.mode`."""
        return {
            "authorize_net.test": self.authorize_net_test_url,
            "authorize_net.live": self.authorize_net_live_url,
            **addresses.by_name(self.processor_urls),
        }

    @property
    def resolver(self) -> tuple[str, int] | None:
        """Address and port of the resolver that is set."""
        given = self.processor_resolver
        return None if given is None else addresses.resolver_address(given)

    @property
    def batches_kept_days(self) -> int:
        """How many days a batch is kept that is over."""
        return max(self.batch_days, self.idempotency_key_days)

    @property
    def database_connections(self) -> int:
        """The most database connections that one process opens: six kinds of group, the pool,
        lists, questions, exports while they run, two for stored payment methods, and one for
        notifications. The fifth kind is opened when a merchant who checks duplicates takes a
        payment, the sixth when a payment is queued, and the last three when a payment has a stored
        method and when a processor notifies."""
        reading = self.database_reading_connections + QUESTION_CONNECTIONS + self.exports
        return 6 * self.groups_in_flight + self.database_pool_size + reading + 3

    @property
    def worker_connections(self) -> int:
        """The most database connections that one worker opens: its pool, four for webhooks, two for
        stored payment methods, two for erasures, two for notifications, two that claim queued
        payments and batches, four kinds of group once a payment is sent, one of them with one
        connection, and eight kinds once a batch runs, five of them with one connection."""
        groups = (3 + 3) * self.groups_in_flight + 1 + 5
        return WORKER_POOL_SIZE + 4 + 2 + 2 + 2 + 2 + groups

    @property
    def replica_connections(self) -> int:
        """The most connections to the read replica that one process opens: for lists, questions,
        exports while they run, and the one that watches it. Those for reading the primary remain
        beside them."""
        if self.database_replica_url is None:
            return 0
        return self.database_reading_connections + QUESTION_CONNECTIONS + self.exports + 1
