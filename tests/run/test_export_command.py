"""`easypay export`: a file that is whole, or none."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from easypay import ids
from harness import Shop, Stack, run_easypay
from harness.sessions import connected


@pytest.fixture
async def sold(shop: Shop) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the words of the command for a shop with payments, and these, newest first."""
    for number in range(4):
        await shop.paid(1000 + number, order_reference=f"={number}")
    merchant = ids.typed(ids.MERCHANT, shop.merchant_id)
    return ["export", "--merchant", merchant, "--mode", "test"], await shop.all("/payments")


def test_it_writes_every_format(
    shared_stack: Stack, sold: tuple[list[str], list[dict[str, Any]]], tmp_path: Path
) -> None:
    words, payments = sold
    as_csv, as_json = tmp_path / "p.csv", tmp_path / "p.jsonl"
    shown = run_easypay(*words, "--to", str(as_csv), "--progress", **shared_stack.env)
    assert (shown.code, shown.out) == (0, ""), shown.err
    assert "4 payments" in shown.err
    assert "100%" in shown.err or "months" in shown.err
    _, *rows, last = csv.reader(as_csv.read_text().splitlines())
    assert [row[0] for row in rows] == [payment["id"] for payment in payments]
    assert last[:2] == ["rows", "4"]
    assert any("'=3" in row for row in rows)

    some = ("--amount-from", "1001", "--amount-to", "1002", "--order", "oldest")
    done = run_easypay(*words, *some, "--to", str(as_json), "--json", **shared_stack.env).data
    assert (done["rows"], done["format"], done["file"]) == (2, "jsonl", str(as_json))
    *lines, last_line = map(json.loads, as_json.read_text().splitlines())
    assert lines == payments[1:3][::-1]
    assert last_line == {"rows": 2}
    piped = run_easypay(*words, *some, "--format", "jsonl", "--to", "-", **shared_stack.env)
    assert piped.out == as_json.read_text()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["p.csv", "p.jsonl"]


def test_a_parquet_file_has_types_and_exact_texts(
    shared_stack: Stack, sold: tuple[list[str], list[dict[str, Any]]], tmp_path: Path
) -> None:
    from pyarrow import parquet

    words, payments = sold
    path = tmp_path / "p.parquet"
    assert run_easypay(*words, "--to", str(path), "--json", **shared_stack.env).data["rows"] == 4
    table = parquet.read_table(path)
    assert parquet.read_metadata(path).metadata[b"easypay.rows"] == b"4"
    assert table["id"].to_pylist() == [payment["id"] for payment in payments]
    assert table["amount"].to_pylist() == [1003, 1002, 1001, 1000]
    assert table["order_reference"].to_pylist() == ["=3", "=2", "=1", "=0"]
    assert table["description"].to_pylist() == [None] * 4
    assert table["created_at"][0].as_py().isoformat()[:23] == payments[0]["created_at"][:23]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--status", "paid", "--to", "x.csv"], "--status: Use one of"),
        (["--created-from", "yesterday", "--to", "x.csv"], "--created-from: Use RFC 3339"),
        (["--to", "x.txt"], "--to x.txt names no format: add --format with one of csv, jsonl"),
        (["--to", "-"], "--to - names no format: add --format"),
        (["--to", "-", "--format", "csv", "--json"], "--json needs a file"),
    ],
)
def test_what_cannot_be_is_refused(
    shared_stack: Stack, tmp_path: Path, words: list[str], said: str
) -> None:
    merchant = f"mer_{'0' * 32}"
    refused = run_easypay("export", "--merchant", merchant, *words, **shared_stack.env)
    assert refused.code == 2
    assert said in " ".join(refused.err.replace("│", " ").split())


def test_a_merchant_or_a_directory_that_is_not_there(
    shared_stack: Stack, sold: tuple[list[str], list[dict[str, Any]]], tmp_path: Path
) -> None:
    unknown = run_easypay(
        "export", "--merchant", f"mer_{'0' * 32}", "--to", str(tmp_path / "x.csv"),
        **shared_stack.env,
    )  # fmt: skip
    assert (unknown.code, unknown.out) == (1, "")
    assert "there is no merchant" in unknown.err
    nowhere = run_easypay(*sold[0], "--to", str(tmp_path / "no" / "x.csv"), **shared_stack.env)
    assert nowhere.code == 1
    assert "cannot write to" in nowhere.err
    assert list(tmp_path.iterdir()) == []


async def test_ctrl_c_leaves_no_half_file_and_the_file_before_as_it_was(
    shared_stack: Stack, sold: tuple[list[str], list[dict[str, Any]]], tmp_path: Path
) -> None:
    """It is stopped while it waits for the rows of the month, which are locked."""
    path = tmp_path / "p.csv"
    path.write_text("the file before")
    partial = tmp_path / "p.csv.partial"
    async with connected(shared_stack.dsn) as connection:
        month = await connection.fetchval("SELECT 'payments_' || to_char(db_now(), 'YYYY_MM')")
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE {month} IN ACCESS EXCLUSIVE MODE")
            running = subprocess.Popen(
                [sys.executable, "-m", "easypay", *sold[0], "--to", str(path)],
                env=os.environ | shared_stack.env,
                stderr=subprocess.PIPE,
            )
            until = time.monotonic() + 30
            while not partial.exists():
                assert time.monotonic() < until
                assert running.poll() is None
                time.sleep(0.01)
            running.send_signal(signal.SIGINT)
            _, said = running.communicate(timeout=20)
    assert (running.returncode, b"stopped" in said) == (130, True), said
    assert [each.name for each in tmp_path.iterdir()] == ["p.csv"]
    assert path.read_text() == "the file before"
