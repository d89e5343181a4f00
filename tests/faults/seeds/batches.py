"""Batches in seeds: a shop uploads one, pauses, resumes and cancels it, and its worker is killed.

Its judge asks the processor: each line was charged once, or says that it was not, and none was left
out. Some seeds purge the keys of what has ended, as if a month had passed.
"""

import asyncio
import json
import os
import signal
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import httpx

from faults.seeds.money import Money
from faults.seeds.plan import Happening
from faults.seeds.world import SETTINGS, World
from harness.forks import Program, end_of, start_logged
from harness.processes import variables
from harness.shop import mint_token

_POLL_S: Final = "0.02"
_ENDS_WITHIN_S: Final = 15.0
_MOST_MISSES: Final = 20
_UPLOAD: Final = "/batches?lines_per_second=30&at_once=6"
SCOPES: Final = ("payments:read", "payments:write", "customers:write", "batches:write")
"""Of the key that uploads."""
# What the real purge deletes after 30 days.
_PURGE: Final = """
    DELETE FROM idempotency_keys k USING operations o
     WHERE k.key LIKE 'bat\\_%' AND o.merchant_id = k.merchant_id AND o.id = k.operation_id
       AND o.state NOT IN ('queued', 'in_flight', 'unknown', 'not_sent', 'held')
       AND NOT EXISTS (SELECT FROM unresolved_operations u
                        WHERE u.merchant_id = k.merchant_id AND u.operation_id = k.operation_id)
       AND NOT EXISTS (SELECT FROM watched_operations w
                        WHERE w.merchant_id = k.merchant_id AND w.operation_id = k.operation_id
                          AND w.purpose <> 'expiry')
    RETURNING k.operation_id
"""
_UNENDED: Final = """
    SELECT (SELECT count(*) FROM batches WHERE state NOT IN ('done', 'cancelled', 'invalid'))
         + (SELECT count(*) FROM batch_groups)
"""


