"""`easypay jobs …`: the work lists, and what is parked in them until a person decides.

They find the database as the other commands do. Exit status 0: done. 1: refused, with the reason.
2: not typed right.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from easypay.command_line.console import (
    DATA_DIR,
    Columns,
    DataDir,
    Json,
    Wide,
    counted,
    fail,
    new_group,
    show,
    show_rows,
    with_access,
)
from easypay.command_line.operations import Actor, Because, actor_of, must_be_reason

if TYPE_CHECKING:
    from easypay.worker.registry import Listed

jobs = new_group("Look at what must happen later, and retry or drop what was given up.")

ListName = Annotated[str, typer.Argument(metavar="LIST", help="A list: see `easypay jobs depth`.")]
Jobs = Annotated[
    list[str] | None, typer.Argument(metavar="JOB", help="Jobs: see `easypay jobs list`.")
]
All = Annotated[bool, typer.Option("--all", help="Every parked job of the list, up to 10,000.")]
PARKED: Final = Columns(
    ("list", "job", "attempts", "reason", "parked_at", "created_at"),
    left_out_first=("created_at", "attempts", "parked_at", "list"),
)
DEPTHS: Final = Columns(("list", "ready", "waiting", "parked", "oldest_s"))
_MOST_AT_ONCE: Final = 10_000


@jobs.command("list")
def list_jobs(
    name: Annotated[str | None, typer.Option("--list", help="Only this list.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The most of each list.")] = 100,
    wide: Wide = False,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """List the parked jobs with their reasons, oldest first.

    Example: `easypay jobs list`
    """
    from easypay.worker import jobs as parked_jobs

    lists = _lists(name)
    found = with_access(
        data_dir, lambda connection, _: parked_jobs.list_parked(connection, lists, limit)
    )
    show_rows(as_json, found, PARKED, "Nothing is parked.", wide=wide)


@jobs.command("depth")
def show_depths(data_dir: DataDir = DATA_DIR, as_json: Json = False) -> None:
    """Show how much is in each list: due now, claimed or due later, parked.

    Example: `easypay jobs depth`
    """
    from easypay.worker import jobs as parked_jobs

    lists = _lists(None)
    found = with_access(data_dir, lambda connection, _: parked_jobs.depths(connection, lists))
    show_rows(as_json, found, DEPTHS, "There is no work list.")


@jobs.command("retry")
def retry(
    name: ListName,
    because: Because,
    chosen: Jobs = None,
    every: All = False,
    actor: Actor = None,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Try parked jobs again now: each gets one more attempt. Written into the audit entries.

    Example: `easypay jobs retry webhooks --all --because "the shop's server is back"`
    """
    from easypay.worker import jobs as parked_jobs

    done = _decide(parked_jobs.retry, name, because, chosen, every, actor, data_dir)
    show(as_json, {"retried": done}, f"Due now: {counted(len(done), 'job')}.")


@jobs.command("drop")
def drop(
    name: ListName,
    because: Because,
    chosen: Jobs = None,
    every: All = False,
    actor: Actor = None,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Drop parked jobs: they are never done. Written into the audit entries.

    Example: `easypay jobs drop webhooks JOB --because "the shop is closed"`
    """
    from easypay.worker import jobs as parked_jobs

    done = _decide(parked_jobs.drop, name, because, chosen, every, actor, data_dir)
    show(as_json, {"dropped": done}, f"Dropped: {counted(len(done), 'job')}.")


def _decide(
    decide: Callable[..., Awaitable[list[str]]],
    name: str,
    because: str,
    chosen: list[str] | None,
    every: bool,
    actor: str | None,
    data_dir: Path,
) -> list[str]:
    """Retry or drop what was chosen. What is no parked job ends the program with status 1."""
    from easypay.worker import jobs as parked_jobs

    (listed,) = _lists(name)
    must_be_reason(because)
    who = actor_of(actor)
    if bool(chosen) == every:
        raise typer.BadParameter("name jobs, or give --all")
    for job in chosen or ():
        try:
            parked_jobs.key_of(listed.work_list, job)
        except ValueError:
            raise typer.BadParameter(f"{job!r} is no job: see `easypay jobs list`") from None

    async def work(connection: Any, _: Any) -> list[str]:
        wanted = chosen or [
            job.job for job in await parked_jobs.list_parked(connection, [listed], _MOST_AT_ONCE)
        ]
        return await decide(connection, listed, wanted, actor=who, because=because)

    done: list[str] = with_access(data_dir, work)
    if chosen and not done:
        fail("refused: none of these jobs is parked. `easypay jobs list` shows those that are.")
    return done


def _lists(name: str | None) -> "list[Listed]":
    from easypay.worker.registry import LISTS

    found = [listed for listed in LISTS if name in (None, listed.name)]
    if name is not None and not found:
        names = ", ".join(listed.name for listed in LISTS) or "none yet"
        raise typer.BadParameter(f"there is no list {name!r}. Lists: {names}")
    return found
