"""The clients' environments: each pinned, hash-checked, and installed once under `.interop/`.

This process imports no client: each runs in its own interpreter. An environment is named after its
lock, so that a new lock makes a new environment and no old one is half changed.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
HOME = HERE.parents[1] / ".interop"
INSTALL_TIMEOUT_S = 240


class Unavailable(Exception):
    """The client cannot run on this machine; the message gives the reason in one line."""


FAILURES = (Unavailable, RuntimeError, OSError, subprocess.SubprocessError)
"""The errors of a failed installation."""


@dataclass(frozen=True)
class Client:
    """A third-party client. `folder` holds its lock and the program that calls it."""

    name: str
    folder: str
    locks: tuple[str, ...]
    """The lock files; paths below this folder."""
    runtime: Callable[[], str]
    """Return the interpreter's version; a new one needs a new environment. Raises Unavailable."""
    install: Callable[["Client", Path], None]
    command: Callable[["Client", Path], list[str]]

    @property
    def path(self) -> Path:
        return HERE / self.folder


def ready(client: Client, say: Callable[[str], None]) -> Path:
    """Return the client's environment; install it if it is missing. Raises Unavailable."""
    environment = HOME / f"{client.folder}-{_fingerprint(client)}"
    mark = environment / "installed"
    if mark.exists():
        return environment
    with _alone():
        if not mark.exists():
            say(f"interop: installing {client.name} into {environment.relative_to(HOME.parent)}")
            for old in HOME.glob(f"{client.folder}-*"):
                shutil.rmtree(old)
            environment.mkdir()
            client.install(client, environment)
            mark.touch()
    return environment


def _fingerprint(client: Client) -> str:
    digest = hashlib.sha256(f"{client.runtime()} {sys.platform} {os.uname().machine}".encode())
    for lock in client.locks:
        digest.update((HERE / lock).read_bytes())
    return digest.hexdigest()[:12]


@contextmanager
def _alone() -> Iterator[None]:
    """Allow one installation at a time, also across runs of the suite."""
    HOME.mkdir(exist_ok=True)
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(*command: str | Path) -> None:
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=INSTALL_TIMEOUT_S,
    )
    if done.returncode:
        whole = " ".join(str(part) for part in command)
        raise RuntimeError(f"{whole}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")


# Python clients ----------------------------------------------------------------------------------


def _python() -> str:
    return sys.version


def _python_with_lxml_4() -> str:
    if sys.version_info >= (3, 13):
        raise Unavailable("the official Python SDK pins lxml 4, which has no wheel for Python 3.13")
    return sys.version


def _venv(client: Client, environment: Path) -> None:
    """Install the pinned build tools first, because both clients are source distributions.

    The suite's own pip installs; and nothing is compiled that is not imported. Both would take
    seconds for each client.
    """
    python = environment / "bin" / "python"
    _run(sys.executable, "-m", "venv", "--without-pip", environment)
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    install = ("install", "--no-compile", "--require-hashes")
    for lock, options in (("build.lock", ()), (client.locks[-1], ("--no-build-isolation",))):
        _run(*pip, *install, *options, "-r", HERE / lock)


def _python_command(client: Client, environment: Path) -> list[str]:
    python = environment / "bin" / "python"
    return [str(python), "-E", "-s", str(HERE / "serve.py"), client.folder]


# Node clients ------------------------------------------------------------------------------------


def _node() -> str:
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise Unavailable("the official Node SDK needs node and npm, and they are not installed")
    return subprocess.run(
        ["node", "--version"], capture_output=True, text=True, check=True
    ).stdout.strip()


def _npm(client: Client, environment: Path) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(client.path / name, environment)
    _run(
        "npm", "ci", "--prefix", environment, "--ignore-scripts", "--no-audit", "--no-fund",
        "--cache", environment / ".npm",
    )  # fmt: skip
    shutil.rmtree(environment / ".npm", ignore_errors=True)


def _node_command(client: Client, environment: Path) -> list[str]:
    return ["node", str(client.path / "client.js"), str(environment / "node_modules")]


PYTHON_SDK = Client(
    "the official Python SDK",
    "python_sdk",
    ("build.lock", "python_sdk/requirements.lock"),
    _python_with_lxml_4,
    _venv,
    _python_command,
)
PY_AUTHORIZE = Client(
    "Py-Authorize",
    "py_authorize",
    ("build.lock", "py_authorize/requirements.lock"),
    _python,
    _venv,
    _python_command,
)
NODE_SDK = Client(
    "the official Node SDK",
    "node_sdk",
    ("node_sdk/package.json", "node_sdk/package-lock.json"),
    _node,
    _npm,
    _node_command,
)
