"""`easypay up` for a new user: start, pay, stop, start again, and recover from a kill."""

import asyncio
import json
import os
import re
import signal
import socket
import stat
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from easypay.db import embedded
from harness import (
    Process,
    Simulator,
    free_port,
    http_client,
    pay_at,
    random_name,
    run_easypay,
    until,
)

DATA = "data"
"""The name of the data directory."""


class Up(Process):
    def __init__(self, folder: Path, *, port: int | None = None, **env: str) -> None:
        self.data_dir = folder / DATA
        self.port = port or free_port()
        options = ["--data-dir", str(self.data_dir), "--port", str(self.port)]
        super().__init__(
            ["easypay", "up", *options, "--simulator-port", str(free_port()), "--workers", "2"],
            {f"EASYPAY_AUTHORIZE_NET_{name}": value for name, value in env.items()},
            folder / "up.log",
        )

    def demo(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.data_dir / "demo.json").read_text())
        return found

    async def ready(self) -> "Up":
        await self.serves(f"http://127.0.0.1:{self.port}/readyz", within_s=60)
        await self.logged("curl")
        return self

    async def pay(self, key: str) -> httpx.Response:
        demo = self.demo()
        return await pay_at(demo["api_url"], demo["api_key"], key=key)


async def test_start_pay_stop_and_start_again(tmp_path: Path, simulator: Simulator) -> None:
    first = await Up(tmp_path).ready()
    assert set(first.demo()) == {
        "api_url",
        "api_key",
        "admin_key",
        "simulator_url",
        "database_url",
    }
    mode = stat.S_IMODE((first.data_dir / "demo.json").stat().st_mode)
    assert mode & 0o077 == 0, "only the owner may read the keys"
    paid = await first.pay("order-1")
    assert (paid.status_code, paid.json()["status"]) == (201, "captured")
    curl = next(line for line in first.logs().splitlines() if line.startswith("curl"))
    pasted = await asyncio.create_subprocess_shell(curl, stdout=asyncio.subprocess.PIPE)
    out, _ = await pasted.communicate()
    assert json.loads(out)["status"] == "captured"
    answers = await _pasted_from_the_readme(first)
    assert answers == ["captured", "declined", "settled", "succeeded", "fault-1", "processing"]
    await _both_workers_share(first, paid.json()["id"])
    shown = re.search(r"http://127\.0\.0\.1:\d+/metrics", first.logs())
    assert shown, first.logs()
    async with http_client() as client:
        assert 'outcome="approved"' in (await client.get(shown[0])).text
    words = ("db", "doctor", "--data-dir", str(first.data_dir))
    doctor = await asyncio.to_thread(run_easypay, *words)
    assert doctor.code == 0, doctor.out

    children = psutil.Process(first.pid).children(recursive=True)
    assert len(children) >= 4
    assert first.terminate() == 0, first.logs()
    assert not [child for child in children if child.is_running()]

    second = await Up(tmp_path, port=first.port).ready()
    again = await second.pay("order-1")
    assert again.headers["idempotency-replayed"] == "true"
    assert again.content == paid.content
    await _a_dead_worker_is_replaced(second)

    children = psutil.Process(second.pid).children(recursive=True)
    second.kill()

    async def gone() -> bool:
        return not [child for child in children if child.is_running() and not _is_zombie(child)]

    await until(gone, what="the processes of a killed up end")
    account = {"login": random_name(), "transaction_key": "sandbox-key-1"}
    await simulator.post("/accounts", **account)
    sandbox = {
        "LOGIN_ID": account["login"],
        "TRANSACTION_KEY": account["transaction_key"],
        "TEST_URL": simulator.wire,
    }
    third = await Up(tmp_path, port=first.port, **sandbox).ready()
    assert (await third.pay("order-1")).content == paid.content
    assert (await third.pay("order-2")).json()["status"] == "captured"
    assert len(await simulator.truth(login=account["login"])) == 1, "order-2 is in the sandbox"
    assert third.demo()["simulator_url"] is None
    assert third.terminate() == 0


