"""What the gateway needs to know about a processor: its name, credentials, addresses and client.

`registry` lists the integrations. `docs/adding-a-processor.md` shows how to write one.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final, Protocol, runtime_checkable

import msgspec

from easypay import inputs
from easypay.errors import FieldError, ValidationFailed
from easypay.mode import Mode
from easypay.processors.base import Account, Processor
from easypay.processors.notifications import NotificationFormat

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")


class ConnectionFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What a client's connections are doing, and what they have done since it was made."""

    idle: int
    used: int
    oldest_s: float
    """Age of the oldest open connection; 0 if there is none."""
    opened: int
    failed: int
    """Connections that could not be made. Nothing was sent over them."""
    replaced: int
    """Those among the opened ones that took the place of an old one."""
    reused: int
    """Requests that were sent over a connection that had carried one before."""
    lookups: Mapping[str, int]
    """Questions to DNS by result: `found`, `absent` (DNS has no address), `failed`."""
    stale: int
    """How often addresses were used beyond their time to live."""
    certificate_ends: float | None = None
    """When the newest connection's certificate ends, in seconds since 1970; None without TLS."""


@runtime_checkable
class ReportsConnections(Protocol):
    """A processor's client may have this method; the metrics show what it returns."""

    def connection_figures(self) -> ConnectionFigures: ...


class ClientOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a processor's client is made with."""

    connect_timeout_s: float = 1.0
    max_connections: int = 1024
    connection_age_s: float = 600.0
    """How old a connection may become before another takes its place."""
    resolver: tuple[str, int] | None = None
    """Address and port of the DNS resolver; None: those of the system."""
    dns_stale_s: float = 600.0
    """How long addresses may be used beyond their time to live, while the resolver fails."""
    more_headers: Callable[[], bytes] = bytes
    """Headers to add to every request, such as `b"Traceparent: …\\r\\n"`."""
    after_write: Callable[[], None] | None = None
    """For tests of crashes: called once a request's bytes have left."""


class Integration(msgspec.Struct, frozen=True, kw_only=True):
    """One processor that the gateway can use."""

    name: str
    """In the API, the database and the settings: a letter, then at most 31 of a-z, 0-9 and _."""
    urls: Mapping[str, str]
    """Where payments of each mode, `test` and `live`, are sent if no setting says otherwise."""
    credentials: Mapping[str, int]
    """The fields of an account's credentials, and how long each may be. The first names the
    account and is not secret; all others are."""
    make: Callable[[ClientOptions], Processor]
    optional: Mapping[str, int] = {}
    """More fields of the credentials, secret and not needed for payments, and how long each may
    be. One that is not given stays as it was."""
    notifications: NotificationFormat | None = None
    """How it signs and writes the notifications that it sends; None if it sends none."""
    refused_fields: Mapping[str, tuple[str, ...]] = {}
    """Which fields a refusal of the account is about, by its code; the first field if not here."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is not a processor's name")
        if len(self.credentials) < 2 or self.urls.keys() != set(Mode):
            raise ValueError(f"{self.name}: it has two credentials or more, and test and live URLs")

    @property
    def account_field(self) -> str:
        """The credential that names the account."""
        return next(iter(self.credentials))

    def account(
        self, mode: Mode, credentials: Mapping[str, str], url: str | None = None
    ) -> Account:
        """An account at the address of its mode, or at the one that it was used at before."""
        return Account(
            processor=self.name, url=url or self.urls[mode], credentials=dict(credentials)
        )

    def read_credentials(
        self, given: Mapping[str, str | None], *, within: str = "#"
    ) -> dict[str, str]:
        """Credentials as they were issued, without what copying left around them.

        Raises ValidationFailed naming every field of `within` that is wrong; no message repeats
        any of them.
        """
        found: dict[str, str] = {}
        errors = [
            FieldError(f"{within}/{field}", "unknown_field", f"{self.name} has no {field}.")
            for field in given.keys() - self.credentials.keys() - self.optional.keys()
        ]
        for field, longest in {**self.credentials, **self.optional}.items():
            text = given.get(field)
            read = None if text is None else inputs.credential(text)
            if text is None and field in self.optional:
                continue
            if text is None:
                error = "missing", f"{field} is missing."
            elif read is None:
                error = "invalid", f"{field} must be one word of plain ASCII characters."
            elif not 1 <= len(read) <= longest:
                error = "invalid", f"{field} must have 1 to {longest} characters."
            else:
                found[field] = read
                continue
            errors.append(FieldError(f"{within}/{field}", *error))
        if errors:
            raise ValidationFailed.of(errors)
        return found
