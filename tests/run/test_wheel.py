"""The wheel that `make wheel` builds and operators install."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_wheel_holds_every_file_of_the_source(tmp_path: Path) -> None:
    """A missing migration, page or script would be noticed only on an operator's machine."""
    not_source = shutil.ignore_patterns("__pycache__", "*.egg-info")
    source = shutil.copytree(ROOT / "src", tmp_path / "src", ignore=not_source)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    expected = {str(p.relative_to(source)) for p in source.rglob("*") if p.is_file()}
    subprocess.run(
        [sys.executable, "-c", "from setuptools import build_meta as b; b.build_wheel('dist')"],
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
        check=True,
    )
    (wheel,) = (tmp_path / "dist").glob("easypay-*-py3-none-any.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == expected
    assert {"easypay/db/migrations/0001_payments.sql", "easypay/py.typed"} <= held
