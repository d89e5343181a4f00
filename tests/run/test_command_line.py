"""The operator's command line: merchants, accounts, keys, and their own database."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from easypay.command_line.console import run_async
from easypay.command_line.data_dir import DataDirectory
from easypay.db.embedded import Cluster
from easypay.db.migrate import files
from harness import (
    ENCRYPTION_KEY,
    Gateway,
    Process,
    Stack,
    free_port,
    new_database,
    pay_at,
    run_easypay,
    until,
)


class Operator:
    """Runs `easypay …` with a stack's settings in the environment."""

    def __init__(self, stack: Stack) -> None:
        self._env = stack.env | {"EASYPAY_AUTHORIZE_NET_TEST_URL": stack.simulator.wire}

    def run(self, *words: str, stdin: str = "", fails: bool = False) -> str:
        done = run_easypay(*words, stdin=stdin.encode(), **self._env)
        assert (done.code != 0) == fails, done.out + done.err
        assert "Traceback" not in done.err
        return done.err if fails else done.out

    def run_json(self, *words: str, stdin: str = "") -> Any:
        return json.loads(self.run(*words, "--json", stdin=stdin))


def test_a_key_file_in_another_encoding_gives_one_clear_line() -> None:
    words = ("merchant", "account", f"mer_{'0' * 32}", "--login-id", "easypay-sim")
    done = run_easypay(*words, stdin="sim-secret-key-1\n".encode("utf-16"))
    assert done.code == 1
    assert done.err == "easypay: standard input is not UTF-8 text\n"


def test_alerts_are_tried_beside_easypay_up_without_its_database_in_the_environment(
    tmp_path: Path,
) -> None:
    up = DataDirectory(tmp_path)
    up.keep_secrets({"encryption_key": ENCRYPTION_KEY})
    up.write_demo({"database_url": "postgresql:///demo"})
    words = ("alerts", "test", "--data-dir", str(tmp_path), "--json")
    tried = run_easypay(*words, EASYPAY_ALERTS_COMMAND="cat")
    assert tried.data == {"data": [{"way": "command", "told": True, "why": ""}]}


def test_the_version_is_printed() -> None:
    assert run_easypay("--version") == (0, f"easypay {version('easypay')}\n", "")


async def test_a_gateway_names_the_migrations_its_database_lacks(cluster: Cluster) -> None:
    """It prints one clear line and never reports that it listens."""
    dsn = await new_database(cluster.dsn, template=None)
    settings = {"EASYPAY_DATABASE_URL": dsn, "EASYPAY_ENCRYPTION_KEY": ENCRYPTION_KEY}
    done = run_easypay("serve", "--port", "0", **settings)
    lines = [json.loads(line) for line in done.err.splitlines()]
    assert done.code != 0
    assert lines[0]["message"].endswith(f"{files()[-1][0]}: run `easypay migrate`")
    assert not [line for line in lines if "listening" in line["message"]]


async def test_a_start_ends_with_the_line_that_it_listens(stack: Stack) -> None:
    gateway = await stack.gateway()
    last = json.loads(gateway.logs().splitlines()[-1])
    assert last["message"] == f"listening on {gateway.url}"


async def test_an_operator_sets_up_a_merchant_who_pays(stack: Stack) -> None:
    gateway: Gateway = await stack.gateway()
    operator = Operator(stack)
    made = operator.run_json("merchant", "create", "Corner Shop", "--currency", "USD")
    merchant = made["id"]
    assert "Corner Shop" in operator.run("merchant", "list")
    operator.run("merchant", "update", merchant, "--allow-raw-cards")
    account = ("merchant", "account", merchant, "--login-id", "easypay-sim")
    refused = operator.run(*account, stdin="another-key\n", fails=True)
    assert "transaction_key is refused by the processor" in refused
    assert "E00007" in refused
    nobody = operator.run(*account, "--processor", "nobody", stdin="another-key\n", fails=True)
    assert "processor must be one of: authorize_net" in nobody
    assert await stack.fetch("SELECT 1 FROM processor_accounts") == []
    operator.run(*account, "--skip-check", stdin="another-key\n")
    operator.run(*account, stdin="sim-secret-key-1\n")
    key = operator.run_json("key", "create", merchant, "--mode", "test")
    assert key["secret"].startswith("ep_test_sk_")
    listed = operator.run("key", "list", merchant, "--json")
    assert key["secret"] not in listed
    assert key["key"]["id"] in listed

    async def pays(secret: str) -> int:
        return (await pay_at(gateway.url, secret)).status_code

    assert await pays(key["secret"]) == 201
    heir = operator.run_json("key", "rotate", merchant, key["key"]["id"])
    assert await pays(key["secret"]) == await pays(heir["secret"]) == 201
    operator.run("key", "revoke", merchant, key["key"]["id"])

    async def dead() -> bool:
        return await pays(key["secret"]) == 401

    await until(dead, promised_s=1.5)
    assert await pays(heir["secret"]) == 201
    nobody = merchant[:-1] + ("1" if merchant.endswith("0") else "0")
    assert "there is no merchant" in operator.run("merchant", "show", nobody, fails=True)
    assert operator.run("migrate").strip() == "Up to date."


async def test_up_runs_on_an_existing_database(stack: Stack, tmp_path: Path) -> None:
    port = free_port()
    options = ["--data-dir", str(tmp_path / "data"), "--port", str(port)]
    up = Process(
        ["easypay", "up", *options, "--simulator-port", str(free_port()), "--workers", "1"],
        {"EASYPAY_DATABASE_URL": stack.dsn},
        tmp_path / "up.log",
    )
    stack.processes.append(up)

    await up.logged("curl")
    demo = json.loads((tmp_path / "data" / "demo.json").read_text())
    assert demo["database_url"] == stack.dsn
    assert not (tmp_path / "data" / "postgres").exists()
    assert (await pay_at(demo["api_url"], demo["api_key"])).status_code == 201
    assert len(await stack.fetch("SELECT 1 FROM payments")) == 1
    assert up.terminate() == 0


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.InternalClientError("cannot switch to state 15"),
    ],
)
def test_a_connection_that_was_cut_meanwhile_is_one_clear_line(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    """As by a server that ended the transaction of a command that was stopped (Ctrl-Z)."""

    async def work() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        run_async(work)
    assert ended.value.code == 1
    assert "connection to the database was lost" in capsys.readouterr().err
