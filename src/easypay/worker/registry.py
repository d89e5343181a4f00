"""Every work list, by name: the table it is, and the loop that works on it.

A new list is one line in LISTS. Then `easypay worker` works on it, `easypay jobs` shows what is
parked in it, and the metrics have its depth and age.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from easypay.batches.claims import GROUPS
from easypay.customers.erasure import ERASURES
from easypay.customers.vault_work import VAULT_WORK
from easypay.db.work_list import WorkList
from easypay.db.work_loop import EndWatcher
from easypay.merchants.directory import Directory
from easypay.merchants.vault import Vault
from easypay.notifications.store import NOTIFICATIONS
from easypay.observability.metrics import Instruments
from easypay.observability.slow_statements import SlowStatements
from easypay.payments.queue_rows import QUEUED
from easypay.server.open_files import SPARE_FILES, allow_files
from easypay.server.traces import sender_of
from easypay.settings import Settings
from easypay.webhooks.addresses import AllowedNames
from easypay.webhooks.delivery import MOST, Deliverer
from easypay.webhooks.queue import DELIVERIES
from easypay.worker.batches import Batches
from easypay.worker.customers import erasures, stored_methods
from easypay.worker.notifications import notifications
from easypay.worker.queued_payments import QueuedPayments


class Parts(NamedTuple):
    """What a loop can be made of: the parts of one worker process."""

    settings: Settings
    pool: Any
    instruments: Instruments
    slow: SlowStatements
    vault: Vault
    directory: Directory
    processors: Mapping[str, Any]
    traces: Any = None
    """`observability.tracing.recorder.Traces`; None: they are off."""


class Loop(Protocol):
    """What works on a list, such as `db.work_loop.WorkLoop`."""

    async def run(self) -> None:
        """Work until cancelled."""

    def wake(self) -> None:
        """Look at the list now."""

    async def stop(self, within_s: float) -> None:
        """Claim nothing more, finish what is claimed within so many seconds, give back the rest."""


class Listed(NamedTuple):
    """A work list by its name for people. `make` returns its loop; the second argument must be told
    how each piece of work ended."""

    name: str
    work_list: WorkList
    make: Callable[[Parts, EndWatcher], Loop]


def _deliveries(parts: Parts, ended: EndWatcher) -> Loop:
    settings, delay = parts.settings, parts.instruments.webhook_delay
    names = AllowedNames(settings.webhook_private_networks, resolver=settings.resolver)
    # In flight or idle, each connection needs a file. A third is left for everything else.
    most = max(1, min(MOST, (allow_files() - SPARE_FILES) // 3))

    def watch(how: str, first_after_s: float | None) -> None:
        ended(how)
        if first_after_s is not None:
            delay.observe(first_after_s)

    return Deliverer(
        pool=parts.pool,
        dsn=settings.database_url.get_secret_value(),
        vault=parts.vault,
        sender=sender_of(names, most, parts.traces),
        most=most,
        watch=watch,
    )


LISTS: Final[tuple[Listed, ...]] = (
    Listed("webhooks", DELIVERIES, _deliveries),
    Listed("queued payments", QUEUED, QueuedPayments),
    Listed("stored payment methods", VAULT_WORK, stored_methods),
    Listed("batches", GROUPS, Batches),
    Listed("erasures", ERASURES, erasures),
    Listed("notifications", NOTIFICATIONS, notifications),
)
