"""Puts traces around the parts of a process, if they are on. If not, each part is as it was, and
`observability.tracing` is not imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from easypay import failpoints
from easypay.api.http import Observer
from easypay.api.observer import RequestObserver
from easypay.observability import trace
from easypay.observability.call_metrics import MeasuredProcessor
from easypay.observability.metrics import Instruments
from easypay.processors.integration import ClientOptions, Integration
from easypay.settings import Settings
from easypay.webhooks.addresses import AllowedNames
from easypay.webhooks.http_sender import HttpSender

if TYPE_CHECKING:
    from easypay.observability.tracing.recorder import Traces

Saw = Callable[[str, float], None]
"""Told of a statement that ended, and of how long it took."""


def traces_of(settings: Settings, instruments: Instruments, service: str) -> Traces | None:
    """Return what collects this process's traces; None if they are off. Raises OSError if their
    packages are missing."""
    if settings.traces_url is None:
        return None
    try:
        from easypay.observability.tracing.recorder import Traces
    except ImportError as error:
        raise OSError(
            f"EASYPAY_TRACES_URL is set, and a package is missing ({error.name}): install "
            "easypay[traces]"
        ) from error
    return Traces(settings, instruments, service)


def observed_by(observer: RequestObserver, traces: Traces | None) -> Observer:
    """Return what is told of every request."""
    if traces is None:
        return observer
    from easypay.api.traced_requests import TracedRequests

    return TracedRequests(observer, traces)


def processors_of(
    settings: Settings,
    integrations: Mapping[str, Integration],
    instruments: Instruments,
    traces: Traces | None,
) -> dict[str, MeasuredProcessor]:
    """Return the clients of all processors."""
    options = ClientOptions(
        connect_timeout_s=settings.processor_connect_timeout_s,
        max_connections=settings.processor_connections,
        connection_age_s=settings.processor_connection_age_s,
        resolver=settings.resolver,
        dns_stale_s=settings.processor_dns_stale_s,
        after_write=(lambda: failpoints.reach("mid_send")) if settings.failpoint else None,
        more_headers=trace.outbound,
    )
    clients = {name: integration.make(options) for name, integration in integrations.items()}
    if traces is None:
        return {name: MeasuredProcessor(name, c, instruments) for name, c in clients.items()}
    from easypay.observability.tracing.calls import TracedProcessor

    return {name: TracedProcessor(name, c, instruments, traces) for name, c in clients.items()}


def watcher_of(saw: Saw, traces: Traces | None) -> Saw:
    """Return what is told of every statement outside a group, besides `saw`."""
    if traces is None:
        return saw

    def both(sql: str, took_s: float) -> None:
        saw(sql, took_s)
        traces.saw(sql, took_s)

    return both


def sender_of(names: AllowedNames, most_idle: int, traces: Traces | None) -> HttpSender:
    """Return what sends webhooks."""
    if traces is None:
        return HttpSender(names, most_idle=most_idle)
    from easypay.observability.tracing.calls import TracedSender

    sender = TracedSender(names, most_idle=most_idle)
    sender.traces = traces
    return sender
