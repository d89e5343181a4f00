"""What a person sees and decides about work that is parked: `easypay jobs`."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from easypay.db import work_list
from easypay.db.work_list import Key, WorkList
from easypay.payments.audit_log import write_down
from easypay.worker.registry import Listed


class ParkedJob(msgspec.Struct, frozen=True):
    """A parked row of a list. `job` is its key as text, `attempts` how often it was tried."""

    list: str
    job: str
    attempts: int
    reason: str | None
    created_at: datetime
    parked_at: datetime


class ListDepth(msgspec.Struct, frozen=True):
    """How much is in a list. `oldest_s`: how long the oldest that is due has waited."""

    list: str
    ready: int
    waiting: int
    parked: int
    oldest_s: float


_PARSERS: Final[dict[str, Any]] = {"uuid": UUID, "text": str, "integer": int, "bigint": int}


def job_of(key: Key) -> str:
    """Return a key as text: its values, with slashes between them."""
    return "/".join(value.hex if isinstance(value, UUID) else str(value) for value in key)


def key_of(listed: WorkList, job: str) -> Key:
    """Return the key of a text made by `job_of`. Raises ValueError if it is none."""
    parts = job.split("/")
    if len(parts) != len(listed.key):
        raise ValueError(f"{job!r} is no job of this list: it has {len(listed.key)} parts")
    return tuple(
        _PARSERS[sql_type](part) for (_, sql_type), part in zip(listed.key, parts, strict=True)
    )


async def list_parked(runner: Any, lists: Sequence[Listed], most: int) -> list[ParkedJob]:
    """Return the parked rows of these lists, at most `most` of each, oldest first."""
    return [
        ParkedJob(
            listed.name, job_of(row.key), row.attempt, row.reason, row.created_at, row.parked_at
        )
        for listed in lists
        for row in await work_list.parked(runner, listed.work_list, most=most)
    ]


async def depths(runner: Any, lists: Sequence[Listed]) -> list[ListDepth]:
    """Return how much is in each of these lists."""
    found = []
    for listed in lists:
        depth = await work_list.depth(runner, listed.work_list)
        found.append(
            ListDepth(listed.name, depth.ready, depth.waiting, depth.parked, depth.oldest_s)
        )
    return found


async def retry(
    connection: Any, listed: Listed, jobs: Collection[str], *, actor: str, because: str
) -> list[str]:
    """Make parked jobs due now, and write that down. Returns those that were parked.

    Raises ValueError if a job's text is no key of the list.
    """
    return await _decide(connection, "retry", listed, jobs, actor, because)


async def drop(
    connection: Any, listed: Listed, jobs: Collection[str], *, actor: str, because: str
) -> list[str]:
    """Delete parked jobs, so that they are never done, and write that down. Returns those that were
    parked.

    Raises ValueError if a job's text is no key of the list.
    """
    return await _decide(connection, "drop", listed, jobs, actor, because)


_DECISIONS: Final = {"retry": work_list.retry, "drop": work_list.drop}


async def _decide(
    connection: Any,
    what: str,
    listed: Listed,
    jobs: Collection[str],
    actor: str,
    because: str,
) -> list[str]:
    keys = [key_of(listed.work_list, job) for job in jobs]
    async with connection.transaction():
        changed = await _DECISIONS[what](connection, listed.work_list, keys)
        names = sorted(map(job_of, changed))
        for name in names:
            await write_down(
                connection, actor, f"job.{what}", f"{listed.name}/{name}", {"because": because}
            )
    return names
