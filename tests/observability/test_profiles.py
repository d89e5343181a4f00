"""Profiles of a gateway that takes payments: they show the route, cost it nothing, and end."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import types
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import memray
import psutil
import pytest

from easypay.command_line import profile as command
from easypay.observability.profiles import cpu, memory, waits
from easypay.observability.profiles.model import (
    CannotProfile,
    Profile,
    Stack,
    folded,
    profile,
    rooted,
)
from easypay.observability.profiles.page import page
from easypay.observability.profiles.waits import waits_for
from harness import ADMIN_KEY, Gateway, Shop, audit, until
from harness import Stack as Installation
from harness.commands import run_easypay
from harness.http import http_client

SALE = "POST /api/v1/payments"


async def ask(gateway: Gateway, what: str, seconds: int, **more: Any) -> httpx.Response:
    async with http_client(headers={"authorization": f"Bearer {ADMIN_KEY}"}) as client:
        body = {"what": what, "seconds": seconds}
        url = f"{gateway.url}/api/v1/admin/profiles"
        return await client.post(url, json=body, timeout=60, **more)


async def pay_until(done: asyncio.Event, shop: Shop) -> int:
    """Pay one after the other. Every payment must succeed."""
    paid = 0
    while not done.is_set():
        await shop.paid()
        paid += 1
    return paid


async def under_load(shop: Shop, asked: Any) -> Any:
    done = asyncio.Event()
    paying = [asyncio.create_task(pay_until(done, shop)) for _ in range(4)]
    try:
        return await asked
    finally:
        done.set()
        assert all([await each for each in paying]), "payments went on"


def children(pid: int) -> list[str]:
    return [each.name() for each in psutil.Process(pid).children(recursive=True)]


@pytest.mark.parametrize("what", ["cpu", "wait", "memory"])
async def test_a_profile_under_load_shows_the_route(
    shop: Shop, gateway: Gateway, shared_stack: Installation, what: str
) -> None:
    await shared_stack.simulator.slow(shop.login, ms=30)
    answer = await under_load(shop, ask(gateway, what, 1))
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["pid"] == gateway.pid
    if what == "memory":  # what a sale keeps is little: see the test of memory
        assert found["unit"] == "bytes"
        return
    routed = [stack for stack in found["stacks"] if stack["frames"][:1] == [SALE]]
    assert routed, found["stacks"][:5]
    ours = [frame for stack in routed for frame in stack["frames"] if "(easypay/" in frame]
    assert any("flows.py" in frame for frame in ours)
    if what == "wait":
        waits = {stack["frames"][-1] for stack in routed}
        assert "waits for: processor" in waits
    assert children(gateway.pid) == []
    assert await audit(shared_stack, shop, settled=False) == []


async def test_memory_is_shown_by_the_line_that_kept_it() -> None:
    kept: list[bytes] = []

    async def keep() -> None:
        while True:
            kept.append(bytes(100_000))
            await asyncio.sleep(0.01)

    keeping = asyncio.create_task(keep())
    found = await memory.take(0.5, asyncio.Event())
    keeping.cancel()
    line = keep.__code__.co_firstlineno + 2
    largest = found.stacks[0]
    assert largest.frames[-1] == f"keep (observability/test_profiles.py:{line})"
    assert largest.value >= 100_000


async def test_one_at_a_time_and_a_client_who_leaves_ends_it(gateway: Gateway) -> None:
    first = asyncio.create_task(ask(gateway, "cpu", 60))

    async def runs() -> bool:
        return children(gateway.pid) == ["py-spy"]

    await until(runs, within_s=30)
    second = await ask(gateway, "wait", 1)
    assert (second.status_code, second.json()["code"]) == (503, "overloaded")
    first.cancel()
    await asyncio.wait([first])

    async def is_over() -> bool:
        return children(gateway.pid) == []

    await until(is_over, within_s=30)
    third = await ask(gateway, "wait", 1)
    assert third.status_code == 200, third.text


async def test_a_killed_profiler_is_an_answer_and_the_gateway_goes_on(
    gateway: Gateway, shop: Shop
) -> None:
    asked = asyncio.create_task(ask(gateway, "cpu", 60))

    async def runs() -> bool:
        return children(gateway.pid) == ["py-spy"]

    await until(runs, within_s=30)
    (spy,) = psutil.Process(gateway.pid).children()
    spy.kill()
    answer = await asked
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["code"] == "not_available"
    await shop.paid()


async def test_a_stop_ends_it_with_what_it_has(second_gateway: Gateway) -> None:
    asked = asyncio.create_task(ask(second_gateway, "wait", 60))

    async def runs() -> bool:
        async with http_client(headers={"authorization": f"Bearer {ADMIN_KEY}"}) as client:
            text = (await client.get(f"{second_gateway.url}/metrics")).text
        return "easypay_profiles_running 1.0" in text

    await until(runs, within_s=30)
    os.kill(second_gateway.pid, signal.SIGTERM)
    answer = await asked
    assert answer.status_code == 200
    assert answer.json()["seconds"] < 30
    assert answer.json()["stacks"]


async def test_it_needs_the_admin_key(gateway: Gateway, shop: Shop) -> None:
    answer = await shop.client.post("/admin/profiles", json={})
    assert answer.status_code == 401


async def test_the_command_writes_one_file_that_needs_nothing_else(
    gateway: Gateway, tmp_path: Path
) -> None:
    out = tmp_path / "profile.html"
    words = ("profile", str(gateway.pid), "--seconds", "1", "--out", str(out))
    by_pid = await asyncio.to_thread(run_easypay, *words)
    assert by_pid.code == 0, by_pid.err
    assert f"samples of process {gateway.pid}." in by_pid.out
    text = out.read_text()
    assert not re.search(r"(?:src|href)=|https?://", text)
    assert f"process {gateway.pid}" in text
    nobody = await asyncio.to_thread(run_easypay, "profile", "2000000", "--seconds", "1")
    assert nobody.code == 1
    assert nobody.err.startswith("easypay: py-spy has no profile of it: ")
    inside = await asyncio.to_thread(run_easypay, "profile", str(gateway.pid), "--wait")
    assert "give a gateway's --url" in inside.err


async def test_a_profile_that_the_disk_does_not_take_is_refused(
    gateway: Gateway, shop: Shop
) -> None:
    """Half of its stacks would look like all of them."""
    command = f"ulimit -f 1; exec easypay profile {gateway.pid} --seconds 1 --json"
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.defpath}"}
    running = asyncio.to_thread(
        subprocess.run, ["bash", "-c", command], capture_output=True, timeout=60, env=environment
    )
    ended = await under_load(shop, running)
    assert (ended.returncode, ended.stdout) == (1, b"")
    assert ended.stderr.startswith(b"easypay: py-spy has no profile of it: ")


def catches_sigint(pid: int) -> bool:
    """Whether a process would write what it has, instead of dying."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = re.search(r"SigCgt:\s*([0-9a-f]+)", status)
    return caught is not None and bool(int(caught[1], 16) & 1 << signal.SIGINT - 1)


