"""Every setting, read once from the environment (prefix `EASYPAY_`) and handed down.

A gateway reads nothing else of the environment; what `easypay up` and the commands take from it
instead of a data directory is in `data_dir.Environment`. Secrets are `SecretStr` without default.
"""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

SANDBOX_URL = "https://apitest.authorize.net/xml/v1/request.api"
PRODUCTION_URL = "https://api.authorize.net/xml/v1/request.api"


class Settings(BaseSettings):
    """One gateway process's settings. Times are in seconds and say so in their names."""

    model_config = SettingsConfigDict(env_prefix="EASYPAY_", frozen=True, extra="ignore")

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
    unknown_absent_after_s: float = Field(
        default=60.0,
        gt=0,
        description="an operation absent this long after its call never happened",
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
    metrics_open: bool = Field(
        default=False, description="show /metrics to other hosts without the admin key"
    )
    request_log: bool = Field(default=True, description="one line of JSON for each request")
    failpoint: str | None = Field(
        default=None, description="tests only: kill -9 this process at a named point of the flow"
    )

    @property
    def database_connections(self) -> int:
        """How many connections one process opens: four kinds of group, and the pool."""
        return 4 * self.groups_in_flight + self.database_pool_size
