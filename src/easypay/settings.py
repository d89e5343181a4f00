"""Every setting, read once from the environment (prefix `EASYPAY_`) and handed down.

A gateway reads nothing else of the environment; what `easypay up` and the commands take from it
instead of a data directory is in `data_dir.Environment`. Secrets are `SecretStr` without default.
"""

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

SANDBOX_URL = "https://apitest.authorize.net/xml/v1/request.api"
PRODUCTION_URL = "https://api.authorize.net/xml/v1/request.api"


def host_and_port(text: str) -> tuple[str, int]:
    """`127.0.0.1:9464`, `[::1]:9464` or `localhost:9464`. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    name = host.removeprefix("[").removesuffix("]")
    if not colon or not name or (":" in name) != host.startswith("["):
        raise ValueError("use host:port, such as 127.0.0.1:9464")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65_536):
        raise ValueError("the port is a number from 1 to 65535")
    return name, int(port)


class Settings(BaseSettings):
    """One gateway process's settings. Times are in seconds and say so in their names."""

    model_config = SettingsConfigDict(
        env_prefix="EASYPAY_",
        frozen=True,
        extra="ignore",
        str_strip_whitespace=True,
        allow_inf_nan=False,
    )

    database_url: SecretStr = Field(description="PostgreSQL 15 to 18, as a postgresql:// URL")
    encryption_key: SecretStr = Field(
        description="32 random bytes in base64: encrypts processor credentials, signs cursors"
    )
    admin_key: SecretStr | None = Field(
        default=None, description="bearer key of /api/v1/admin; without one that surface is closed"
    )

    authorize_net_test_url: str = Field(default=SANDBOX_URL, description="where test keys lead")
    authorize_net_live_url: str = Field(default=PRODUCTION_URL, description="where live keys lead")
    processor_deadline_s: float = Field(default=10.0, gt=0, description="total, per money request")
    processor_connect_timeout_s: float = Field(default=1.0, gt=0)
    processor_connections: int = Field(default=1024, gt=0, description="open at most, per process")

    database_pool_size: int = Field(
        default=3, ge=2, description="connections for cold reads, the resolver and administration"
    )
    group_size: int = Field(default=64, gt=0, description="most payments in one commit")
    groups_in_flight: int = Field(
        default=2, gt=0, description="commits of one kind at once, each on a connection of its own"
    )
    max_queued: int = Field(default=2048, gt=0, description="requests waiting; past it, 503")

    database_patience_s: float = Field(
        default=5.0,
        gt=0,
        description="how long a client waits for the database before 503. A connection is given up "
        "after four fifths of it, so that the work can be done over a new one",
    )
    record_patience_s: float = Field(
        default=5.0,
        gt=0,
        description="how long a client waits for a known outcome to be recorded; then it gets 202, "
        "and the outcome is recorded in the background",
    )

    unknown_first_inquiry_s: float = Field(default=5.0, ge=0)
    unknown_interval_s: float = Field(default=10.0, gt=0, description="between later inquiries")
    unknown_pass_gap_s: float = Field(
        default=30.0, ge=0, description="between the two looks that must miss an operation"
    )
    unknown_absent_after_s: float = Field(
        default=900.0,
        gt=0,
        description="after its call, an operation that both looks missed never happened, where no "
        "newer charge shows that the processor's lists have caught up",
    )
    not_sent_ends_after_s: float = Field(
        default=60.0, gt=0, description="what never left and is not repeated in this time fails"
    )
    review_interval_s: float = Field(
        default=300.0, gt=0, description="between questions about what is held for review"
    )
    resolver_poll_s: float = Field(default=1.0, gt=0)
    idempotency_key_days: int = Field(default=30, ge=1)
    partitions_ahead_months: int = Field(default=3, ge=1)

    cache_lease_s: float = Field(
        default=0.9, gt=0, lt=1, description="a cached key or merchant is never older than this"
    )
    drain_s: float = Field(
        default=0.5, ge=0, description="SIGTERM: still accepting, closing politely"
    )
    shutdown_grace_s: float = Field(
        default=15.0, gt=0, description="SIGTERM: for what is in flight"
    )
    metrics_dir: Path | None = Field(
        default=None,
        description="where the gateway processes of one host share their metrics; without it each "
        "shows its own",
    )
    request_log: bool = Field(default=True, description="one line of JSON for each request")
    failpoint: str | None = Field(
        default=None, description="tests only: kill -9 this process at a named point of the flow"
    )
    clock_file: Path | None = Field(
        default=None, description="tests only: how many milliseconds this process's clock is off"
    )

    # What a client's connection may take
    max_head_bytes: int = Field(
        default=16 * 1024, ge=4096, description="request line and headers together; past it, 431"
    )
    head_timeout_s: float = Field(
        default=10.0, gt=0, description="for a whole head, from the connection or its first byte"
    )
    body_timeout_s: float = Field(
        default=20.0, gt=0, description="for a whole body, after its head"
    )
    answer_timeout_s: float = Field(
        default=30.0, gt=0, description="for a client to read what it was answered"
    )
    max_connections: int = Field(
        default=20_000,
        gt=0,
        description="per process; fewer where the limit on open files is too low for as many",
    )
    max_connections_per_address: int = Field(
        default=1000,
        gt=0,
        description="per process and IPv4 address or IPv6 /64, but for loopback and trusted "
        "proxies; a busy shop's pool has tens or hundreds",
    )
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        default=(), description="networks of your own proxies, parted by commas: 10.0.0.0/8"
    )

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _parted_by_commas(cls, given: Any) -> Any:
        if isinstance(given, str):
            return tuple(part.strip() for part in given.split(",") if part.strip())
        return given

    # What comes from outside:
    metrics_listen: str | None = Field(
        default=None,
        description="host:port that shows /metrics and nothing else, without the admin key; of "
        "the processes of one host, one listens for all",
    )

    @field_validator("metrics_listen")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if not value:
            return None
        host_and_port(value)
        return value

    @property
    def database_connections(self) -> int:
        """How many connections one process opens: four kinds of group, and the pool."""
        return 4 * self.groups_in_flight + self.database_pool_size
