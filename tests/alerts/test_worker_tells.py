"""`easypay worker` with a command: a fault is told once, and once that it is over."""

import json
from pathlib import Path

from harness import Stack
from harness.waiting import until

PARKED = ("EasyPayWorkParked", "erasures")


async def test_a_worker_tells_of_parked_work_and_of_its_end(stack: Stack, tmp_path: Path) -> None:
    told = tmp_path / "told"
    told.touch()
    page = tmp_path / "page"
    page.write_text(f"#!/bin/sh\ncat >> {told}\necho >> {told}\n")
    page.chmod(0o755)
    worker = stack.worker(alerts_command=str(page), alerts_every_s="0.5")
    await worker.logged("working on")

    def states() -> list[str]:
        messages = [each for line in told.open() for each in json.loads(line)["alerts"]]
        return [m["state"] for m in messages if (m["alert"], m["where"]) == PARKED]

    async def has(wanted: list[str]) -> bool:
        return states() == wanted

    await stack.fetch(
        "INSERT INTO erasure_work (merchant_id, mode, customer_id, due_at, parked_at, reason)"
        " VALUES (gen_random_uuid(), 'test', gen_random_uuid(), now(), now(), 'for the test')"
    )
    await until(lambda: has(["firing"]), what="it is told that work is parked")
    await stack.fetch("DELETE FROM erasure_work")
    await until(lambda: has(["firing", "over"]), what="it is told that this is over")
    assert worker.terminate() == 0
    assert states() == ["firing", "over"]
    assert "alerts that cannot be told" not in worker.logs()
