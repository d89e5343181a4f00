"""Composes the loops that work for customers, from a worker process's parts: what is left to do at
the vault, and erasures."""

from functools import partial
from typing import Any, Final

from easypay.customers import erasure, mending
from easypay.customers.vault_calls import VaultCalls, vaults_of
from easypay.customers.vault_work import VAULT_WORK
from easypay.db.work_loop import EndWatcher, WorkLoop
from easypay.server import caching
from easypay.settings import Settings
from easypay.worker.together import Together, caches_of

_CALLS: Final = 4
"""A piece of work at the vault makes at most so many calls, each within the deadline of a call."""
_ERASURE_LEASE_S: Final = 3 * erasure.TURN_S


def stored_methods(parts: Any, ended: EndWatcher) -> Together:
    """Return the loop that ends what is left to do at the vault."""
    settings: Settings = parts.settings
    caches, beside = caches_of(parts)
    mender = mending.Mender(_calls(parts), changed=partial(caching.customer_changed, caches))
    loop = WorkLoop(
        "stored payment methods",
        VAULT_WORK,
        settings.database_url.get_secret_value(),
        mender.do,
        at_once=mending.AT_ONCE,
        lease_s=_CALLS * settings.processor_deadline_s + 30.0,
        schedule=mending.SCHEDULE,
        ended=ended,
    )
    return Together(loop, *beside)


def erasures(parts: Any, ended: EndWatcher) -> Together:
    """Return the loop that goes on with erasures."""
    settings: Settings = parts.settings
    caches, beside = caches_of(parts)
    eraser = erasure.Eraser(
        _calls(parts),
        call_s=0.0,
        changed=partial(caching.customer_changed, caches),
        payments_changed=caches.payments_changed,
    )
    loop = WorkLoop(
        "erasures",
        erasure.ERASURES,
        settings.database_url.get_secret_value(),
        eraser.do,
        at_once=erasure.AT_ONCE_OF_WORKER,
        lease_s=_ERASURE_LEASE_S,
        schedule=erasure.SCHEDULE,
        ended=ended,
    )
    return Together(loop, *beside)


def _calls(parts: Any) -> VaultCalls:
    return VaultCalls(
        pool=parts.pool,
        vaults=vaults_of(parts.processors),
        login_of=parts.directory.login,
        deadline_s=parts.settings.processor_deadline_s,
    )
