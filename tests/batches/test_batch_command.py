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
from harness import QUICK, Output, Shop, Stack, own_stack, run_easypay, until
from harness.forked import forked_workers
from harness.forks import start_logged
from harness.sessions import connected

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
    assert "upload it with on_error=skip." in wrong.err
    skipping = ("--on-error", "skip", "--check-only")
    assert (
        "3 waiting, 0 cancelled, 1 wrong"
        in (await easypay_batch(shop, "run", str(file), *skipping)).out
    )
    file.write_bytes(as_jsonl(lines))
    done = await easypay_batch(shop, "run", str(file))
    assert done.code == 0, done.err
    first, moved = done.out.splitlines()
    assert "is done: 3 done, 0 failed, 0 waiting" in first
    assert moved == "captured USD 37.50"
    batch_id = first.split()[0]
    listed = json.loads(await here(shop, "list", "--json"))["data"]
    assert [each["state"] for each in listed] == ["done", "ready", "invalid"]
    assert batch_id in await here(shop, "list")
    assert "3 done" in await here(shop, "show", batch_id)
    shown = (await here(shop, "results", batch_id)).splitlines()
    assert [json.loads(each).get("outcome") for each in shown] == [*["captured"] * 3, None]
    assert (await here(shop, "results", batch_id, "--csv")).startswith("line,line_reference,")
    errors = (await here(shop, "errors", listed[2]["id"])).splitlines()
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


async def test_limits_that_a_file_does_not_have_do_not_start_it(
    stack: Stack, worker: None, shop: Shop, tmp_path: Path
) -> None:
    file = tmp_path / "checked.jsonl"
    file.write_bytes(as_jsonl([await payment_line(stack, shop) for _ in range(2)]))
    checked = await easypay_batch(shop, "run", str(file), "--check-only")
    refused = await easypay_batch(shop, "run", str(file), "--lines-per-second", "5")
    assert refused.code == 1
    assert "with no limit for lines_per_second" in refused.err
    batch_id = checked.out.split()[0]
    assert (await batch_of(shop, batch_id))["state"] == "ready"
    assert (await easypay_batch(shop, "run", str(file), "--at-once", "128")).code == 0


async def test_a_file_that_was_refused_is_checked_again(
    stack: Stack, worker: None, shop: Shop, tmp_path: Path
) -> None:
    """What was wrong may have been the key: it has got a scope since."""
    file = tmp_path / "refunds.jsonl"
    file.write_bytes(as_jsonl([{"operation": "refund", "payment": (await shop.paid())["id"]}]))
    weak = await stack.with_key(
        shop, name="weak", scopes=("payments:read", "payments:write", "batches:write")
    )
    assert "refunds:write" in (await easypay_batch(weak, "run", str(file))).out
    assert "1 done" in (await easypay_batch(shop, "run", str(file))).out


async def test_ctrl_c_while_the_file_is_checked_does_not_say_that_it_does_not_run(
    stack: Stack, worker: None, shop: Shop, tmp_path: Path
) -> None:
    """The gateway has read the file, and goes on; unless the database kept it waiting for too long,
    as on a very busy machine: then nothing of it is kept."""
    file = tmp_path / "cut.jsonl"
    file.write_bytes(as_jsonl([await payment_line(stack, shop)]))
    log = tmp_path / "command.log"
    words = ["batch", "run", str(file), "--url", shop.url, "--api-key", shop.secret]
    read = (
        "SELECT (array_agg(batch_id))[1] FROM batch_lines JOIN batches b ON b.id = batch_id"
        " WHERE b.merchant_id = $1 AND b.state = 'checking' AND EXISTS ("
        " SELECT FROM pg_locks WHERE NOT granted AND relation = 'batch_events'::regclass"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
    )
    async with connected(stack.dsn) as connection, connection.transaction():
        await connection.execute("LOCK TABLE batch_events")  # its end waits
        command = start_logged(["easypay", *words], dict(os.environ), log)
        batch_id = await until(lambda: stack.value(read, shop.merchant_id), what="it is read")
        command.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(command.wait, 20) == 130
    assert "If the gateway had read the whole file, the batch is there" in log.read_text()

    async def is_over() -> bool:
        answer = await shop.client.get(f"/batches/bat_{batch_id.hex}")
        return answer.status_code == 404 or bool(answer.json()["state"] == "done")

    await until(is_over, what="the batch is done, or was not kept")
