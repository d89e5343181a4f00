"""The stack to measure: a new one in a temporary directory, or one that already runs.

A stack is PostgreSQL with fsync on, the simulator, and the gateway, all on this machine. Each run
gets its own merchant and processor account, so that its payments can be told from all others.
"""

import asyncio
import json
import os
import platform
import re
import secrets
import socket
import string
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, Final
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import psutil  # type: ignore[import-untyped]

from easypay import ids
from easypay.db import embedded, migrate, postgres_binaries
from easypay.merchants.vault import new_encryption_key
from easypay_bench import cpu
from easypay_bench.http_calls import StackFailed, call

START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 20.0
PROCESSOR_PATH: Final = "/xml/v1/request.api"
_RUN_NAME: Final = re.compile(
    r"Load test [a-z]+, process (?P<pid>\d+) since (?P<at>\S+Z) on (?P<host>.+)"
)


@dataclass(frozen=True)
class Stack:
    """The addresses and the processes of its parts."""

    api_url: str
    admin_key: str = field(repr=False)
    simulator_url: str
    database_url: str = field(repr=False)
    gateway_pids: Sequence[int]
    simulator_pids: Sequence[int]
    postmaster_pid: int
    directory: Path
    """Where its data is, or a directory beside it: on the disk that its commits wait for."""
    gateway_settings: Mapping[str, str] = field(default_factory=dict)
    """The gateway's environment, as far as not default, if the bench started it."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """All of it."""

    @property
    def host(self) -> str:
        return urlsplit(self.api_url).hostname or "127.0.0.1"

    @property
    def port(self) -> int:
        return urlsplit(self.api_url).port or 80

    def meter(self) -> cpu.Meter:
        """Return a meter of each part's CPU time."""
        return cpu.Meter(
            {
                "gateway": cpu.processes(self.gateway_pids),
                "postgres": lambda: cpu.family_s(self.postmaster_pid),
                "simulator": cpu.processes(self.simulator_pids),
            }
        )


@dataclass(frozen=True)
class Merchant:
    """The owner of one run's payments, at the gateway and at the processor."""

    id: UUID
    api_key: str = field(repr=False)
    login: str
    transaction_key: str = field(repr=False, default="")


@contextmanager
def own(
    directory: Path,
    *,
    workers: int = 1,
    settings: Mapping[str, str] | None = None,
    postgres: Mapping[str, str] | None = None,
) -> Iterator[Stack]:
    """Start a new stack in `directory`, and stop it when the block ends.

    `settings` are the gateway's (`{"GROUPS_IN_FLIGHT": "4"}`), `postgres` the server's. Raises
    StackFailed, ClusterError.
    """
    preloaded = {"shared_preload_libraries": "pg_stat_statements"}
    with embedded.running(directory, settings={**preloaded, **(postgres or {})}) as cluster:
        asyncio.run(_prepare(cluster.dsn))
        with on(
            cluster, cluster.dsn, directory, workers=workers, settings=dict(settings or {})
        ) as stack:
            yield stack


@contextmanager
def on(
    cluster: embedded.Cluster,
    database_url: str,
    directory: Path,
    *,
    workers: int = 1,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Stack]:
    """Start a gateway and the simulator on a migrated database of a server that runs, and stop
    them when the block ends. Their logs go to `directory`. Raises StackFailed."""
    admin_key = f"ep_admin_{secrets.token_urlsafe(24)}"
    settings = dict(settings or {})
    with ExitStack() as stack:
        simulator = stack.enter_context(
            _program(
                ["authorizenet_simulator", "--port", "0"],
                {},
                directory / "simulator.log",
                piped=True,
            )
        )
        simulator_url = _announced(simulator)
        environment = {
            "EASYPAY_DATABASE_URL": database_url,
            "EASYPAY_ENCRYPTION_KEY": new_encryption_key(),
            "EASYPAY_ADMIN_KEY": admin_key,
            "EASYPAY_AUTHORIZE_NET_TEST_URL": simulator_url + PROCESSOR_PATH,
            **{f"EASYPAY_{name.upper()}": value for name, value in settings.items()},
        }
        api_url, pids = stack.enter_context(_gateway(workers, environment, directory))
        yield Stack(
            api_url=api_url,
            admin_key=admin_key,
            simulator_url=simulator_url,
            database_url=database_url,
            gateway_pids=pids,
            simulator_pids=[simulator.pid],
            postmaster_pid=cluster.pid,
            directory=directory,
            gateway_settings=settings,
            environment=environment,
        )


