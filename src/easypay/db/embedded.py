"""Our own PostgreSQL in a directory: create, start, stop, and recover it after a crash.

    with running(directory, settings={"fsync": "off"}) as cluster:     # tests: a throwaway server
        await asyncpg.connect(cluster.dsn)                             # the database `easypay`

    cluster = start(data_dir)       # `easypay up`: the cluster lives in data_dir/postgres
    cluster.dsn                     # through the unix socket if its path is short enough
    cluster.tcp_dsn                 # through 127.0.0.1, for other programs
    cluster.restart(); cluster.stop()

Everything here is synchronous and starts processes from the calling thread. On Linux the server
ends with that thread, so call this from the main thread. Problems that a person can solve raise
ClusterError with one clear line.

PostgreSQL refuses to run as root. So root runs it in a user namespace, where root appears as
another user and every file stays root's. If namespaces are forbidden, it runs as another user of
the machine, in a directory that this user can reach.
"""

import fcntl
import os
import secrets
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from easypay.db import postgres_binaries as binaries
from easypay.db.postgres_binaries import ClusterError

USER: Final = "easypay"
DATABASE: Final = "easypay"
START_TIMEOUT_S: Final = 120.0
STOP_TIMEOUT_S: Final = 30.0
_SOCKET_PATH_LIMIT: Final = 103  # sun_path holds 104 bytes on macOS, 108 on Linux

_WAL_AHEAD: Final = 16
"""How many WAL segments of 16 MB a new cluster prepares. Otherwise every commit would wait while
one is made (20 ms on a small machine). Later each checkpoint recycles used segments."""

SETTINGS: Final[Mapping[str, str]] = {
    "max_connections": "100",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "min_wal_size": f"{_WAL_AHEAD * 16}MB",
    "checkpoint_timeout": "15min",
    "synchronous_commit": "on",
    "fsync": "on",
    "jit": "off",
    "random_page_cost": "1.1",
    "max_parallel_workers_per_gather": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Values never reach the log, neither with slow statements nor with errors.
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_line_prefix": "%m [%p] ",
}


@dataclass
class Cluster:
    """A running server, with the data to reach, restart and stop it."""

    home: Path
    """Holds `data`, `password`, `port` and the unix socket; readable by its owner only."""
    port: int
    password: str = field(repr=False)
    socket_dir: Path | None
    process: "subprocess.Popen[bytes]" = field(repr=False)
    note: str | None = None
    """Why the cluster is not in the data directory; None if it is."""
    _plan: "_Plan | None" = field(default=None, repr=False)
    _lock: "IO[str] | None" = field(default=None, repr=False)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log_path(self) -> Path:
        """Where the server writes its log."""
        assert self._plan is not None
        return self._plan.log_path

    @property
    def tcp_dsn(self) -> str:
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def dsn(self) -> str:
        if self.socket_dir is None:
            return self.tcp_dsn
        return f"postgresql://{USER}:{self.password}@/{DATABASE}?host={self.socket_dir}&port={self.port}"

    def stop(self) -> None:
        """End every session and shut down cleanly. Safe to call twice."""
        _stop_child(self.process)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def restart(self) -> None:
        """Stop the server if it runs and start it again: same directory, port and password."""
        assert self._plan is not None, "the cluster was not started here"
        _stop_child(self.process)
        self.process, self.port = _launch(self._plan)


@dataclass(frozen=True)
class _Plan:
    """Everything that a start needs, so that a restart does the same."""

    home: Path
    tools: binaries.Binaries
    identity: str
    settings: Mapping[str, str]
    log_path: Path

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def socket_dir(self) -> Path | None:
        longest = len(os.fsencode(self.home)) + len("/.s.PGSQL.65535.lock")
        return self.home if longest <= _SOCKET_PATH_LIMIT else None


