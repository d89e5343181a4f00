"""A second processor, as small as possible: a bank with its own records, and a client for it.

`docs/adding-a-processor.md` explains `client.py`. `installation` installs the package for a test by
an entry point in its own directory, as a third-party package would be.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def installation(folder: Path) -> Iterator[None]:
    """Let gateways started within this context find the second processor."""
    about = folder / "second_processor-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Name: second-processor\nVersion: 1\n")
    (about / "entry_points.txt").write_text(
        "[easypay.processors]\nsecond = second_processor.client:SECOND\n"
    )
    tests = Path(__file__).parents[1]
    paths = (str(folder), str(tests), os.environ.get("PYTHONPATH", ""))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in paths if path))
        yield
