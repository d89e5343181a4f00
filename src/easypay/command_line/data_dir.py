"""The data directory of `easypay up`, and the environment variables that replace its content.

postgres/       the embedded cluster             log/        one file per program
secrets.json    keys, made once (mode 0600)      lock        held while `up` runs
demo.json       addresses and keys (0600)        children.json  processes to end after a crash
"""

import fcntl
import json
import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final, NamedTuple
from urllib.parse import quote

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from easypay import addresses

LONGEST_LOG: Final = 16 * 1024 * 1024
"""Bytes. A longer log is renamed (`.1`) at the next start."""


class DataDirectoryError(Exception):
    """The data directory cannot be used; the message is one line."""


class Environment(BaseSettings):
    """The variables that replace what a data directory holds or `up` would make."""

    model_config = SettingsConfigDict(
        env_prefix="EASYPAY_", frozen=True, extra="ignore", str_strip_whitespace=True
    )

    database_url: SecretStr | None = None
    cache_url: SecretStr | None = None
    encryption_key: SecretStr | None = None
    admin_key: SecretStr | None = None
    authorize_net_login_id: str | None = Field(
        default=None,
        description="API login id of a sandbox account. With the transaction key, the demo "
        "merchant of `easypay up` pays through Authorize.Net's sandbox; no simulator is started",
    )
    authorize_net_transaction_key: SecretStr | None = Field(
        default=None, description="Transaction key of that sandbox account"
    )
    authorize_net_test_url: str | None = None
    authorize_net_live_url: str | None = None
    processor_urls: str = ""


class Access(NamedTuple):
    """What is needed to administer a gateway's database."""

    database_url: str
    encryption_key: str