def start(
    data_dir: Path,
    *,
    settings: Mapping[str, str] | None = None,
    log_path: Path | None = None,
    identity: str | None = None,
    programs: Path | None = None,
) -> Cluster:
    """Start the cluster of a data directory; create it if there is none.

    Returns when it answers: after about 0.2 s, or 1 s for a new cluster. `settings` override
    SETTINGS. `identity` overrides how root steps down (`namespace` or `UID:GID`).
    `programs`: the directory of another PostgreSQL's programs.

    Raises ClusterError: another version's data, no permission, in use by another process.
    """
    place = binaries.choose(data_dir.absolute(), identity, programs)
    lock = _lock_home(place.home)
    try:
        plan = _Plan(
            home=place.home,
            tools=place.tools,
            identity=place.identity,
            settings={**SETTINGS, **(settings or {})},
            log_path=log_path or place.home / "postgres.log",
        )
        _check_version(plan)
        if not plan.data.exists():
            _initialise(plan)
        _stop_leftover(plan.data)
        process, port = _launch(plan)
    except BaseException:
        lock.close()
        raise
    return Cluster(
        home=plan.home,
        port=port,
        password=_password(plan.home),
        socket_dir=plan.socket_dir,
        process=process,
        note=place.note,
        _plan=plan,
        _lock=lock,
    )


@contextmanager
def running(
    directory: Path,
    *,
    settings: Mapping[str, str] | None = None,
    programs: Path | None = None,
) -> Iterator[Cluster]:
    """Run a cluster for a block. The database `easypay` of a new cluster is empty."""
    cluster = start(directory, settings=settings, programs=programs)
    try:
        yield cluster
    finally:
        cluster.stop()


def _lock_home(home: Path) -> IO[str]:
    lock = (home / "lock").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise ClusterError(
            f"{home} is in use by another EasyPay: stop that one, or choose another --data-dir"
        ) from None
    return lock


def _check_version(plan: _Plan) -> None:
    with suppress(FileNotFoundError):
        found = (plan.data / "PG_VERSION").read_text().strip()
        if found != str(plan.tools.major):
            raise ClusterError(
                f"{plan.data} was written by PostgreSQL {found}, and this is PostgreSQL "
                f"{plan.tools.major}: dump it with {found} and load it into a new --data-dir, "
                "or set EASYPAY_DATABASE_URL to a running server"
            )


def _initialise(plan: _Plan) -> None:
    """Create password, cluster and database in a temporary directory, then move it into place."""
    new = plan.home / "data.new"
    binaries.run(plan.identity, ["/bin/rm", "-rf", str(new)])
    password = plan.home / "password"
    password.unlink(missing_ok=True)
    with os.fdopen(os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(32))
    binaries.give(password, plan.identity)
    locale = ["--locale=C", "--encoding=UTF8"]
    if plan.tools.major >= 17:
        locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    command = [
        str(plan.tools.initdb), "-D", str(new), "-U", USER, "--pwfile", str(password),
        "--auth=scram-sha-256", "--no-sync", "--no-instructions", *locale,
    ]  # fmt: skip
    binaries.run(plan.identity, command)
    is_durable = plan.settings["fsync"] != "off"
    single = [str(plan.tools.postgres), "--single", "-D", str(new), "-c", "fsync=off"]
    single += ["-c", f"min_wal_size={plan.settings['min_wal_size']}", "postgres"]
    wal_ahead = ["SELECT pg_logical_emit_message(false, '', ''), pg_switch_wal()"] * _WAL_AHEAD
    binaries.run(
        plan.identity,
        single,
        stdin="\n".join(
            [f"CREATE DATABASE {DATABASE}", *(wal_ahead if is_durable else []), "CHECKPOINT", ""]
        ),
    )
    if is_durable:
        binaries.run(plan.identity, [str(plan.tools.initdb), "-D", str(new), "--sync-only"])
    new.rename(plan.data)


