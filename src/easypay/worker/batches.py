"""Composes the loop that runs batches, from the parts of a worker process.

The lines go through the flows of the API in this process. What they need of the database is opened
with the first line.
"""

from typing import Any

from easypay.batches import claims
from easypay.batches.lines import SEAL_KEY
from easypay.batches.runner import Runner
from easypay.clock import monotonic
from easypay.db.work_list import work_lane
from easypay.db.work_loop import EndWatcher
from easypay.hmac_sha256 import keyed_digest
from easypay.merchants.vault import Box
from easypay.payments import statements
from easypay.payments.duplicates import BEGIN_CHECKED, DuplicateChecks
from easypay.payments.flows import Payments
from easypay.payments.queue_room import QueueRoom
from easypay.payments.queued_requests import QUEUE_KEY
from easypay.payments.resolver import Resolver
from easypay.payments.stored_begin import BEGIN_STORED
from easypay.payments.stored_methods import LOOK_UP, StoredMethods
from easypay.settings import Settings
from easypay.worker.operation_parts import OperationParts


class Batches:
    """The loop, with the connections that it needs. Its `run` may be called again if it failed."""

    def __init__(self, parts: Any, ended: EndWatcher) -> None:
        settings: Settings = parts.settings
        self._parts = OperationParts("batches", parts)
        self._lane = work_lane(settings.database_url.get_secret_value(), claims.GROUPS)
        self._runner = Runner(
            lane=self._lane,
            pool=parts.pool,
            payments=_flows(parts, self._parts),
            caller_of=parts.directory.acting,
            end=self._parts.committer(claims.END, lanes=1),
            box=Box(parts.vault.derive(SEAL_KEY)),
            deadline_s=settings.processor_deadline_s,
            keep_days=settings.batches_kept_days,
            poll_s=settings.queue_poll_s,
            ended=ended,
            traced=None if parts.traces is None else parts.traces.work,
        )

    async def run(self) -> None:
        """Run batches until `stop`, then wait to be cancelled."""
        await self._parts.run(self._runner.run)

    def wake(self) -> None:
        """Look for work now."""
        self._runner.wake()

    async def stop(self, within_s: float) -> None:
        """Begin nothing more, and end what is under way within so many seconds."""
        give_up_at = monotonic() + within_s
        await self._runner.stop(within_s)
        await self._parts.close(give_up_at, self._lane)


def _flows(parts: Any, own: OperationParts) -> Payments:
    """Return the flows of the API. Unknown outcomes are found out by the gateways' resolver."""
    settings: Settings = parts.settings
    begin = own.committer(statements.BEGIN)
    follow_up = own.committer(statements.FOLLOW_UP)
    checked = own.committer(BEGIN_CHECKED, lanes=1)
    begin_stored = own.committer(BEGIN_STORED, lanes=1)
    for each in (begin, follow_up, checked, begin_stored):
        each.on_left = own.unrecorded.withdraw
    card_digest = keyed_digest(parts.vault.derive("card fingerprint"))

    def card_fingerprint(number: str) -> bytes:
        return card_digest(number.encode())

    return Payments(
        begin=begin,
        follow_up=follow_up,
        read=own.committer(statements.READ, lanes=1),
        recorder=own.recorder,
        unrecorded=own.unrecorded,
        resolver=Resolver(
            pool=parts.pool,
            recorder=own.recorder,
            processors=parts.processors,
            directory=parts.directory,
            deadline_s=settings.processor_deadline_s,
            first_inquiry_s=settings.unknown_first_inquiry_s,
            interval_s=settings.unknown_interval_s,
            gap_s=settings.unknown_pass_gap_s,
            absent_after_s=settings.unknown_absent_after_s,
            not_sent_s=settings.not_sent_ends_after_s,
            review_interval_s=settings.review_interval_s,
            poll_s=settings.resolver_poll_s,
        ),
        processors=parts.processors,
        pool=parts.pool,
        duplicates=DuplicateChecks(checked, parts.pool, parts.instruments.possible_duplicates.add),
        login_of=parts.directory.login,
        stored=StoredMethods(
            lookups=own.committer(LOOK_UP, lanes=1),
            begin=begin_stored,
            pool=parts.pool,
            login_of=parts.directory.login,
            card_fingerprint=card_fingerprint,
            box=Box(parts.vault.derive(QUEUE_KEY)),
            room=QueueRoom(
                parts.pool,
                most=settings.queue_limit,
                most_of_merchant=settings.queue_limit_per_merchant,
            ),
        ),
        card_fingerprint=card_fingerprint,
        deadline_s=settings.processor_deadline_s,
    )