@contextmanager
def another_gateway(stack: Stack, settings: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """Start one more gateway beside that of a stack which the bench started, with its settings
    and these. Yield the stack with this gateway in place of the first. Raises StackFailed."""
    more = {f"EASYPAY_{name.upper()}": value for name, value in (settings or {}).items()}
    environment = {**stack.environment, **more}
    with _gateway(1, environment, stack.directory) as (url, pids):
        yield replace(
            stack,
            api_url=url,
            gateway_pids=pids,
            gateway_settings={**stack.gateway_settings, **(settings or {})},
            environment=environment,
        )


@contextmanager
def worker(stack: Stack) -> Iterator[int]:
    """Start a worker beside a stack which the bench started, with its settings. Yield its process
    id. It stops when the block ends, after what it has claimed."""
    with _program(["easypay", "worker"], stack.environment, stack.directory / "worker.log") as made:
        yield made.pid


def attached(demo: Path) -> Stack:
    """Return the stack that `easypay up` runs, described by its `demo.json`.

    Raises StackFailed if a part is missing or runs on another machine.
    """
    try:
        described: dict[str, str] = json.loads(demo.read_text())
        stack = Stack(
            api_url=described["api_url"],
            admin_key=described["admin_key"],
            simulator_url=described["simulator_url"],
            database_url=described["database_url"],
            gateway_pids=_listeners(described["api_url"]),
            simulator_pids=_listeners(described["simulator_url"]),
            postmaster_pid=asyncio.run(_postmaster(described["database_url"])),
            directory=demo.parent,
        )
    except FileNotFoundError:
        raise StackFailed(f"there is no {demo}: start `easypay up`, or omit --demo") from None
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise StackFailed(f"{demo} does not describe a stack with a simulator: {error}") from None
    except OSError as error:
        raise StackFailed(f"the stack of {demo} does not answer: {error}") from None
    return stack


@contextmanager
def shop(
    stack: Stack, key: str = "the admin key", *, scopes: Sequence[str] = ()
) -> Iterator[Merchant]:
    """Yield a merchant with a key and an unused processor account. Raises StackFailed.

    The merchant is disabled when the block ends, and so are those of killed runs; their payments
    stay on record. `key`: as in `call`. `scopes`: of its API key, if not the usual ones.
    """
    login, transaction_key = f"bench-{secrets.token_hex(7)}", secrets.token_hex(8)
    api = f"{stack.api_url}/api/v1/admin/merchants"
    ask = partial(call, bearer=stack.admin_key, key=key)
    name = _run_name()
    wanted = {"mode": "test", **({"scopes": list(scopes)} if scopes else {})}

    def disable(matches: Callable[[str], bool]) -> None:
        for each in ask("GET", api)["data"]:
            if not each["disabled"] and matches(each["name"]):
                ask("PATCH", f"{api}/{each['id']}", {"disabled": True})

    disable(_was_killed)
    account = {"login": login, "transaction_key": transaction_key, "currencies": ["USD"]}
    call("POST", f"{stack.simulator_url}/simulator/accounts", account)
    try:
        made = ask("POST", api, {"name": name, "allow_raw_cards": True})
        account = {"login_id": login, "transaction_key": transaction_key}
        ask("PUT", f"{api}/{made['id']}/accounts/test", account)
        secret = ask("POST", f"{api}/{made['id']}/keys", wanted)["secret"]
        merchant_id = ids.parse(ids.MERCHANT, made["id"])
        assert merchant_id is not None
        yield Merchant(merchant_id, secret, login, transaction_key)
    finally:
        try:
            disable(name.__eq__)  # by name: a signal may come before the id does
        except StackFailed as error:
            sys.stderr.write(
                f"easypay: {name!r} is not disabled; the next run will do it: {error}\n"
            )


def _run_name() -> str:
    """Return the name of a merchant made by this process, which `_was_killed` reads."""
    at = datetime.now(UTC).isoformat(timespec="seconds").removesuffix("+00:00")
    token = "".join(secrets.choice(string.ascii_lowercase) for _ in range(8))
    return f"Load test {token}, process {os.getpid()} since {at}Z on {platform.node()[:40]}"


def _was_killed(name: str) -> bool:
    """Return whether this is the merchant of a run on this machine whose process has ended."""
    found = _RUN_NAME.fullmatch(name)
    if found is None or found["host"] != platform.node()[:40]:
        return False
    try:
        began = psutil.Process(int(found["pid"])).create_time()
    except psutil.Error:
        return True
    return bool(began > datetime.fromisoformat(found["at"]).timestamp() + 1)  # a reused pid


async def _prepare(dsn: str) -> None:
    await migrate.migrate(dsn)
    await count_when_asked(dsn)


async def count_when_asked(dsn: str) -> None:
    """Have pg_stat_statements count only while `counters.counting` asks for it, on the whole
    server. It costs nothing while times are measured."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        await connection.execute("ALTER SYSTEM SET pg_stat_statements.track = 'none'")
        await connection.execute("SELECT pg_reload_conf()")
    except (asyncpg.FeatureNotSupportedError, asyncpg.UndefinedFileError):
        pass  # a PostgreSQL without its contrib modules; `counters` counts transactions instead
    finally:
        await connection.close()


@contextmanager
def _program(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    log_path: Path,
    *,
    piped: bool = False,
    inherit: Sequence[int] = (),
) -> "Iterator[subprocess.Popen[bytes]]":
    """Run one of our modules as a program that ends with the block, or with us at the latest."""
    with log_path.open("ab") as log:
        process = subprocess.Popen(  # noqa: S603  (our own command line)
            postgres_binaries.command("same", [sys.executable, "-m", *arguments]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if piped else log,
            stderr=log,
            env={**os.environ, **environment},
            pass_fds=tuple(inherit),
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _announced(process: "subprocess.Popen[bytes]") -> str:
    """Return the URL from the line `listening on URL`."""
    output: IO[bytes] | None = process.stdout
    assert output is not None
    line = output.readline().decode(errors="replace").strip()
    _, found, url = line.partition("listening on ")
    if not found:
        raise StackFailed(f"the simulator did not start: {line or 'see simulator.log'}")
    return url


@contextmanager
def _gateway(
    workers: int, environment: Mapping[str, str], directory: Path
) -> Iterator[tuple[str, list[int]]]:
    with ExitStack() as stack:
        log_path = directory / "gateway.log"
        bound = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=2048))
        port, number = bound.getsockname()[1], bound.fileno()
        arguments = ["easypay", "serve", "--fd", str(number)]
        started = [
            stack.enter_context(_program(arguments, environment, log_path, inherit=[number]))
            for _ in range(workers)
        ]
        url = f"http://127.0.0.1:{port}"
        _await(lambda: _is_ready(url, started, log_path), "the gateway was not ready")
        yield url, [process.pid for process in started]


def _is_ready(url: str, started: "Sequence[subprocess.Popen[bytes]]", log_path: Path) -> bool:
    if any(process.poll() is not None for process in started):
        last = log_path.read_text(errors="replace").strip().splitlines()[-1:]
        raise StackFailed(f"the gateway did not start: {' '.join(last)}")
    try:
        call("GET", f"{url}/readyz")
    except StackFailed:
        return False
    return True


def _await(condition: Callable[[], bool], complaint: str) -> None:
    give_up_at = time.monotonic() + START_TIMEOUT_S
    while not condition():
        if time.monotonic() > give_up_at:
            raise StackFailed(f"{complaint} within {START_TIMEOUT_S:.0f} s")
        time.sleep(0.02)


def _listeners(url: str) -> list[int]:
    """Return the processes that accept connections on the URL's port, without a supervisor that
    only keeps the socket for its children. Raises StackFailed if there is none."""
    port = urlsplit(url).port or 80
    found: dict[int, int] = {}
    for process in psutil.process_iter():
        try:
            # A process lists its connections by a walk over all of the machine: ask only ours.
            command = " ".join(process.cmdline())
            ours = "easypay" in command or "authorizenet" in command
            listens = ours and any(
                each.status == psutil.CONN_LISTEN and each.laddr.port == port
                for each in process.net_connections(kind="tcp")
            )
            if listens:
                found[process.pid] = process.ppid()
        except psutil.Error:
            continue  # another user's, or gone
    if not found:
        raise StackFailed(f"nothing listens at {url} on this machine: start `easypay up`")
    return [pid for pid in found if pid not in found.values()]


async def _postmaster(dsn: str) -> int:
    """Return the parent of our own backend."""
    try:
        connection = await asyncpg.connect(dsn, timeout=10)
    except asyncpg.PostgresError as error:
        raise StackFailed(f"cannot connect to the database: {error}") from error
    try:
        backend: int = await connection.fetchval("SELECT pg_backend_pid()")
        return int(psutil.Process(backend).ppid())
    except psutil.Error as error:
        raise StackFailed("the database runs on another machine") from error
    finally:
        await connection.close()