class Batches:
    """The batch of a seed, and the worker that runs it. Nothing starts before there is one."""

    def __init__(
        self, world: World, secret_of: Callable[[int], Awaitable[str]], logins: list[list[str]]
    ) -> None:
        self._world = world
        self._secret_of = secret_of
        self._logins = logins
        self._secret = ""
        self._method = ""
        self._key = str(uuid.uuid4())
        self._file = b""
        self._id: str | None = None
        self._worker: Program | None = None
        self._log = world.folder / "worker.log"
        self.purged: set[uuid.UUID] = set()
        """The operations whose keys were purged."""

    # what a shop asks ------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Store a card, if the seed has a batch. A token would soon be too old."""
        bursts = self._world.plan.bursts
        shops = [each.args["shop"] for b in bursts for each in b.requests if each.kind == "upload"]
        for shop in shops:
            self._secret = await self._secret_of(shop)
            token = await mint_token(self._world.servers.simulator, self._logins[shop][-1])
            method = {"type": "accept_token", "accept_token": token}
            made = await self._made("/customers", {"email": "ada@example.com"})
            path = f"/customers/{made['id']}/payment_methods"
            self._method = (await self._made(path, {"payment_method": method}))["id"]

    async def _made(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = {"idempotency-key": str(uuid.uuid4())}
        for _ in range(_MOST_MISSES):  # a busy machine may take longer than a call may take
            answer = await self._post(path, 0, json=body, headers=headers)
            if answer is not None and answer.status_code == 201:
                made: dict[str, Any] = answer.json()
                return made
            await asyncio.sleep(0.1)
        raise AssertionError(f"{path}: {answer and answer.text}")

    async def upload(self, happening: Happening) -> None:
        """Upload a file: payments, and captures of what earlier lines make."""
        args = happening.args
        lines: list[dict[str, Any]] = []
        method = {"type": "stored", "stored": {"id": self._method}}
        for number in range(1, args["lines"] + 1):
            line = {"operation": "payment", "amount": 500 + number, "currency": "USD"}
            lines.append(line | {"payment_method": method})
            if number % 3 == 0:
                lines[-1]["capture"] = "manual"
                lines.append({"operation": "capture", "payment": {"line": len(lines)}})
        self._file = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        await self._start_worker()
        await self._send_file(args["gate"])

    async def _send_file(self, gate: int) -> None:
        headers = {"content-type": "application/jsonl", "idempotency-key": self._key}
        answer = await self._post(_UPLOAD, gate, content=self._file, headers=headers)
        if answer is not None and answer.status_code in (200, 201):
            self._id = answer.json()["id"]

    async def move(self, happening: Happening) -> None:
        """Pause, resume or cancel it. An upload whose answer was lost is repeated first."""
        args = happening.args
        await asyncio.sleep(args["after_s"])
        if self._id is None:
            await self._send_file(args["gate"])
        if self._id is not None:
            await self._post(f"/batches/{self._id}/{args['move']}", args["gate"])

    async def _post(self, path: str, gate: int, **more: Any) -> httpx.Response | None:
        headers = {"authorization": f"Bearer {self._secret}", **more.pop("headers", {})}
        url = f"{self._world.gates[gate].url}/api/v1{path}"
        try:
            answer = await self._world.client.post(url, headers=headers, **more)
        except httpx.HTTPError as error:
            self._world.tell(f"{path} at {gate}: {type(error).__name__}")
            return None
        self._world.tell(f"{path} at {gate}: {answer.status_code}")
        return answer

    # its worker --------------------------------------------------------------------------------

    async def worker_breaks(self, happening: Happening) -> None:
        """Kill, terminate or arm the worker, and start another one."""
        how, at = happening.args["how"], happening.args["at"]
        if self._worker is None:
            return
        if how == "dies":
            await self._end_worker(signal.SIGKILL)
            await self._start_worker(failpoint=at)
            return
        await asyncio.sleep(at)
        await self._end_worker(signal.SIGTERM if how == "terminate" else signal.SIGKILL)
        if how == "purge":
            self.purged |= {row[0] for row in await self._world.fetch(_PURGE)}
        await self._start_worker()

    async def _start_worker(self, **over: str) -> None:
        wire = self._world.servers.simulator.wire
        wire = wire.replace(
            f":{self._world.servers.simulator.port}/", f":{self._world.processor.port}/"
        )
        settings = SETTINGS | {
            "database_url": self._world.dsn,
            "authorize_net_test_url": wire,
            "authorize_net_live_url": wire,
            "queue_poll_s": _POLL_S,
            "clock_file": str(self._world.right_clock),
            **over,
        }
        environment = os.environ | variables(settings)
        self._worker = start_logged(["easypay", "worker"], environment, self._log)
        self._world.runs_lines = True

    async def _end_worker(self, how: signal.Signals) -> None:
        if self._worker is not None:
            with suppress(ProcessLookupError):
                self._worker.send_signal(how)
            with suppress(TimeoutError):
                await asyncio.wait_for(end_of(self._worker), 12)
            await self.close()

    async def close(self) -> None:
        """Stop the worker for good."""
        if self._worker is not None:
            self._worker.kill()
            await end_of(self._worker)
            self._worker = None
            self._world.runs_lines = False

    # the end ---------------------------------------------------------------------------------

    async def quiet(self) -> None:
        """Let the batch end. Call it once no fault is left."""
        if self._worker is None:
            return
        await self._end_worker(signal.SIGKILL)  # it may still be armed
        await self._start_worker()
        for _ in range(_MOST_MISSES):
            if self._id is None:
                await self._send_file(0)
        if self._id is not None:
            await self._post(f"/batches/{self._id}/resume", 0)
        loop = asyncio.get_running_loop()
        ends = loop.time() + _ENDS_WITHIN_S
        while (await self._world.fetch(_UNENDED))[0][0] and loop.time() < ends:
            await self._world.drive_to(self._world.ahead_ms / 1000 + 40)
            await asyncio.sleep(0.1)
        await self._end_worker(signal.SIGTERM)

    def wrong_log(self) -> list[str]:
        """Return what the worker logged that it should not."""
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        found = [line for line in text.splitlines() if "Traceback" in line]
        return [f"the worker logged a traceback: {line[:4000]}" for line in found[:1]]


async def lines_agree(
    world: World, merchant_id: uuid.UUID, rows: dict[str, list[Any]], money: dict[Any, list[Money]]
) -> list[str]:
    """Each line ended, and its end is what the processor has of it."""
    key = "merchant_id = $1"
    batches = await world.fetch(f"SELECT * FROM batches WHERE {key}", merchant_id)
    lines = await world.fetch(f"SELECT * FROM batch_lines WHERE {key}", merchant_id)
    operations = {row["id"]: row for row in rows["operations"]}
    late = {row["payment_id"] for row in rows["late_charges"]}
    claimed: dict[Any, str] = {}
    wrong = []
    for batch in batches:
        if batch["state"] not in ("done", "cancelled"):
            wrong.append(f"batch {batch['id']} is {batch['state']} after everything")
        own = [line for line in lines if line["batch_id"] == batch["id"]]
        ended = Counter(f"{line['state']} {line['outcome']}" for line in own)
        world.tell(f"batch {batch['id']} is {batch['state']}: {dict(ended)}")
        if len(own) != batch["lines"]:
            wrong.append(f"batch {batch['id']} has {len(own)} lines of {batch['lines']}")
        for line in own:
            name = f"line {line['line']} ({line['operation']}, {line['state']})"
            ends = ("done", "failed", *(["waiting"] if batch["state"] == "cancelled" else []))
            if line["state"] not in ends:
                wrong.append(f"{name} has not ended")
            begun = [operations[each] for each in line["tried"] or () if each in operations]
            for each in begun:
                if claimed.setdefault(each["id"], name) != name:
                    wrong.append(f"{name} and {claimed[each['id']]} have the same operation")
            approved = [each for each in begun if each["state"] in ("approved", "held")]
            if len(approved) > 1:
                wrong.append(f"{name} was done {len(approved)} times")
            if line["state"] == "done" and line["outcome"] != "declined" and len(approved) != 1:
                wrong.append(f"{name} is {line['outcome']}, and was done {len(approved)} times")
            if line["operation"] != "payment":
                continue
            payments = {each["payment_id"] for each in begun}
            live = [each for one in payments for each in money.get(one, []) if each.kept]
            if len(live) > 1:
                wrong.append(f"{name} is charged {len(live)} times")
            if line["state"] != "done" and live and not payments & late:
                wrong.append(f"{name} is charged")
    known = {each for line in lines for each in line["tried"] or ()}
    for row in rows["idempotency_keys"]:
        if row["key"].startswith("bat_") and row["operation_id"] not in known:
            wrong.append(f"no line knows of the operation of {row['key']}")
    return wrong
