"""`easypay operation …` and `easypay late-charges …`: what a person can see and end by hand.

They find the database as the other commands do, and ask the processor with the credentials that are
kept there. Exit status 0: done. 1: refused, with the reason. 2: not typed right.
"""

import getpass
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from easypay.command_line.console import (
    DATA_DIR,
    Columns,
    DataDir,
    Json,
    Wide,
    fail,
    new_group,
    show,
    show_rows,
    with_access,
)

if TYPE_CHECKING:
    from easypay.command_line.data_dir import Access
    from easypay.payments.manual_resolution import ByHand, Done

operations = new_group("Look at operations, and resolve by hand those whose outcome stays unknown.")
late_charges = new_group("List and close charges that were found after their payment had failed.")

Reference = Annotated[
    str,
    typer.Argument(
        metavar="REFERENCE", help="The processor's invoice number (20 characters), or op_…"
    ),
]
Because = Annotated[str, typer.Option("--because", help="The reason. It is kept for ever.")]
Actor = Annotated[
    str | None, typer.Option("--actor", help="Who does it. Default: the user of this shell.")
]
Limit = Annotated[int, typer.Option(min=1, max=100_000, help="The most rows to show.")]
OPEN: Final = Columns(
    ("reference", "kind", "state", "amount", "currency", "age_s", "looks", "last_finding"),
    left_out_first=("looks", "last_finding", "kind", "currency", "amount", "age_s", "state"),
)
WATCHED: Final = Columns(
    ("reference", "purpose", "since", "until", "looks", "next_look_at", "last_finding"),
    left_out_first=("looks", "since", "last_finding", "next_look_at", "until", "purpose"),
)
LATE_CHARGES: Final = Columns(
    ("reference", "kind", "transaction_id", "amount", "currency", "state", "reason", "found_at"),
    left_out_first=("kind", "found_at", "currency", "reason", "amount", "state"),
)
_LINES: Final = Columns(("what", "value"))


class As(StrEnum):
    """What an operation can be resolved as."""

    ABSENT = "absent"
    CHARGED = "charged"


