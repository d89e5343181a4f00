"""`easypay batch`, as a person at a terminal uses it."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from batches.batch_shop import as_jsonl, batch_of, batch_shop, becomes, payment_line
from easypay.command_line.main import app
from harness import QUICK, Output, Shop, Stack, own_stack, run_easypay
from harness.forked import forked_workers
from harness.forks import start_logged

stack = own_stack(**QUICK)


@pytest.fixture(scope="module")
async def worker(stack: Stack) -> AsyncIterator[None]:
    async with forked_workers(stack, **QUICK) as workers:
        await workers.start()
        yield


@pytest.fixture(scope="module")
async def shop(stack: Stack) -> Shop:
    return await batch_shop(stack)


async def easypay_batch(shop: Shop, *words: str) -> Output:
    access = ("--url", shop.url, "--api-key", shop.secret)
    return await asyncio.to_thread(run_easypay, "batch", *words, *access)


async def here(shop: Shop, *words: str) -> Any:
    """Run a command that sets no signals in this process, and return what it printed."""
    access = ("--url", shop.url, "--api-key", shop.secret)
    done = await asyncio.to_thread(CliRunner().invoke, app, ["batch", *words, *access])
    assert done.exit_code == 0, done.output
    return done.output


async def test_a_file_is_run_and_shown(
    stack: Stack, worker: None, shop: Shop, tmp_path: Path
) -> None:
    file = tmp_path / "november.jsonl"
    lines = [await payment_line(stack, shop, 1250) for _ in range(3)]
    file.write_bytes(as_jsonl([*lines, {"operation": "void"}]))
    wrong = await easypay_batch(shop, "run", str(file))
    assert wrong.code == 1
    assert "november.jsonl:4: payment is missing." in wrong.out
    assert "is invalid. 1 line is wrong." in wrong.err
    file.write_bytes(as_jsonl(lines))
    done = await easypay_batch(shop, "run", str(file))
    assert done.code == 0, done.err
    first, moved = done.out.splitlines()
    assert "is done: 3 done, 0 failed, 0 waiting" in first
    assert moved == "captured USD 37.50"
    batch_id = first.split()[0]
    listed = json.loads(await here(shop, "list", "--json"))["data"]
    assert [each["state"] for each in listed] == ["done", "invalid"]
    assert batch_id in await here(shop, "list")
    assert "3 done" in await here(shop, "show", batch_id)
    shown = (await here(shop, "results", batch_id)).splitlines()
    assert [json.loads(each).get("outcome") for each in shown] == [*["captured"] * 3, None]
    assert (await here(shop, "results", batch_id, "--csv")).startswith("line,line_reference,")
    errors = (await here(shop, "errors", listed[1]["id"])).splitlines()
    assert json.loads(errors[0])["line"] == 4


async def test_ctrl_c_pauses_the_batch_and_says_how_to_go_on(
    stack: Stack, worker: None, shop: Shop, tmp_path: Path
) -> None:
    file = tmp_path / "slow.jsonl"
    file.write_bytes(as_jsonl([await payment_line(stack, shop) for _ in range(40)]))
    before = len(await stack.simulator.truth(login=shop.login))
    words = ["batch", "run", str(file), "--lines-per-second", "10", "--url", shop.url]
    log = tmp_path / "command.log"
    command = start_logged(["easypay", *words, "--api-key", shop.secret], dict(os.environ), log)
    await stack.charges(shop, before + 2)
    command.send_signal(signal.SIGINT)
    assert await asyncio.to_thread(command.wait, 20) == 130
    said = log.read_text()
    batch_id = said.split("easypay batch resume ")[1].split("`")[0]
    assert (await batch_of(shop, batch_id))["state"] == "paused"
    assert "is running" in await here(shop, "resume", batch_id)
    assert "is cancelled" in await here(shop, "cancel", batch_id)
    await becomes(shop, batch_id, "cancelled")