class DataDirectory:
    """The files of one data directory."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.demo_path = self.path / "demo.json"
        self.cache_socket = self.path / "cache.sock"
        self.children_path = self.path / "children.json"
        self._secrets_path = self.path / "secrets.json"
        self._lock: IO[str] | None = None

    def open(self) -> None:
        """Make the directory and lock it for this process.

        Raises DataDirectoryError: no permission, not a directory, another `up` uses it.
        """
        try:
            # Under root, PostgreSQL's own user must pass through; others can neither list nor read.
            mode = 0o711 if os.geteuid() == 0 else 0o700
            self.path.mkdir(mode=mode, parents=True, exist_ok=True)
            (self.path / "log").mkdir(mode=0o700, exist_ok=True)
            self._lock = (self.path / "lock").open("a")
        except PermissionError as error:
            raise DataDirectoryError(
                f"no permission to write {error.filename}: choose another --data-dir"
            ) from None
        except (FileExistsError, NotADirectoryError) as error:
            raise DataDirectoryError(
                f"{error.filename} is not a directory: choose another --data-dir"
            ) from None
        except OSError as error:
            raise DataDirectoryError(f"cannot use {self.path}: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise DataDirectoryError(
                f"another `easypay up` runs on {self.path}: stop it, or choose another --data-dir"
            ) from None

    def close(self) -> None:
        """Release the directory for another `up`."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def log_path(self, name: str) -> Path:
        """Return where a program logs. A log that has grown long is renamed first."""
        path = self.path / "log" / f"{name}.log"
        if path.exists() and path.stat().st_size > LONGEST_LOG:
            path.replace(path.with_suffix(".log.1"))
        return path

    def metrics_path(self) -> Path:
        """Return the gateways' shared metrics directory, emptied: counters start at zero."""
        path = self.path / "metrics"
        shutil.rmtree(path, ignore_errors=True)
        return path

    def secrets(self) -> dict[str, str]:
        """Return the keys, made at the first call. Raises DataDirectoryError if unreadable."""
        try:
            saved: dict[str, str] = json.loads(self._secrets_path.read_text())
        except FileNotFoundError:
            from easypay.merchants.vault import new_encryption_key

            saved = {
                "encryption_key": new_encryption_key(),
                "admin_key": f"ep_admin_{secrets.token_urlsafe(32)}",
            }
            self.keep_secrets(saved)
        except (OSError, ValueError) as error:
            raise DataDirectoryError(f"cannot read {self._secrets_path}: {error}") from None
        return saved

    def keep_secrets(self, saved: dict[str, str]) -> None:
        """Replace the keys, completely or not at all."""
        _write_private(self._secrets_path, saved)

    def write_demo(self, demo: dict[str, Any]) -> None:
        """Write how to reach the running stack to a file that only its owner can read."""
        _write_private(self.demo_path, demo)

    def access(self) -> Access:
        """Return the database and key to administer: the environment's, else this directory's.

        Raises LookupError, in one line, if neither has them.
        """
        key = Environment().encryption_key
        return Access(
            self.database_url(),
            key.get_secret_value() if key else self._saved(self._secrets_path, "encryption_key"),
        )

    def database_url(self) -> str:
        """Return the database, as `access` does, for work without a key."""
        url = Environment().database_url
        return url.get_secret_value() if url else self._saved(self.demo_path, "database_url")

    def cache_url(self) -> str:
        """Return the shared cache: the environment's, else that of the stack that runs here.

        Raises LookupError, in one line, if there is none.
        """
        url = Environment().cache_url
        if url is not None and url.get_secret_value():
            return url.get_secret_value()
        if url is None and self.cache_socket.is_socket():
            return f"unix://{quote(str(self.cache_socket))}"
        raise LookupError(
            "no shared cache known: set EASYPAY_CACHE_URL as the gateways have it. Without one "
            "every gateway has only its own cache, and keeps nothing for longer than a minute"
        )

    def gateway(self, url: str | None) -> tuple[str, str]:
        """Return a gateway's address and its admin key: the given address and the environment's
        key, or those of the stack that runs here. Raises LookupError, in one line."""
        key = Environment().admin_key
        return (
            url or self._saved(self.demo_path, "api_url"),
            key.get_secret_value() if key else self._saved(self.demo_path, "admin_key"),
        )

    def demo(self, name: str) -> str:
        """Return how to reach the stack that runs here: `api_url`, `api_key` and so on.

        Raises LookupError, in one line, if there is none.
        """
        return self._saved(self.demo_path, name, variable=False)

    def demo_merchant(self) -> str:
        """Return the id of the demo merchant. Raises LookupError, in one line, if there is none."""
        return self._saved(self._secrets_path, "demo_merchant", variable=False)

    def processor_addresses(self) -> dict[str, str]:
        """Return the addresses that replace the processors' own, by `name.mode`: the environment's,
        and the simulator's if one runs here."""
        environment = Environment()
        found = addresses.by_name(
            each.strip() for each in environment.processor_urls.split(",") if each.strip()
        )
        if environment.authorize_net_live_url:
            found["authorize_net.live"] = environment.authorize_net_live_url
        if environment.authorize_net_test_url:
            found["authorize_net.test"] = environment.authorize_net_test_url
        elif not environment.database_url:
            with suppress(OSError, ValueError):
                if simulator := json.loads(self.demo_path.read_text()).get("simulator_url"):
                    found["authorize_net.test"] = f"{simulator}/xml/v1/request.api"
        return found

    def _saved(self, path: Path, name: str, *, variable: bool = True) -> str:
        """Return what a file says. `variable`: an environment variable could say it, too."""
        try:
            return str(json.loads(path.read_text())[name])
        except (OSError, ValueError, KeyError):
            instead = f", or set EASYPAY_{name.upper()}" if variable else ""
            raise LookupError(
                f"no {name.replace('_', ' ')} known: run `easypay up` first (nothing usable in "
                f"{path}){instead}"
            ) from None


def what_is_wrong(error: ValidationError) -> str:
    """Return the first bad setting: its variable and what is wrong, without its value."""
    first = error.errors(include_input=False, include_url=False)[0]
    name = "_".join(str(part) for part in first["loc"]).upper()
    return f"EASYPAY_{name}: {first['msg'].lower()}"


def _write_private(path: Path, value: dict[str, Any]) -> None:
    aside = path.with_suffix(".new")
    aside.unlink(missing_ok=True)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(value, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