@operations.command("resolve")
def resolve(
    reference: Reference,
    as_what: Annotated[
        As, typer.Option("--as", help="absent: the processor did not do it. charged: it did.")
    ],
    because: Because,
    transaction_id: Annotated[
        str | None, typer.Option(help="The processor's transaction; only with --as charged.")
    ] = None,
    actor: Actor = None,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """End an operation whose outcome is unknown, or correct an absent one that was charged.

    With `--as charged` EasyPay asks the processor first: the transaction must carry the reference,
    the amount and the card. For a capture, a void or a review, name the transaction that it
    changes. `--as absent` is believed, but EasyPay looks for the charge for three more days. Both
    are written into the audit entries.

    Example: `easypay operation resolve 06E9KXQ5TSV0WJ3M8B2C --as absent
    --because "Authorize.Net support, case 4711: nothing arrived"`

    Example: `easypay operation resolve 06E9KXQ5TSV0WJ3M8B2C --as charged
    --transaction-id 60012345678 --because "seen in the merchant interface"`
    """
    from easypay.payments import manual_resolution

    _must_name_operation(reference)
    must_be_reason(because)
    if (as_what is As.CHARGED) != (transaction_id is not None):
        raise typer.BadParameter("--transaction-id goes with --as charged, and only with it")
    if transaction_id is not None and not manual_resolution.is_transaction_id(transaction_id):
        raise typer.BadParameter("a transaction id is a number of at most 20 digits")
    who = actor_of(actor)

    async def work(connection: Any, access: "Access") -> "Done":
        async with _hand(connection, access, who) as hand:
            if transaction_id is None:
                return await hand.absent(reference, because)
            return await hand.charged(reference, transaction_id, because)

    done = _run(data_dir, work)
    show(as_json, done, _sentence(done))


@operations.command("show")
def show_operation(
    reference: Reference, data_dir: DataDir = DATA_DIR, as_json: Json = False
) -> None:
    """Show everything known about one operation.

    Example: `easypay operation show 06E9KXQ5TSV0WJ3M8B2C`
    """
    from easypay.payments import manual_resolution, operation_details

    _must_name_operation(reference)

    async def work(connection: Any, _: "Access") -> Any:
        return operation_details.view(await manual_resolution.find(connection, reference))

    found = _run(data_dir, work)
    if as_json:
        show(True, found, "")
    else:
        show_rows(False, _lines(found), _LINES, "")


@operations.command("list")
def list_operations(
    only_open: Annotated[
        bool, typer.Option("--open", help="Unresolved or held for review; the default.")
    ] = False,
    watched: Annotated[
        bool, typer.Option("--watched", help="Called absent, being given back, or about to expire.")
    ] = False,
    limit: Limit = 100,
    wide: Wide = False,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """List the open operations of all merchants, or the watched ones. The oldest come first.

    Example: `easypay operation list --open`
    """
    from easypay.payments import operation_details

    if only_open and watched:
        raise typer.BadParameter("--open or --watched, not both")

    async def work(connection: Any, _: "Access") -> Any:
        return await (operation_details.list_watched if watched else operation_details.list_open)(
            connection, limit
        )

    columns, none = (WATCHED, "Nothing is watched.") if watched else (OPEN, "Nothing is open.")
    show_rows(as_json, _run(data_dir, work), columns, none, wide=wide)


@late_charges.command("list")
def list_late_charges(
    only_open: Annotated[
        bool,
        typer.Option("--open", help="Only charges that are being given back or need a person."),
    ] = False,
    limit: Limit = 100,
    wide: Wide = False,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """List the late charges of all merchants, newest first.

    Example: `easypay late-charges list --open`
    """
    from easypay.payments import operation_details

    async def work(connection: Any, _: "Access") -> Any:
        return await operation_details.list_late_charges(connection, limit, only_open=only_open)

    show_rows(as_json, _run(data_dir, work), LATE_CHARGES, "No late charges.", wide=wide)


@late_charges.command("close")
def close_late_charge(
    reference: Reference,
    because: Because,
    actor: Actor = None,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Mark a late charge as dealt with. EasyPay no longer gives it back by itself.

    Example: `easypay late-charges close 06E9KXQ5TSV0WJ3M8B2C --because "refunded in the
    merchant interface as 60012345999"`
    """
    from easypay.payments import manual_resolution

    _must_name_operation(reference)
    must_be_reason(because)
    who = actor_of(actor)

    async def work(connection: Any, _: "Access") -> "Done":
        return await manual_resolution.close_late_charge(connection, reference, because, who)

    done = _run(data_dir, work)
    show(as_json, done, f"The late charge of {done.reference} is closed.")


# how they run -------------------------------------------------------------------------------------


def _run(data_dir: Path, work: Callable[[Any, "Access"], Awaitable[Any]]) -> Any:
    """Runs `work(connection, access)`; what is refused ends the program with status 1."""
    from easypay.payments.manual_resolution import Refused

    try:
        return with_access(data_dir, work)
    except Refused as refusal:
        fail(f"refused: {refusal}")


@asynccontextmanager
async def _hand(connection: Any, access: "Access", actor: str) -> AsyncIterator["ByHand"]:
    """What ends operations, with the processor and the one door that gateways use."""
    from easypay.command_line.at_the_processor import at_the_processor
    from easypay.payments.manual_resolution import ByHand

    async with at_the_processor(connection, access) as tools:
        yield ByHand(
            connection=connection,
            recorder=tools.recorder,
            processors=tools.processors,
            directory=tools.directory,
            call_deadline_s=tools.settings.processor_deadline_s,
            actor=actor,
        )


# what was typed, and what is said -----------------------------------------------------------------


def _must_name_operation(text: str) -> None:
    from easypay.payments.manual_resolution import bounds

    if bounds(text) is None:
        raise typer.BadParameter(f"{text!r} is neither a reference (20 characters) nor op_…")


def must_be_reason(text: str) -> None:
    """Refuse a reason that says nothing, or too much. Raises BadParameter."""
    from easypay.payments.manual_resolution import wrong_reason

    if wrong := wrong_reason(text):
        raise typer.BadParameter(f"--because: {wrong}")


def actor_of(given: str | None) -> str:
    """Return who does it: as given, or the user of this shell. Raises typer.BadParameter."""
    from easypay.payments.manual_resolution import wrong_actor

    if given is None:
        try:
            given = getpass.getuser()
        except (OSError, KeyError, ImportError):
            raise typer.BadParameter("nobody knows who you are: give --actor") from None
    if wrong := wrong_actor(given):
        raise typer.BadParameter(f"--actor: {wrong}")
    return given


def _sentence(done: "Done") -> str:
    after = done.after
    said = f"Operation {done.reference} is {after['operation']}; its payment is {after['payment']}."
    if after["late_charge"] is not None:
        said += f" Its late charge is {after['late_charge']}."
    return said


class _Line:
    def __init__(self, what: str, value: object) -> None:
        self.what, self.value = what, value


def _lines(found: Any) -> list[_Line]:
    """One line for each thing that is known, for people."""
    import msgspec

    lines: list[_Line] = []

    def tell(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, each in value.items():
                tell(f"{name} {key}".strip(), each)
        elif isinstance(value, list):
            for number, each in enumerate(value, 1):
                tell(f"{name} {number}", each)
        elif value is not None:
            lines.append(_Line(name.replace("_", " "), value))

    told = msgspec.json.decode(msgspec.json.encode(found))
    operation = told.pop("operation")
    tell("", operation)
    tell("", told)
    return lines