def _launch(plan: _Plan) -> "tuple[subprocess.Popen[bytes], int]":
    """Start postgres on the remembered port, or on another one if that is taken."""
    remembered = plan.home / "port"
    port = int(remembered.read_text()) if remembered.exists() else 0
    for _ in range(5):
        port = _free_port(port)
        process, complaint = _launch_on(plan, port)
        if not complaint:
            remembered.write_text(f"{port}\n")
            return process, port
        if "TCP/IP" not in complaint:
            raise ClusterError(f"PostgreSQL did not start: {complaint} (log: {plan.log_path})")
        port = 0  # taken between our look and its bind
    raise ClusterError("PostgreSQL did not start: found no free port on 127.0.0.1")


def _launch_on(plan: _Plan, port: int) -> "tuple[subprocess.Popen[bytes], str]":
    settings = {
        **plan.settings,
        "port": str(port),
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": str(plan.socket_dir or ""),
        "unix_socket_permissions": "0700",
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with plan.log_path.open("ab") as log:
        logged_before = log.tell()
        process = subprocess.Popen(  # noqa: S603  (our own command line)
            binaries.command(
                plan.identity,
                [str(plan.tools.postgres), "-D", str(plan.data), *options],
                # A fast shutdown: sessions end, data is flushed.
                at_parents_death=signal.SIGINT,
            ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=binaries.environment(),
            cwd="/",
            start_new_session=True,  # Ctrl-C must reach us only: the database stops last
        )
    give_up_at = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None:
        if _answers(port):
            return process, ""
        if time.monotonic() > give_up_at:
            _stop_child(process)
            return process, f"no answer within {START_TIMEOUT_S:.0f} s"
        time.sleep(0.005)
    return process, _complaint(plan.log_path, logged_before)


def _answers(port: int) -> bool:
    """Whether the server takes sessions. Requests one and reads only the first reply."""
    request = b"user\0" + USER.encode() + b"\0database\0" + DATABASE.encode() + b"\0\0"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(struct.pack("!ii", len(request) + 8, 196_608) + request)
            return connection.recv(1) == b"R"  # an error (E) here means: still starting up
    except OSError:
        return False


def _complaint(log_path: Path, offset: int) -> str:
    with log_path.open("rb") as log:
        log.seek(offset)
        lines = log.read().decode(errors="replace").splitlines()
    fatal = [line for line in lines if "FATAL:" in line or "PANIC:" in line]
    last = (fatal or lines or ["it ended without a message"])[-1]
    return last.split("FATAL:")[-1].strip()


def _free_port(wanted: int) -> int:
    """Return `wanted` if it can be bound, else a port that can."""
    for port in (wanted, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise ClusterError("no free port on 127.0.0.1 for PostgreSQL")


def _stop_leftover(data: Path) -> None:
    """End a server that outlived its supervisor. We hold the lock, so nobody else owns it.

    Remove the pid file if its process is not a postgres of this directory: after a reboot another
    process may have that number, and PostgreSQL would refuse to start.
    """
    pid_file = data / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return
    if not _is_server_of(pid, data):
        pid_file.unlink(missing_ok=True)
        return
    for request in (signal.SIGINT, signal.SIGQUIT):
        with suppress(ProcessLookupError):
            os.kill(pid, request)
        give_up_at = time.monotonic() + STOP_TIMEOUT_S
        while time.monotonic() < give_up_at:
            if not _is_server_of(pid, data):
                return
            time.sleep(0.01)
    raise ClusterError(f"PostgreSQL (process {pid}) still runs on {data} and does not stop")


def _is_server_of(pid: int, data: Path) -> bool:
    if sys.platform == "linux":
        try:
            return Path(f"/proc/{pid}/cwd").resolve(strict=True) == data.resolve()
        except OSError:
            return False
    listed = subprocess.run(  # noqa: S603
        ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
    )
    return str(data) in listed.stdout


def _stop_child(process: "subprocess.Popen[bytes]") -> None:
    for request, patience_s in ((signal.SIGINT, STOP_TIMEOUT_S), (signal.SIGQUIT, 10.0)):
        if process.poll() is not None:
            return
        process.send_signal(request)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
            return
    process.kill()
    process.wait()


def _password(home: Path) -> str:
    return (home / "password").read_text().strip()
