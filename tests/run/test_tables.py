"""Tables in a terminal show whole ids, which can be copied, however narrow it is."""

import asyncio
import fcntl
import os
import re
import struct
import termios
import uuid
from types import SimpleNamespace

import pytest

from easypay import ids
from easypay.command_line import merchants, operations
from easypay.command_line.console import Columns, column_widths, show_rows
from easypay.merchants import admin
from harness import Shop, Stack, connected, random_name, run_easypay
from harness.forks import end_of, start_program

TABLES = [
    merchants.MERCHANTS,
    merchants.KEYS,
    operations.OPEN,
    operations.WATCHED,
    operations.LATE_CHARGES,
]
LONG = {
    "id": ids.typed(ids.API_KEY, uuid.UUID(int=0)),
    "merchant_id": ids.typed(ids.MERCHANT, uuid.UUID(int=0)),
    "reference": "06E9KXQ5TSV0WJ3M8B2C",
    "transaction_id": "60012345678",
    "name": "Coffee & Company of Springfield, Illinois",
    "last_finding": "not in the lists of 2 passes, which newer charges show to be complete",
}
USUAL = "2026-11-30T03:12:07.481Z"


def test_counts_by_name_are_read_as_words(capsys: pytest.CaptureFixture[str]) -> None:
    counts = [SimpleNamespace(new_breaks={"not_settled": 2}), SimpleNamespace(new_breaks={})]
    show_rows(False, counts, Columns(("new_breaks",)), "")
    shown = capsys.readouterr().out
    assert "2 not_settled" in shown
    assert "{" not in shown


@pytest.mark.parametrize("limit", [80, 60])
@pytest.mark.parametrize("columns", TABLES, ids=lambda columns: columns.names[-1])
def test_columns_are_left_out_to_make_room_for_whole_ids(columns: Columns, limit: int) -> None:
    cells = [{name: LONG.get(name, USUAL) for name in columns.names}]
    widths = column_widths(columns, cells, limit)
    kept = [name for name in columns.names if name not in columns.left_out_first]
    assert set(widths) >= set(kept)
    for name in kept:
        assert widths[name] == max(len(name), len(LONG[name]))
    assert sum(widths.values()) + 3 * len(widths) + 1 <= limit or list(widths) == kept
    left_out = [name for name in columns.left_out_first if name not in widths]
    assert left_out == list(columns.left_out_first[: len(left_out)]), "least important first"
    everything = column_widths(columns, cells, None)
    assert everything == {name: max(len(name), len(cells[0][name])) for name in columns.names}


async def typed_in_a_terminal(stack: Stack, width: int, *words: str) -> str:
    """Return what `easypay …` shows in a terminal of this width."""
    ours, its = os.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    own = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    env = own | stack.env | {"TERM": "xterm", "NO_COLOR": "1"}
    program = start_program(["easypay", *words], env, stdin=its, stdout=its, stderr=its)
    os.close(its)
    shown = await asyncio.to_thread(_everything, ours)
    assert await end_of(program) == 0, shown
    return shown


def _everything(terminal: int) -> str:
    read = b""
    with os.fdopen(terminal, "rb", buffering=0) as file:
        while True:
            try:
                read += file.read(65_536)
            except OSError:  # the other end is closed
                return read.decode()


async def test_a_terminal_shows_whole_ids_and_names_the_columns_left_out(
    shared_stack: Stack, shop: Shop
) -> None:
    merchant = ids.typed(ids.MERCHANT, shop.merchant_id)
    async with connected(shared_stack.dsn) as connection:
        await admin.update_merchant(connection, shop.merchant_id, name="[bold]Corner[/] :cat: Shop")
        (key,) = await admin.list_keys(connection, shop.merchant_id)
    narrow, usual, wide, keys, all_keys = await asyncio.gather(
        typed_in_a_terminal(shared_stack, 60, "merchant", "show", merchant),
        typed_in_a_terminal(shared_stack, 80, "merchant", "show", merchant),
        typed_in_a_terminal(shared_stack, 60, "merchant", "show", merchant, "--wide"),
        typed_in_a_terminal(shared_stack, 60, "key", "list", merchant),
        typed_in_a_terminal(shared_stack, 80, "key", "list"),
    )
    for shown in (narrow, usual, wide, all_keys):
        assert merchant in shown
    for shown in (keys, all_keys):
        assert ids.typed(ids.API_KEY, key.id) in shown
    assert re.search(r"\btest\b", keys), "its mode fits, since the merchant is known"
    assert "Not shown: last4, scopes, expires_at, revoked_at. --wide" in keys
    left_out = "currencies, allow_raw_cards, duplicates, disabled, created_at"
    assert f"Not shown: {left_out}. --wide" in narrow
    assert "Not shown: currencies, allow_raw_cards, duplicates, created_at. --wide" in usual
    for name in merchants.MERCHANTS.names:
        assert name in wide
    assert "[bold]Corner[/] :cat: Shop" in wide


async def test_a_narrow_terminal_cuts_no_figure(shared_stack: Stack) -> None:
    sizes, months = await asyncio.gather(
        typed_in_a_terminal(shared_stack, 60, "db", "sizes"),
        typed_in_a_terminal(shared_stack, 60, "db", "partitions"),
    )
    assert "payment_search_customer" in sizes
    assert re.search(r"^ 20\d\d_\d\d +\d", months, re.MULTILINE)
    assert "…" not in sizes + months


async def test_a_file_gets_every_column_however_long(shared_stack: Stack, shop: Shop) -> None:
    name = f"{random_name()} {'and sons ' * 7}"
    currencies = ["USD", "CAD", "EUR", "GBP", "JPY", "AUD", "CHF", "NOK", "SEK", "DKK"]
    async with connected(shared_stack.dsn) as connection:
        await admin.update_merchant(connection, shop.merchant_id, name=name, currencies=currencies)
    merchant = ids.typed(ids.MERCHANT, shop.merchant_id)
    words = ("merchant", "show", merchant)
    done = await asyncio.to_thread(run_easypay, *words, **shared_stack.env)
    assert done.code == 0
    lines = done.out.splitlines()
    (row,) = [line for line in lines if merchant in line]
    assert name.strip() in row
    assert "NOK, SEK, DKK" in row
    assert not [line for line in lines if "Not shown" in line]
