"""The directory of an archive. Nothing that may be the only copy of anything is ever overwritten.

While an archive is written, the directory has a file UNFINISHED, which says for which month and
database. It is removed when the month has left the database. As long as it is there, the database
still has the month, or its table of archived months has the very manifest that is here.
"""

import hashlib
import os
import shutil
from pathlib import Path
from typing import BinaryIO, Final

from easypay.archiving import manifest
from easypay.archiving.manifest import Manifest
from easypay.db.partitions import PARTITIONED
from easypay.errors import EasyPayError

MARK: Final = "UNFINISHED"
_SUFFIXES: Final = (".csv", ".parquet")
_OURS: Final = frozenset(
    {MARK, manifest.FILE, f"{manifest.FILE}.new"}
    | {f"{table}{suffix}" for table in PARTITIONED for suffix in _SUFFIXES}
)
_CHUNK: Final = 1 << 20


class CannotUse(EasyPayError):
    """The directory cannot take the archive."""


class DiskTooSmall(EasyPayError):
    """The archive does not fit."""


def begin(path: Path, month: str, database: str) -> None:
    """Make the directory ready for a new archive. What an interrupted one left there is removed.

    Raises CannotUse if it holds anything else.
    """
    text = f"{month} of {database}\nNot finished: the month may still be in the database.\n"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = {each.name for each in path.iterdir()}
        if found:
            _check_leftovers(path, found, text)
        (path / MARK).write_text(text)
        for name in sorted(found - {MARK}):
            (path / name).unlink()
        _sync(path)
    except OSError as error:
        raise CannotUse(f"cannot write to {path}: {error.strerror}. Give another --to") from None


def _check_leftovers(path: Path, found: set[str], text: str) -> None:
    if foreign := sorted(found - _OURS):
        raise CannotUse(
            f"{path} is not empty (it has {foreign[0]}). Give an empty directory as --to"
        )
    if MARK not in found:
        raise CannotUse(
            f"{path} holds another archive, which is never overwritten. Give an empty directory as "
            "--to"
        )
    if (path / MARK).read_text() != text:
        raise CannotUse(
            f"{path} holds an unfinished archive of another month or database (see {path / MARK}). "
            "Give an empty directory as --to"
        )


def create(path: Path) -> BinaryIO:
    """Open a file for writing. Only its owner can read it: it holds customers' data."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def write_manifest(path: Path, made: Manifest) -> None:
    """Write the manifest: whole, or not at all. The files must be on the disk before."""
    new = path / f"{manifest.FILE}.new"
    with create(new) as file:
        file.write(manifest.to_json(made))
        file.flush()
        os.fsync(file.fileno())
    new.replace(path / manifest.FILE)
    _sync(path)


def discard(path: Path) -> None:
    """Remove what was written of an archive that will not be finished. The mark stays."""
    for name in _OURS - {MARK}:
        (path / name).unlink(missing_ok=True)


def finish(path: Path) -> None:
    """Remove the mark: the archive is the only copy now."""
    (path / MARK).unlink(missing_ok=True)
    _sync(path)


def is_unfinished(path: Path) -> bool:
    """Whether the mark is there."""
    return (path / MARK).exists()


def flush(path: Path) -> None:
    """Wait until a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(_CHUNK):
            digest.update(data)
    return digest.hexdigest()


def check_space(path: Path, needed: int) -> None:
    """Raise DiskTooSmall if the directory's disk has fewer than `needed` bytes free."""
    there = path
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if free < needed:
        raise too_small(path, needed, free)


def too_small(path: Path, needed: int, free: int) -> DiskTooSmall:
    """Return the error for a disk that is or has become full. Sizes are bytes."""
    return DiskTooSmall(
        f"the disk of {path} is too small: the archive needs about {in_words(needed)}, and "
        f"{in_words(free)} are free. Nothing was taken out of the database. Make room, or give "
        "another --to"
    )


def free_bytes(path: Path) -> int:
    """Return how many bytes are free on the directory's disk."""
    return shutil.disk_usage(path).free


def in_words(size: float) -> str:
    """Return a size for people: `12.3 MB`, in powers of 1000."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
