"""Composes the handlers that need no more than the shared parts of a gateway."""

from typing import Any, NamedTuple

from easypay.api.batches import BatchesApi
from easypay.api.batches import Limits as BatchLimits
from easypay.api.events import EventsApi
from easypay.api.exports import ExportsApi
from easypay.api.exports import Limits as ExportLimits
from easypay.api.paging import Cursors
from easypay.api.reconciliation import ReconciliationApi
from easypay.api.settlements import SettlementsApi
from easypay.api.statistics import StatisticsApi
from easypay.api.webhooks import WebhooksApi
from easypay.db.partitions import Months
from easypay.merchants.directory import Directory
from easypay.merchants.vault import Vault
from easypay.observability.metrics import Instruments
from easypay.payments.read_places import ReadPlaces
from easypay.settings import Settings


class Shared(NamedTuple):
    """The parts of a gateway that many handlers need. `pool` is that for clients."""

    settings: Settings
    instruments: Instruments
    vault: Vault
    directory: Directory
    pool: Any
    places: ReadPlaces
    months: Months

    @property
    def cursors(self) -> Cursors:
        """What writes and reads cursors of pages."""
        return Cursors(self.vault.derive("cursors"))


def events_api(of: Shared) -> EventsApi:
    """Return the handlers of events. They wait for some, so a stop must end them."""
    return EventsApi(
        directory=of.directory,
        reading=of.places.primary.reading,
        cursors=of.cursors,
        at_once=of.settings.database_reading_connections,
    )


def batches_api(of: Shared) -> BatchesApi:
    """Return the handlers of batches. An upload takes long, so a stop must end it."""
    settings = of.settings
    return BatchesApi(
        directory=of.directory,
        pool=of.pool,
        vault=of.vault,
        cursors=of.cursors,
        limits=BatchLimits(
            most_bytes=settings.batch_max_bytes,
            most_lines=settings.batch_max_lines,
            of_merchant=settings.batch_uploads_per_merchant,
            within_s=settings.batch_upload_timeout_s,
        ),
    )


def exports_api(of: Shared) -> ExportsApi:
    """Return the handlers of exports. One takes long, so a stop must end it."""
    settings, instruments = of.settings, of.instruments

    def ended(how: str, rows: int) -> None:
        instruments.exports.add(how)
        instruments.export_rows.add(by=rows)

    return ExportsApi(
        directory=of.directory,
        places=of.places,
        limits=ExportLimits(
            at_once=settings.exports,
            of_merchant=settings.exports_per_merchant,
            longest_s=settings.export_timeout_s,
            stall_s=settings.export_stall_s,
            share=settings.export_share,
        ),
        running=instruments.exports_running.set,
        ended=ended,
    )


def other_apis(of: Shared) -> dict[str, object]:
    """Return the handlers that a stop need not know, by their name in ROUTES."""
    return {
        "settlements": SettlementsApi(directory=of.directory, places=of.places),
        "statistics": StatisticsApi(directory=of.directory, places=of.places, months=of.months),
        "reconciliation": ReconciliationApi(
            directory=of.directory, pool=of.pool, cursors=of.cursors
        ),
        "webhooks": WebhooksApi(
            directory=of.directory,
            pool=of.pool,
            vault=of.vault,
            cursors=of.cursors,
            private=of.settings.webhook_private_networks,
        ),
    }