async def test_a_command_that_is_ended_shows_what_it_has_and_leaves_nothing(
    gateway: Gateway,
) -> None:
    command = [sys.executable, "-m", "easypay", "profile", str(gateway.pid), "--seconds", "60"]
    running = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE)
    spies: list[psutil.Process] = []

    async def looks() -> bool:
        spies[:] = psutil.Process(running.pid).children()
        return children(running.pid) == ["py-spy"] and catches_sigint(spies[0].pid)

    await until(looks, within_s=30)
    running.terminate()
    shown, _ = await asyncio.to_thread(running.communicate, timeout=30)
    assert not spies[0].is_running()
    assert running.returncode == 0
    assert json.loads(shown)["pid"] == gateway.pid


class Absent:
    """What Python asks for a module: here there is no memray. Keeps who asked."""

    def __init__(self) -> None:
        self.asked: list[threading.Thread] = []

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "memray":
            self.asked.append(threading.current_thread())
            raise ImportError(name)


async def test_what_is_missing_is_said_and_nothing_is_imported_on_the_event_loop(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """To import memray takes a quarter of a second, in which no payment would go on."""
    absent = Absent()
    monkeypatch.setattr(sys, "meta_path", [absent, *sys.meta_path])
    monkeypatch.delitem(sys.modules, "memray", raising=False)
    with pytest.raises(CannotProfile, match="memray is not installed there: pip install"):
        await memory.take(1, asyncio.Event())
    assert absent.asked
    assert threading.main_thread() not in absent.asked
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotProfile, match="py-spy is not installed there: pip install"):
        await cpu.take(os.getpid(), 1, asyncio.Event())


