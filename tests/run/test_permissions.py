"""As root, as a user, and in a read-only place: it runs, or states the reason in one line."""

import os
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from easypay.db import embedded

NOBODY = 65534
UNSAFE = {"fsync": "off"}
"""A new cluster is made in less time; whose its files are is the same."""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to step down")


def reachable_by_others(path: Path) -> bool:
    """Return whether a user without special rights can reach this file."""
    return all(parent.stat().st_mode & 0o001 for parent in [path, *path.parents])


@as_root
async def test_the_cluster_moves_if_the_databases_user_cannot_reach_it(
    tmp_path: Path,
) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    before = [parent.stat().st_mode for parent in (hidden, *hidden.parents)]
    cluster = embedded.start(hidden / "data", identity=f"{NOBODY}:{NOBODY}", settings=UNSAFE)
    try:
        assert cluster.note is not None
        assert str(hidden) in cluster.note, "the start-up prints where and why"
        assert hidden not in cluster.home.parents
        assert [parent.stat().st_mode for parent in (hidden, *hidden.parents)] == before
        connection = await asyncpg.connect(cluster.tcp_dsn)
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()
        assert cluster.home.stat().st_uid == NOBODY
    finally:
        cluster.stop()
    again = embedded.start(hidden / "data", identity=f"{NOBODY}:{NOBODY}", settings=UNSAFE)
    try:
        assert again.home == cluster.home, "the next start finds it there"
    finally:
        again.stop()
        subprocess.run(["rm", "-rf", str(cluster.home)], check=True)


@as_root
async def test_root_keeps_its_files_in_a_user_namespace(tmp_path: Path) -> None:
    try:
        cluster = embedded.start(tmp_path / "data", identity="namespace", settings=UNSAFE)
    except embedded.ClusterError as error:
        pytest.skip(f"user namespaces are not available here: {error}")
    try:
        assert cluster.note is None
        owners = {path.stat().st_uid for path in cluster.home.rglob("*")}
        assert owners == {0}
    finally:
        cluster.stop()


def test_no_permission_to_write_gives_one_clear_line(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    user = NOBODY if os.geteuid() == 0 else None
    import easypay

    needed = [Path(sys.executable).resolve(), Path(easypay.__file__), Path(sys.prefix), closed]
    if user is not None and not all(map(reachable_by_others, needed)):
        pytest.skip("another user cannot reach this Python, this tree or the temporary directory")
    done = subprocess.run(
        [sys.executable, "-m", "easypay", "up", "--data-dir", str(closed / "data"), "--port", "0"],
        capture_output=True,
        text=True,
        timeout=60,
        user=user,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert "no permission to write" in done.stderr
    assert "--data-dir" in done.stderr
