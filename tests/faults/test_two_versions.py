"""The gateway from before the newest migration runs beside this one on this schema: an upgrade
loses no request and does nothing twice."""

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
from persistent_clients import ENDS, PAUSE_S, WAITS

from harness import QUICK, Gateway, Shop, Stack, all_known, audit, card, until

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
"""Every optional field: with all of them, the other version must recognise a repeat."""
LOOK_BACK = 10
"""How many commits to try; the newest that can be imported is used."""
IMPORT_ALL = """
import importlib, pkgutil, easypay
for module in pkgutil.walk_packages(easypay.__path__, "easypay."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(easypay.__file__)
"""
CLIENTS = 8
ANSWERS = 10
"""Responses to await while both run, while one is dead, and after its restart."""


def git(*words: str) -> "subprocess.CompletedProcess[bytes]":
    """Run git in this repository, whoever owns it and whatever hook this runs in."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-c", "safe.directory=*", "-C", str(ROOT), *words]
    return subprocess.run(command, env=env, capture_output=True, timeout=30, check=False)


def output(*words: str) -> bytes:
    """Return git's output. Fails the test if git fails."""
    answer = git(*words)
    assert answer.returncode == 0, answer.stderr.decode()
    return answer.stdout


def commit_before() -> str:
    """Return the commit before the newest migration, which may be uncommitted. Skips the test only
    if there is no history."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git clone: without history there is no older gateway")
    if output("status", "--porcelain", "--", MIGRATIONS):
        return "HEAD"
    # The commit that added it; later commits may change it during development.
    found = output("log", *ADDED, "--format=%H", "--", MIGRATIONS)
    newest = found.decode().strip()
    if git("cat-file", "-e", f"{newest}^1").returncode:
        assert output("rev-parse", "--is-shallow-repository") == b"true\n", "it has no parent"
        pytest.skip(f"a shallow clone that ends before the newest migration, {newest[:12]}")
    return f"{newest}^1"


@pytest.fixture(scope="module")
def older_source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return its source folder, which replaces ours in a process with it in PYTHONPATH.

    If a commit in the middle of a change cannot be imported, the one before is used. A missing
    package that the old source needs fails the test.
    """
    error = ""
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
        error = f"{commit[:12]}: {loaded.stderr[-500:]}"
        missing = re.search(r"ModuleNotFoundError: No module named '(?!easypay)", error)
        assert not missing, f"the older gateway needs a package: {error}"
    pytest.fail(f"none of {LOOK_BACK} commits before the newest migration can be imported: {error}")


class Versions:
    """The gateways `old` and `new`, each of which can be killed and restarted."""

    def __init__(self, stack: Stack, older_source: str) -> None:
        self._stack = stack
        self._paths = {"old": older_source, "new": os.environ.get("PYTHONPATH", "")}
        self.running: dict[str, Gateway] = {}

    async def start(self, name: str) -> None:
        """Start one. Raises AssertionError with its log if that fails, as without a package."""
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
async def versions(stack: Stack, older_source: str) -> Versions:
    made = Versions(stack, older_source)
    await asyncio.gather(made.start("old"), made.start("new"))
    return made


@pytest.fixture
async def shops(stack: Stack, versions: Versions) -> AsyncIterator[tuple[Shop, Shop]]:
    """Yield one merchant's shop at the old gateway and at the new one."""
    new = await stack.shop(versions.running["new"])
    old = new.at(versions.running["old"].url)
    yield old, new
    await asyncio.gather(old.client.aclose(), new.client.aclose())


async def insist(ask: Callable[[Shop], Awaitable[httpx.Response]], *turns: Shop) -> httpx.Response:
    """Send to these shops in turn, with the same key, until one gives a final response."""
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
    """Send at one version and repeat at the other: the responses must be the same bytes."""
    key = uuid.uuid4().hex
    first = await insist(lambda at: at.post(path, body, key=key), one)
    again = await other.post(path, body, key=key)
    assert again.headers["idempotency-replayed"] == "true", again.text
    assert again.content == first.content
    result: dict[str, Any] = first.json()
    return result


async def continue_at_other(one: Shop, other: Shop, amount: int) -> None:
    """Run every kind of payment: begun at one version, continued at the other."""
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
    """Refund a settled payment of 1000 in parts: neither version can refund what the other did."""
    path = f"/payments/{payment}/refunds"
    await twice(one, other, path, {"amount": 600})
    refused = await other.refund(payment, 600)
    assert (refused.status_code, refused.json()["code"]) == (409, "amount_exceeds_captured")
    await twice(other, one, path, {"amount": 400})
    assert (await one.payment(payment))["refunded_amount"] == 1000


async def duplicates_beside_the_old(stack: Stack, old: Shop, new: Shop) -> None:
    """A merchant checks duplicates: a gateway from before does not, yet it takes the payments and
    repeats what the new one said."""
    sql = "UPDATE merchants SET duplicates = $2 WHERE merchant_id = $1"
    await stack.fetch(sql, new.merchant_id, "flag")
    first = (await insist(lambda at: at.pay(777), new)).json()["id"]

    async def checks() -> bool:
        answer = await insist(lambda at: at.pay(777), new)
        return "possible_duplicate_of" in answer.json()

    await until(checks, what="the new gateway has the setting")
    assert first != (await insist(lambda at: at.pay(777), old)).json()["id"]
    sale = {"amount": 777, "currency": "USD", "payment_method": card()}
    assert "possible_duplicate_of" in await twice(new, old, "/payments", sale)
    await twice(old, new, "/payments", sale)
    await stack.fetch(sql, new.merchant_id, "off")


async def killed_in_turn(stack: Stack, versions: Versions, shops: tuple[Shop, Shop]) -> None:
    """Let clients pay at both versions, and at the other one while one is dead."""
    stopped = asyncio.Event()
    answered: list[str] = []

    async def pays(amount: int, *turns: Shop) -> None:
        while not stopped.is_set():
            key = uuid.uuid4().hex
            answer = await insist(lambda at, key=key: at.pay(amount, key=key), *turns)
            answered.append(answer.json()["id"])

    async def more() -> None:
        goal = len(answered) + ANSWERS

        async def enough() -> bool:
            return len(answered) >= goal

        await until(enough, what=f"{ANSWERS} more answers")

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


async def test_both_versions_share_a_schema_and_the_load(
    stack: Stack, versions: Versions, shops: tuple[Shop, Shop]
) -> None:
    old, new = shops
    settled = [(await insist(lambda at: at.pay(1000, key="first"), old)).json()["id"]]
    settled += [(await insist(lambda at: at.pay(1000, key="second"), new)).json()["id"]]
    await stack.simulator.post("/settle", login=old.login)
    await asyncio.gather(
        refunds_in_parts(old, new, settled[0]),
        refunds_in_parts(new, old, settled[1]),
        *(continue_at_other(old, new, 1000 + number) for number in range(4)),
        *(continue_at_other(new, old, 2000 + number) for number in range(4)),
    )
    for one, other in ((old, new), (new, old)):
        await stack.simulator.fault("drop_reply", old.login)
        lost = await one.pay(2500)
        assert lost.status_code == 202, lost.text
        await other.becomes(lost.json()["id"], "captured")
    await duplicates_beside_the_old(stack, old, new)
    await killed_in_turn(stack, versions, shops)
    await all_known(stack, new)
    assert await audit(stack, new) == []
