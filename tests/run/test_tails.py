"""`easypay events tail` and `easypay logs tail`."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from harness import Gateway, Shop, Stack, until
from harness.commands import run_easypay, running_easypay
from harness.forks import end_of, start_program


async def tail(stack: Stack, *words: str) -> Any:
    done = await asyncio.to_thread(run_easypay, "events", "tail", *words, **stack.env)
    assert done.code == 0, done.err
    return [json.loads(line) if "--json" in words else line for line in done.out.splitlines()]


async def test_the_newest_events_are_shown_and_followed(
    shared_stack: Stack, gateway: Gateway, shop: Shop
) -> None:
    merchant = f"mer_{shop.merchant_id.hex}"
    paid = [await shop.paid(1000 + n) for n in range(3)]

    async def numbered() -> bool:
        count = await shared_stack.value(
            "SELECT count(*) FROM feed JOIN streams USING (stream) WHERE merchant_id = $1",
            shop.merchant_id,
        )
        return bool(count == 3)

    await until(numbered)
    shown = await tail(shared_stack, "--merchant", merchant, "--json")
    assert [line["event"]["data"] for line in shown] == paid
    assert all(line["merchant_id"] == merchant for line in shown)
    (last,) = await tail(shared_stack, "--merchant", merchant, "--lines", "1")
    assert f"{paid[2]['id']} test {merchant}" in last
    assert "1002 USD" in last
    after = await tail(
        shared_stack, "--merchant", merchant, "--after", str(shown[1]["number"]), "--json"
    )
    assert after == shown[2:]
    assert await tail(shared_stack, "--merchant", merchant, "--types", "refund.failed") == []
    words = ("events", "tail", "--follow", "--lines", "1", "--merchant", merchant)
    async with running_easypay(*words, **shared_stack.env) as (_, printed):
        await printed.readline()
        new = await shop.paid()
        line = await asyncio.wait_for(printed.readline(), 20)
        assert new["id"].encode() in line


async def test_whoever_closes_the_pipe_ends_the_tail(
    shared_stack: Stack, shop: Shop, tmp_path: Path
) -> None:
    await shop.paid()
    reads, writes = os.pipe()
    complaints = tmp_path / "complaints"
    words = ("easypay", "events", "tail", "--follow", "--lines", "1")
    with complaints.open("wb") as errors:
        following = start_program(
            words, os.environ | shared_stack.env, stdout=writes, stderr=errors.fileno()
        )
    os.close(writes)
    assert await asyncio.to_thread(os.read, reads, 1)
    os.close(reads)
    await shop.paid()
    await asyncio.wait_for(end_of(following), 20)
    assert complaints.read_bytes() == b""


def test_a_merchant_that_is_none_is_refused(shared_stack: Stack) -> None:
    done = run_easypay("events", "tail", "--merchant", "7", **shared_stack.env)
    assert (done.code, "mer_" in done.err) == (2, True)


def test_logs_are_shown_together_by_time_and_filtered(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()

    def line(second: int, level: str, **more: str) -> str:
        time = f"2026-11-30T12:00:{second:02}Z"
        return json.dumps({"time": time, "level": level, "message": f"said {second}", **more})

    one = [line(1, "info", request_id="req_1"), line(4, "error"), "no JSON"]
    two = [line(2, "warning", request_id="req_1"), line(3, "info")]
    (folder / "gateway-1.log").write_text("\n".join(one) + "\n")
    (folder / "worker-1.log").write_text("\n".join(two) + "\nnot whole")
    three = ["2026-11-30 12:00:02.500 UTC [7] ERROR:  it said", "\tmore"]
    (folder / "postgres.log").write_text("\n".join(three) + "\n")

    def shown(*words: str) -> list[str]:
        done = run_easypay("logs", "tail", "--data-dir", str(tmp_path), *words)
        assert done.code == 0, done.err
        return done.out.splitlines()

    assert shown() == [
        "2026-11-30T12:00:01Z gateway-1 info said 1 request_id=req_1",
        "2026-11-30T12:00:02Z worker-1 warning said 2 request_id=req_1",
        "postgres: 2026-11-30 12:00:02.500 UTC [7] ERROR:  it said",
        "postgres: \tmore",
        "2026-11-30T12:00:03Z worker-1 info said 3",
        "2026-11-30T12:00:04Z gateway-1 error said 4",
        "gateway-1: no JSON",
    ]
    assert [each.split()[1] for each in shown("--level", "warning")] == ["worker-1", "gateway-1"]
    assert [each.split()[-2] for each in shown("--request-id", "req_1")] == ["1", "2"]
    assert len(shown("--lines", "1", "--program", "worker-1")) == 1
    (as_json,) = map(json.loads, shown("--json", "--level", "error"))
    assert (as_json["program"], as_json["message"]) == ("gateway-1", "said 4")
    none = run_easypay("logs", "tail", "--data-dir", str(tmp_path / "none"))
    assert (none.code, "--data-dir" in none.err) == (1, True)
    wrong = run_easypay("logs", "tail", "--data-dir", str(tmp_path), "--level", "loud")
    assert wrong.code == 2
