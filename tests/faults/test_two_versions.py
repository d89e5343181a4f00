"""The gateway of before the newest migration and this one, side by side on this schema: an upgrade
in which no request is lost and nothing happens twice."""

import asyncio
import io
import os
import re
import subprocess
import sys
import tarfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from persistent_clients import ENDS, PAUSE_S, WAITS, all_known

from harness import QUICK, Gateway, Shop, Stack, audit, card, until

ROOT = Path(__file__).parents[2]
MIGRATIONS = "src/easypay/db/migrations"
ADDED = ("--first-parent", "-m", "--diff-filter=A", "-1")
OPTIONAL: dict[str, Any] = {
    "customer": {"reference": "c-1", "email": "ada@example.com", "ip_address": "192.0.2.1"},
    "billing_address": {"first_name": "Ada", "line1": "1 Street", "postal_code": "97201"},
    "order_reference": "order-1",
    "description": "Two chairs",
    "statement_descriptor": "CHAIRS",
    "metadata": {"b": "2", "a": "1"},
    "stored_credential": {"initiator": "customer", "first": True},
}
"""Every optional field: a repeat at the other version must be recognised with all of them."""
LOOK_BACK = 10
"""Commits, of which the newest that can be imported is taken."""
IMPORT_ALL = """
import importlib, pkgutil, easypay
for module in pkgutil.walk_packages(easypay.__path__, "easypay."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(easypay.__file__)
"""
CLIENTS = 8
ANSWERS = 20
"""How many are awaited while both run, while one is dead, and once it is back."""


def git(*words: str) -> "subprocess.CompletedProcess[bytes]":
    """Of this repository, whoever owns it and whatever hook we run in."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-c", "safe.directory=*", "-C", str(ROOT), *words]
    return subprocess.run(command, env=env, capture_output=True, timeout=30, check=False)


def output(*words: str) -> bytes:
    """What git says. Fails the test where it cannot."""
    answer = git(*words)
    assert answer.returncode == 0, answer.stderr.decode()
    return answer.stdout


def commit_before() -> str:
    """The commit before the newest migration, which may not be committed yet. Skips the test only
    where there is no history to take it from."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone: without history there is no gateway of before")
    if output("status", "--porcelain", "--", MIGRATIONS):
        return "HEAD"
    # Where it was added: while it is worked on, later commits may change it.
    found = output("log", *ADDED, "--format=%H", "--", MIGRATIONS)
    newest = found.decode().strip()
    if git("cat-file", "-e", f"{newest}^1").returncode:
        assert output("rev-parse", "--is-shallow-repository") == b"true\n", "nothing came before it"
        pytest.skip(f"a shallow clone that ends before the newest migration, {newest[:12]}")
    return f"{newest}^1"


