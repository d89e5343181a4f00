"""`easypay statement`: what settled in a month, a day or a year, straight from the database.

Exit status 0: here it is. 1: refused, with the reason. 2: not typed right.
"""

import csv
import re
import sys
from collections.abc import Callable, Sequence
from datetime import date
from types import SimpleNamespace
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
    show_rows,
    to_json,
    with_access,
)

if TYPE_CHECKING:
    from easypay.settlement.statements import Line, Question, Statement, Sums

_PERIOD: Final = re.compile(r"([0-9]{4})(?:-([0-9]{2}))?(?:-([0-9]{2}))?")
_USUAL: Final = "day,currency"
_MOST_LINES: Final = 5_000
"""Of a table: whoever wants more reads a file."""
_BOUNDS: Final = "SELECT $1::timestamp AT TIME ZONE $3, $2::timestamp AT TIME ZONE $3"


def statement(
    period: Annotated[str, typer.Argument(help="A month, day or year: 2026-11, 2026-11-30, 2026.")],
    by: Annotated[
        str,
        typer.Option(
            help="What to add up by, with commas between: day, batch, merchant, mode, currency, "
            "brand, order_reference. Currencies are always kept apart."
        ),
    ] = _USUAL,
    merchant: Annotated[str | None, typer.Option(help="Only this merchant's: `mer_…`.")] = None,
    mode: Annotated[str | None, typer.Option(help="Only test or live.")] = None,
    time_zone: Annotated[
        str | None, typer.Option(help="Whose days. Default: the merchant's, or UTC.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, with every line.")] = False,
    wide: Wide = False,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Show what settled: charges, refunds, returns and chargebacks, added up.

    Each batch's sums are compared with the processor's, to the cent; what is open is named.

    Example: `easypay statement 2026-11`

    Example: `easypay statement 2026-11 --by batch,brand,order_reference --csv > november.csv`
    """
    import asyncpg

    from easypay.settlement.statements import DIMENSIONS, Question, statement_of

    names = tuple(dict.fromkeys([*by.split(","), "currency"]))
    if unknown := [name for name in names if name not in DIMENSIONS]:
        raise typer.BadParameter(f"--by {unknown[0]}: use {', '.join(DIMENSIONS)}")
    if mode not in (None, "test", "live"):
        raise typer.BadParameter("--mode is test or live")
    if as_csv and as_json:
        raise typer.BadParameter("use --csv or --json, not both")
    first, end = _days(period)
    merchant_id = _merchant(merchant)
    lines: list[Line] = []
    line = _csv_writer(names) if as_csv else _collector(lines, None if as_json else _MOST_LINES)

    async def work(connection: Any, _: Any) -> "tuple[Question, Statement]":
        zone = time_zone or await _zone(connection, merchant_id)
        try:
            since, until = await connection.fetchrow(_BOUNDS, first, end, zone)
        except asyncpg.InvalidParameterValueError:
            raise LookupError(f"there is no time zone {zone!r}") from None
        question = Question(since, until, zone, names, merchant_id, mode)
        return question, await statement_of(connection, question, line)

    question, found = with_access(data_dir, work)
    if as_json:
        print(to_json(_as_json(period, question, lines, found)))  # noqa: T201
        return
    if not as_csv:
        columns = Columns((*names, *_cells_of(None)), left_out_first=("reversed", "charges"))
        rows = [SimpleNamespace(**_named(names, each)) for each in lines]
        show_rows(False, rows, columns, "Nothing has settled in that time.", wide=wide)
    for text in _end(question, found):
        print(text, file=sys.stderr if as_csv else sys.stdout)


def _days(period: str) -> tuple[date, date]:
    """Return the first day of a period, and the day after its last one."""
    matched = _PERIOD.fullmatch(period)
    try:
        assert matched is not None
        year, month, day = (None if part is None else int(part) for part in matched.groups())
        assert year is not None
        first = date(year, month or 1, day or 1)
        if day is not None:
            return first, date.fromordinal(first.toordinal() + 1)
        if month is not None and month < 12:
            return first, date(year, month + 1, 1)
        return first, date(year + 1, 1, 1)
    except (AssertionError, ValueError):
        raise typer.BadParameter(f"{period!r} is no month, day or year: 2026-11") from None


def _merchant(text: str | None) -> UUID | None:
    from easypay import ids

    if text is None:
        return None
    found = ids.parse(ids.MERCHANT, text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not a merchant id (mer_…)")
    return found


async def _zone(connection: Any, merchant_id: UUID | None) -> str:
    from easypay.merchants.admin import get_merchant

    if merchant_id is None:
        return "UTC"
    return (await get_merchant(connection, merchant_id)).time_zone


def _collector(lines: "list[Line]", most: int | None) -> "Callable[[Line], None]":
    def collect(line: "Line") -> None:
        if most is not None and len(lines) >= most:
            fail(f"more than {most:,} lines: print them with --csv, or add up by less")
        lines.append(line)

    return collect


def _csv_writer(names: Sequence[str]) -> "Callable[[Line], None]":
    from easypay.exporting.columns import harmless

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*names, *_cells_of(None)])

    def write(line: "Line") -> None:
        writer.writerow([*harmless(_keys(names, line)), *_cells_of(line).values()])

    return write


def _keys(names: Sequence[str], line: "Line") -> list[str]:
    """Return what a line is of, as people read it: empty if that is not known."""
    from easypay import ids

    values = dict(line.of)
    if (merchant_id := values.get("merchant")) is not None:
        values["merchant"] = ids.typed(ids.MERCHANT, merchant_id)
    return [values[name] or "" for name in names]


def _cells_of(line: "Line | None") -> dict[str, str]:
    """Return the cells of a line's sums by their columns; of no line, what the columns are."""
    from easypay.settlement.statements import NOTHING, SUMS

    sums = NOTHING if line is None else line.sums
    currency = "" if line is None else line.of["currency"]
    cells = {"charges": str(sums.charged.count), "refunds": str(sums.refunded.count)}
    cells |= {name: decimal(getattr(sums, name).amount, currency) for name in SUMS}
    return cells | {"net": decimal(sums.net, currency)}


def _named(names: Sequence[str], line: "Line") -> dict[str, str]:
    return dict(zip(names, _keys(names, line), strict=True)) | _cells_of(line)


def decimal(minor: int, currency: str | None) -> str:
    """Return an amount as people write it. Where the currency is not known, it is in hundredths."""
    from easypay.money import EXPONENT, Money

    return Money(minor, currency if currency in EXPONENT else "USD").decimal_string()


def _end(question: "Question", found: "Statement") -> list[str]:
    """Return what stands below the lines."""
    from easypay.settlement.statements import NOTHING

    texts = [f"Days are those of {question.time_zone}."]
    for currency, sums in sorted(found.totals.items()):
        what = ", ".join(f"{name} {amount}" for name, amount in _amounts(sums, currency))
        texts.append(f"Total {currency or '(unknown currency)'}: {what}.")
    for currency in sorted({each.currency for each in found.others}):
        of_currency = [each for each in found.others if each.currency == currency]
        for did, theirs in (
            ("Charged", [each.charged for each in of_currency if each.charged.count]),
            ("Refunded", [each.refunded for each in of_currency if each.refunded.count]),
        ):
            if theirs:
                total = sum(theirs, NOTHING.charged)
                texts.append(
                    f"{did} by other programs, or before EasyPay knew the account: {total.count}, "
                    f"{decimal(total.amount, currency)} {currency}".rstrip()
                    + f", in {_batches(len(theirs))}."
                )
    if found.differences:
        texts.append("NOT what the processor says:")
    elif found.batches:
        texts.append(f"All sums are the processor's: compared {_batches(found.batches)}.")
    texts += [
        f"  batch {each.batch_id}: {each.what} {each.ours} here, {each.processor} there"
        for each in found.differences
    ]
    if found.open:
        texts.append("Open:")
    for each in found.open:
        amount = "" if each.amount is None else f", {decimal(each.amount, each.currency)}"
        texts.append(f"  {each.what}: {each.count}{amount} {each.currency or ''}".rstrip())
    return texts


def _batches(number: int) -> str:
    return counted(number, "batch", "batches")


def _amounts(sums: "Sums", currency: str) -> list[tuple[str, str]]:
    from easypay.settlement.statements import SUMS

    named = [(name, getattr(sums, name).amount) for name in SUMS]
    shown = [each for each in named if each[1] or each[0] == "charged"]
    return [
        (name.replace("_", " "), decimal(amount, currency))
        for name, amount in [*shown, ("net", sums.net)]
    ]


def _as_json(
    period: str, question: "Question", lines: "Sequence[Line]", found: "Statement"
) -> dict[str, Any]:
    """Return a statement for scripts. Amounts are in minor units."""
    from easypay.clock import rfc3339

    return {
        "period": period,
        "from": rfc3339(question.since),
        "to": rfc3339(question.until),
        "time_zone": question.time_zone,
        "lines": [
            dict(zip(question.by, _keys(question.by, each), strict=True))
            | {"sums": each.sums, "net": each.sums.net}
            for each in lines
        ],
        "totals": [
            {"currency": currency, "sums": sums, "net": sums.net}
            for currency, sums in sorted(found.totals.items())
        ],
        "batches_compared": found.batches,
        "other_programs": found.others,
        "differences": found.differences,
        "open": found.open,
    }