async def test_what_the_system_refuses_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    for taken in (cpu.take(os.getpid(), 1, asyncio.Event()), memory.take(1, asyncio.Event())):
        with pytest.raises(CannotProfile, match="the system refuses: No such file"):
            await taken


async def test_whenever_a_client_leaves_memory_is_counted_no_longer(tmp_path: Path) -> None:
    """A tracker that went on would slow down every payment, until the process ends."""
    for turns in range(5):
        tracker = memray.Tracker(tmp_path / str(turns))
        tracked = asyncio.create_task(hold(tracker))
        for _ in range(turns):
            await asyncio.sleep(0)
        tracked.cancel()
        await asyncio.wait([tracked])
        with memray.Tracker(tmp_path / f"after {turns}"):  # raises if another one runs
            assert tracked.cancelled()


async def hold(tracker: object) -> None:
    async with memory._tracking(tracker):
        await asyncio.sleep(60)


async def test_of_very_many_tasks_some_are_looked_at_and_count_for_all() -> None:
    """A look at all of them would hold up every request meanwhile."""

    async def wait() -> None:
        await asyncio.Event().wait()

    def named(n: int) -> Any:
        return types.FunctionType(wait.__code__.replace(co_name=f"task_{n}"), globals())

    tasks = [asyncio.create_task(named(n)()) for n in range(500)]
    await asyncio.sleep(0)
    seen: dict[tuple[str, ...], float] = {}
    waits.look(seen, asyncio.current_task())
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert 150 <= len(seen) <= 200
    assert 500 <= round(sum(seen.values())) <= 520


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"what": "cpu", "stacks": 7}'])
def test_an_answer_that_is_no_profile_is_one_line(
    body: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("EASYPAY_ADMIN_KEY", ADMIN_KEY)
    with HTTPServer(("127.0.0.1", 0), Other) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        answering = threading.Thread(target=server.handle_request)
        answering.start()
        with pytest.raises(SystemExit):
            command._of(url, tmp_path, "cpu", 1)
        answering.join()
    assert capsys.readouterr().err.startswith(
        f"easypay: {url} gave no profile: what answered is not a gateway"
    )


def test_stacks_begin_with_the_route_or_the_task() -> None:
    server = ("main (easypay/__main__.py:3)", "run (asyncio/runners.py:118)")
    request = (
        "__call__ (easypay/server/app.py:150)",
        f"{SALE} (easypay/api/http.py:217)",
        "f (a:1)",
    )
    assert rooted((*server, *request)) == (SALE, "f (a:1)")
    assert rooted((*server, "run (easypay/events/leader.py:9)")) == (
        "run (easypay/events/leader.py:9)",
    )
    assert rooted(server) == ("the event loop", server[1])
    assert list(folded("a (b:1);c (d:2) 12\nbroken\n")) == [Stack(("a (b:1)", "c (d:2)"), 12)]


def test_what_a_task_waits_for_is_told_by_its_innermost_frame() -> None:
    frames = ["f (easypay/payments/flows.py:1)", "submit (easypay/db/group_commit.py:2)"]
    assert waits_for(frames) == "queue: the commit of a group"
    assert waits_for([*frames, "fetch (asyncpg/connection.py:3)"]) == "database"
    assert waits_for(["f (elsewhere.py:1)"]) == "an event"


def test_no_name_can_leave_the_data_of_the_page() -> None:
    evil = Stack(("</script><script>alert(1)</script>",), 3)
    text = page(profile("cpu", 1, 1.0, [evil]))
    assert "<script>alert" not in text
    inside = text.partition('type="application/json">')[2].partition("</script>")[0]
    assert json.loads(inside)["stacks"] == [[list(evil.frames), 3]]
    assert isinstance(Profile("cpu", "samples", 1, 1.0, []).stacks, list)
