"""`easypay reconcile` and `easypay breaks …`: read the processor's books, and see to differences.

Exit status 0: done. 1: refused, or an account's books could not be read. 2: not typed right.
"""

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID

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
    run_async,
    show,
    show_rows,
    with_access,
)
from easypay.command_line.operations import Actor, Because, actor_of, must_be_reason

if TYPE_CHECKING:
    from easypay.command_line.data_dir import Access
    from easypay.reconciliation.run import Result

breaks = new_group("See to differences between the processor's books and ours.")

BreakId = Annotated[str, typer.Argument(metavar="BREAK", help="The difference's id: brk_…")]
RUNS: Final = Columns(("account", "batches", "transactions", "new_breaks", "failure"))
LIST: Final = Columns(
    (
        *("id", "kind", "state", "transaction_id", "reference", "ours", "theirs"),
        *("happened_at", "found_at", "owner", "merchant"),
    ),
    left_out_first=("merchant", "owner", "happened_at", "found_at", "state", "reference"),
)
_WATCH_EVERY_S: Final = 10.0


def reconcile(
    account: Annotated[
        str | None,
        typer.Option(help="Only this account: its first digits, as shown here, or a mer_… id."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--from", help="Only batches settled since this day or time (UTC)."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", help="Only batches settled before this day or time (UTC).")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on until Ctrl-C, as a worker does.")
    ] = False,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Read the processor's books and compare them with our payments and refunds.

    Workers do this by themselves (EASYPAY_RECONCILE_EVERY_S). Running it again changes nothing, and
    it can be stopped at any time. An account that another process reads now is left out.

    Example: `easypay reconcile --from 2026-11-01 --to 2026-12-01`
    """
    span = _span(since, until)

    async def work() -> bool:
        tell = partial(_tell, as_json)
        return await _reconcile(data_dir, account, span, watch=watch, tell=tell)

    if not run_async(work):
        sys.exit(1)


def reconcile_once(data_dir: Path, named: str) -> bool:
    """Reconcile accounts, and print nothing. Return whether their books could be read."""

    async def work() -> bool:
        return await _reconcile(data_dir, named, None, watch=False, tell=lambda *_: None)

    return bool(run_async(work))


async def _reconcile(
    data_dir: Path,
    named: str | None,
    span: tuple[datetime, datetime] | None,
    *,
    watch: bool,
    tell: "Callable[[list[Result], int], None]",
) -> bool:
    from easypay import failpoints
    from easypay.command_line.data_dir import DataDirectory
    from easypay.db.pool import open_pool
    from easypay.merchants.directory import Directory
    from easypay.merchants.vault import Vault
    from easypay.processors.integration import ClientOptions
    from easypay.processors.registry import installed
    from easypay.reconciliation import run
    from easypay.reconciliation.run import Reconciliation
    from easypay.settings import Settings

    access = DataDirectory(data_dir).access()
    settings = Settings(database_url=access.database_url, encryption_key=access.encryption_key)  # type: ignore[arg-type]  # pydantic makes them secrets
    failpoints.arm(settings.failpoint)
    integrations = installed(settings.processor_addresses)
    options = ClientOptions(
        connect_timeout_s=settings.processor_connect_timeout_s,
        resolver=settings.resolver,
        dns_stale_s=settings.processor_dns_stale_s,
    )
    processors = {name: each.make(options) for name, each in integrations.items()}
    pool = await open_pool(access.database_url, size=3, name="reconcile")
    try:
        reconciliation = Reconciliation(
            pool=pool,
            processors=processors,
            directory=Directory(
                pool, Vault(access.encryption_key), integrations, lease_s=settings.cache_lease_s
            ),
        )
        keys = await _accounts(pool, named)
        results: list[Result] = []
        while True:
            done = [await reconciliation.run(key, span=span) for key in keys]
            results = [each for each in done if each is not None]
            tell(results, len(done) - len(results))
            if not watch:
                return all(each.failure is None for each in results)
            await asyncio.sleep(_WATCH_EVERY_S)
            due = set(await run.due(pool, settings.reconcile_every_s or 3600.0))
            keys = [key for key in await _accounts(pool, named) if key in due]
    finally:
        for processor in processors.values():
            await processor.close()
        await pool.close()


def _tell(as_json: bool, results: "list[Result]", left_out: int) -> None:
    if not results and not left_out:
        return
    show_rows(as_json, results, RUNS, "Nothing was read: another process reads these accounts now.")
    if left_out and results and not as_json:
        print(f"Read by another process now: {counted(left_out, 'account')}.")  # noqa: T201


async def _accounts(pool: Any, named: str | None) -> list[bytes]:
    """Return the accounts that are meant and whose books are read. Raises LookupError if there is
    none."""
    from easypay import ids
    from easypay.reconciliation import accounts

    merchant = None if named is None else ids.parse(ids.MERCHANT, named)
    found = [
        each
        for each in await accounts.all_books(pool)
        if named is None or merchant in each.merchants or each.account.hex().startswith(named)
    ]
    if not found and named is not None:
        raise LookupError(f"no account {named}")
    read = [each.account for each in found if each.retired_at is None]
    if not read and named is not None:
        raise LookupError(
            f"the books of {named} are retired: `easypay processor books --resume {named}`"
        )
    return read


def _span(since: str | None, until: str | None) -> tuple[datetime, datetime] | None:
    if since is None and until is None:
        return None
    if since is None:
        raise typer.BadParameter("--to goes with --from")
    ends = datetime.now(UTC) if until is None else _moment("--to", until)
    begins = _moment("--from", since)
    if begins >= ends:
        raise typer.BadParameter("--from must be before --to")
    return begins, ends


def _moment(option: str, text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{option}: use a day such as 2026-11-01, or a time") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


@breaks.command("list")
def list_breaks(
    state: Annotated[
        str | None, typer.Option(help="open (the default), matched, cleared or all.")
    ] = "open",
    kind: Annotated[str | None, typer.Option(help="Only of this kind.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The most rows to show.")] = 100,
    wide: Wide = False,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """List differences of all merchants. The oldest come first.

    Example: `easypay breaks list --kind unexplained_charge`
    """
    from easypay.reconciliation import state as rows
    from easypay.reconciliation.model import BreakKind, BreakState

    if state not in (*BreakState, "all"):
        raise typer.BadParameter(f"--state is {', '.join(BreakState)} or all")
    if kind is not None and kind not in tuple(BreakKind):
        raise typer.BadParameter(f"--kind is one of {', '.join(BreakKind)}")

    async def work(connection: Any, _: "Access") -> Any:
        from easypay.reconciliation.views import break_view

        wanted = None if state == "all" else state
        found = await rows.oldest(connection, state=wanted, kind=kind, limit=limit)
        return [break_view(each) for each in found]

    found = with_access(data_dir, work)
    if as_json:
        show_rows(True, found, LIST, "")
    else:
        show_rows(False, [_Row(each) for each in found], LIST, "Nothing differs.", wide=wide)


class _Row:
    """A difference as a line of a table."""

    def __init__(self, view: Any) -> None:
        self.id, self.kind, self.state = view.id, view.kind, view.state
        self.transaction_id, self.reference = view.transaction_id, view.reference
        self.ours, self.theirs = _side(view.ours), _side(view.theirs)
        self.happened_at, self.found_at = view.happened_at, view.found_at
        self.owner, self.merchant = view.owner, view.merchant_id


def _side(side: Any) -> str:
    return " ".join(
        str(each) for each in (side.state, side.amount, side.currency) if each is not None
    )


@breaks.command("show")
def show_break(break_id: BreakId, data_dir: DataDir = DATA_DIR, as_json: Json = False) -> None:
    """Show everything known about one difference.

    Example: `easypay breaks show brk_019b2f64a1d2700088f1c2a3b4d5e6f7`
    """
    found = _changed(data_dir, break_id, None)
    import msgspec

    text = msgspec.json.format(msgspec.json.encode(found)).decode()
    show(as_json, found, text)


@breaks.command("match")
def match_break(
    break_id: BreakId,
    because: Because,
    actor: Actor = None,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Close a difference that you can explain. The reason is written into the audit entries.

    Example: `easypay breaks match brk_019b2f64a1d2700088f1c2a3b4d5e6f7
    --because "taken by telephone at the processor's pages, invoice 4711"`
    """
    must_be_reason(because)
    who = actor_of(actor)

    async def change(connection: Any, value: UUID) -> Any:
        from easypay.reconciliation import breaks as rows

        return await rows.match_by_hand(connection, value, who, because)

    found = _changed(data_dir, break_id, change)
    show(as_json, found, f"{found.id} is matched.")


@breaks.command("own")
def own_break(
    break_id: BreakId,
    owner: Annotated[str, typer.Option("--owner", help="Who sees to it.")],
    actor: Actor = None,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Say who sees to a difference.

    Example: `easypay breaks own brk_019b2f64a1d2700088f1c2a3b4d5e6f7 --owner jane`
    """
    owner_name, who = actor_of(owner), actor_of(actor)

    async def change(connection: Any, value: UUID) -> Any:
        from easypay.reconciliation import breaks as rows

        return await rows.own(connection, value, owner_name, who) or await rows.find(
            connection, value
        )

    found = _changed(data_dir, break_id, change)
    show(as_json, found, f"{found.owner} sees to {found.id}.")


def _changed(data_dir: Any, break_id: str, change: Any) -> Any:
    """Find one difference, and change it if a change is given; returns its view."""
    from easypay import ids

    value = ids.parse(ids.BREAK, break_id)
    if value is None:
        raise typer.BadParameter(f"{break_id!r} is no brk_… id")

    async def work(connection: Any, _: "Access") -> Any:
        from easypay.reconciliation import breaks as rows
        from easypay.reconciliation.views import break_view

        async with connection.transaction():
            found = await rows.find(connection, value)
            if found is None:
                raise LookupError(f"there is no difference {break_id}")
            if change is not None:
                changed = await change(connection, value)
                if changed is None:
                    return found.state
                found = changed
        return break_view(found)

    found = with_access(data_dir, work)
    if isinstance(found, str):
        fail(f"refused: {break_id} is {found} already")
    return found
