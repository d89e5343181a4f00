"""Mendings taken out, one at a time: a seed must find that each is missing."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True)
class Mutation:
    """In `file`, below the source, `old` (there once) becomes `new`."""

    name: str
    file: str
    old: str
    new: str


MUTATIONS: Final[tuple[Mutation, ...]] = ()
BY_NAME: Final = {each.name: each for each in MUTATIONS}


@contextmanager
def mutated(source: Path, name: str) -> Iterator[Path]:
    """A copy of the source with one mending taken out, for the length of a block."""
    mutation = BY_NAME[name]
    with tempfile.TemporaryDirectory(prefix="easypay-mutated-") as folder:
        copy = Path(folder) / "src"
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        file = copy / mutation.file
        text = file.read_text()
        if text.count(mutation.old) != 1:
            raise ValueError(
                f"{mutation.file} has the text of {name} {text.count(mutation.old)} times"
            )
        file.write_text(text.replace(mutation.old, mutation.new))
        yield copy