@pytest.fixture(scope="module")
def source_of_before(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Its source, which takes the place of ours in a process that has it in PYTHONPATH.

    A commit in the middle of a change may not run by itself: then it is the one before that. A
    package that the old source needs and that is not installed fails the test.
    """
    told = ""
    commits = output("rev-list", "--first-parent", f"-n{LOOK_BACK}", commit_before()).decode()
    for commit in commits.split():
        folder = tmp_path_factory.mktemp("before")
        with tarfile.open(fileobj=io.BytesIO(output("archive", commit, "src"))) as archive:
            archive.extractall(folder)
        loaded = subprocess.run(
            [sys.executable, "-c", IMPORT_ALL],
            env={**os.environ, "PYTHONPATH": str(folder / "src")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if loaded.returncode == 0:
            assert loaded.stdout.startswith(str(folder)), loaded.stdout
            return str(folder / "src")
        told = f"{commit[:12]}: {loaded.stderr[-500:]}"
        missing = re.search(r"ModuleNotFoundError: No module named '(?!easypay)", told)
        assert not missing, f"the gateway of before needs a package: {told}"
    pytest.fail(f"none of {LOOK_BACK} commits before the newest migration can be imported: {told}")


class Versions:
    """The gateways `old` and `new`, each of which can be killed and started again."""

    def __init__(self, stack: Stack, source_of_before: str) -> None:
        self._stack = stack
        self._paths = {"old": source_of_before, "new": os.environ.get("PYTHONPATH", "")}
        self.running: dict[str, Gateway] = {}

    async def start(self, name: str) -> None:
        """Raises AssertionError with its log where it does not start: a package that it needs may
        be missing."""
        before, stack = self.running.get(name), self._stack
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", self._paths[name])
            gateway = Gateway(
                stack.folder,
                stack.dsn,
                stack.simulator,
                port=None if before is None else before.port,
                **QUICK,
            )
        self.running[name] = gateway
        stack.processes.append(gateway)
        await gateway.ready()


@pytest.fixture
async def versions(stack: Stack, source_of_before: str) -> Versions:
    made = Versions(stack, source_of_before)
    await asyncio.gather(made.start("old"), made.start("new"))
    return made


@pytest.fixture
async def shops(stack: Stack, versions: Versions) -> AsyncIterator[tuple[Shop, Shop]]:
    """One merchant, at the old gateway and at the new one."""
    new = await stack.shop(versions.running["new"])
    old = new.at(versions.running["old"].url)
    yield old, new
    await asyncio.gather(old.client.aclose(), new.client.aclose())


async def insists(ask: Callable[[Shop], Awaitable[httpx.Response]], *turns: Shop) -> httpx.Response:
    """Ask these in turn, with the same key, until one has the last word."""
    async with asyncio.timeout(30):
        while True:
            for shop in turns:
                with suppress(httpx.TransportError):
                    answer = await ask(shop)
                    if answer.status_code not in WAITS:
                        assert answer.status_code in ENDS, answer.text
                        return answer
            await asyncio.sleep(PAUSE_S)


async def twice(one: Shop, other: Shop, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Done at one version, repeated at the other with the same bytes for an answer."""
    key = uuid.uuid4().hex
    first = await insists(lambda at: at.post(path, body, key=key), one)
    again = await other.post(path, body, key=key)
    assert again.headers["idempotency-replayed"] == "true", again.text
    assert again.content == first.content
    told: dict[str, Any] = first.json()
    return told


async def lives(one: Shop, other: Shop, amount: int) -> None:
    """Every kind of payment: begun at one version, gone on with at the other."""
    sale = {"amount": amount, "currency": "USD", "payment_method": card(), **OPTIONAL}
    hold = {**sale, "capture": "manual"}
    paid, taken, let_go = [
        (await twice(one, other, "/payments", body))["id"] for body in (sale, hold, hold)
    ]
    await twice(other, one, f"/payments/{taken}/capture", {"amount": amount - 100})
    await twice(other, one, f"/payments/{let_go}/void", {})
    await twice(other, one, f"/payments/{paid}/refunds", {})
    for payment, status in ((paid, "voided"), (taken, "captured"), (let_go, "voided")):
        for shop in (one, other):
            assert (await shop.payment(payment))["status"] == status


async def refunds_in_parts(one: Shop, other: Shop, payment: str) -> None:
    """Of a settled payment of 1000: what one version gave back is not there for the other."""
    path = f"/payments/{payment}/refunds"
    await twice(one, other, path, {"amount": 600})
    refused = await other.refund(payment, 600)
    assert (refused.status_code, refused.json()["code"]) == (409, "amount_exceeds_captured")
    await twice(other, one, path, {"amount": 400})
    assert (await one.payment(payment))["refunded_amount"] == 1000


async def killed_in_turn(stack: Stack, versions: Versions, shops: tuple[Shop, Shop]) -> None:
    """Clients pay at both, and go to the other where one is dead."""
    stopped = asyncio.Event()
    answered: list[str] = []

    async def pays(amount: int, *turns: Shop) -> None:
        while not stopped.is_set():
            key = uuid.uuid4().hex
            answer = await insists(lambda at, key=key: at.pay(amount, key=key), *turns)
            answered.append(answer.json()["id"])

    async def more() -> None:
        goal = len(answered) + ANSWERS

        async def there() -> bool:
            return len(answered) >= goal

        await until(there, what=f"{ANSWERS} more answers")

    async def kills() -> None:
        for name in ("old", "new"):
            await more()
            versions.running[name].kill()
            await more()
            await versions.start(name)
        await more()
        stopped.set()

    await stack.simulator.slow(shops[0].login, ms=50)
    await asyncio.gather(
        kills(), *(pays(3000 + number, *shops[:: 1 - number % 2 * 2]) for number in range(CLIENTS))
    )
    assert len(set(answered)) == len(answered), "a payment of its own for each key"


async def test_both_versions_share_a_schema_and_a_load(
    stack: Stack, versions: Versions, shops: tuple[Shop, Shop]
) -> None:
    old, new = shops
    settled = [(await insists(lambda at: at.pay(1000, key="first"), old)).json()["id"]]
    settled += [(await insists(lambda at: at.pay(1000, key="second"), new)).json()["id"]]
    await stack.simulator.post("/settle", login=old.login)
    await asyncio.gather(
        refunds_in_parts(old, new, settled[0]),
        refunds_in_parts(new, old, settled[1]),
        *(lives(old, new, 1000 + number) for number in range(4)),
        *(lives(new, old, 2000 + number) for number in range(4)),
    )
    for one, other in ((old, new), (new, old)):
        await stack.simulator.post("/faults", kind="drop_reply", count=1, login=old.login)
        lost = await one.pay(2500)
        assert lost.status_code == 202, lost.text
        await other.becomes(lost.json()["id"], "captured")
    await killed_in_turn(stack, versions, shops)
    await all_known(stack, new, within_s=25)
    assert await audit(stack, new) == []