async def _pasted_from_the_readme(up: Up) -> list[str]:
    """Run the commands of the README's section on paying; return each command's output."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    section = readme[readme.index("## Pay") : readme.index("## Why not call")]
    script = "\n".join(re.findall(r"^ {4}(.*)$", section, re.MULTILINE))
    script = script.replace(".easypay/", f"{up.data_dir}/")
    for printed, now in (("8000", "api_url"), ("8001", "simulator_url")):
        script = script.replace(f"http://127.0.0.1:{printed}", up.demo()[now])
    shell = await asyncio.create_subprocess_exec(
        "sh", "-ec", script, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(shell.communicate(), 60)
    assert shell.returncode == 0
    answers = [json.loads(each) for each in out.decode().replace("}{", "}\n{").splitlines()]
    return [each.get("status") or each.get("id") or "settled" for each in answers]


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"LOGIN_ID": "x"}, "EASYPAY_AUTHORIZE_NET_TRANSACTION_KEY is not set: the sandbox needs"),
        ({"TRANSACTION_KEY": "x"}, "EASYPAY_AUTHORIZE_NET_LOGIN_ID is not set: the sandbox needs"),
        (
            {"LOGIN_ID": "nobody", "TRANSACTION_KEY": "wrong-key-1"},
            "correct EASYPAY_AUTHORIZE_NET_LOGIN_ID or EASYPAY_AUTHORIZE_NET_TRANSACTION_KEY: ",
        ),
    ],
)
async def test_unusable_sandbox_credentials_give_one_clear_line(
    tmp_path: Path, simulator: Simulator, env: dict[str, str], said: str
) -> None:
    up = Up(tmp_path, TEST_URL=simulator.wire, **env)
    assert await asyncio.to_thread(up.process.wait, 30) == 1
    assert up.logs().startswith(f"easypay: {said}")
    assert up.logs().count("\n") == 1


async def test_a_port_in_use_gives_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        up = Up(tmp_path, port=port)
        code = await asyncio.to_thread(up.process.wait, 30)
    assert code == 1
    assert str(port) in up.logs()
    assert "--port" in up.logs()
    assert "Traceback" not in up.logs()


async def test_data_of_another_major_version_gives_one_clear_line(tmp_path: Path) -> None:
    with embedded.running(tmp_path / DATA, settings={"fsync": "off"}):
        pass
    (version,) = (tmp_path / DATA).glob("postgres/data/PG_VERSION")
    version.write_text("12\n")
    other = Up(tmp_path)
    code = await asyncio.to_thread(other.process.wait, 30)
    said = other.logs()
    assert code == 1
    assert "12" in said
    assert "Traceback" not in said


async def _a_dead_worker_is_replaced(up: Up) -> None:
    workers = [p for p in psutil.Process(up.pid).children() if " serve " in _line(p)]
    assert len(workers) == 2
    os.kill(workers[0].pid, signal.SIGKILL)

    async def replaced() -> Any:
        now = [p for p in psutil.Process(up.pid).children() if " serve " in _line(p)]
        return len(now) == 2 and workers[0].pid not in {p.pid for p in now}

    await until(replaced, what="the supervisor starts another worker")
    assert (await up.pay("after")).status_code == 201


async def _both_workers_share(up: Up, payment_id: str) -> None:
    """Wait until one worker answers what the other has read, as `easypay cache stats` tells."""
    demo = up.demo()
    headers = {"authorization": f"Bearer {demo['api_key']}", "cache-control": "max-age=60"}
    command = ("cache", "stats", "--json", "--data-dir", str(up.data_dir))

    async def shared() -> bool:
        for _ in range(20):
            async with http_client(base_url=demo["api_url"], headers=headers) as client:
                answer = await client.get(f"/api/v1/payments/{payment_id}")
                assert answer.json()["status"] == "captured"
        stats = await asyncio.to_thread(run_easypay, *command)
        rows = {row["cache"]: row for row in stats.data["data"]}
        return bool(rows["payment"]["shared"])

    await until(shared, what="the workers share what they have read")


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
