"""`manifest.json` of an archive: what the files hold, and how to know that they are undamaged."""

from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from easypay.archiving.contents import Column, Contents
from easypay.errors import EasyPayError

FILE: Final = "manifest.json"
VERSION: Final = 1
"""Of the manifest's own form. A later form gets another number."""


class NotAnArchive(EasyPayError):
    """The directory does not hold a finished archive that this version can read."""


class TableFile(msgspec.Struct, frozen=True):
    """One file: the rows of one table."""

    table: str
    file: str
    bytes: int
    sha256: str
    columns: list[Column]
    contents: Contents


class Manifest(msgspec.Struct, frozen=True):
    """What an archive holds. `low` and `high` bound the ids: low <= id < high."""

    version: int
    month: str
    low: str
    high: str
    format: str
    easypay: str
    migrations: list[str]
    database: str
    """Which database it was taken from: its server's identifier and its name."""
    label: str
    made_at: datetime
    of_earlier_months: dict[str, int]
    """How many operations and events here are of payments of earlier months, by those months."""
    tables: list[TableFile]


def to_json(manifest: Manifest) -> bytes:
    """Return the manifest as JSON for people and programs."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def read(directory: Path) -> Manifest:
    """Return the manifest of an archive. Raises NotAnArchive."""
    path = directory / FILE
    try:
        text = path.read_bytes()
    except OSError as error:
        raise NotAnArchive(
            f"{directory} does not hold a finished archive: {FILE} cannot be read "
            f"({error.strerror}). Name the directory that `easypay db archive --to` was given."
        ) from None
    try:
        found = parse(text)
    except msgspec.MsgspecError as error:
        raise NotAnArchive(f"{path} is damaged or not a manifest: {error}") from None
    if found.version != VERSION:
        raise NotAnArchive(
            f"{path} is of form {found.version}, and this EasyPay reads form {VERSION}: use the "
            f"EasyPay that wrote it ({found.easypay}) or a later one"
        )
    return found


def parse(text: bytes | str) -> Manifest:
    """Return the manifest of its JSON. Raises msgspec.MsgspecError."""
    return msgspec.json.decode(text, type=Manifest)


def contents_by_table(manifest: Manifest) -> dict[str, Contents]:
    """Return what each table's file holds."""
    return {each.table: each.contents for each in manifest.tables}


def as_builtins(manifest: Manifest) -> Any:
    """Return the manifest as dicts and lists."""
    return msgspec.to_builtins(manifest)
