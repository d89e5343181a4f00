"""What a table or a file of a month holds: counts, sums, and a digest of every value.

The database measures a table, and `Tally` measures the rows that are read back from a file, in the
same way. If both results are equal, so are all values: a null is not an empty text, and a text is
compared byte for byte. The digest does not depend on the order of the rows.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec

Row = Sequence[str | None]
"""A row as PostgreSQL writes its values as text, in the order of the columns."""


class Column(msgspec.Struct, frozen=True):
    """A column and PostgreSQL's name of its type."""

    name: str
    type: str


class Group(msgspec.Struct, frozen=True):
    """Counts and sums of the rows that are alike in `of`. Amounts are in minor units."""

    of: dict[str, str]
    rows: int
    sums: dict[str, int]


class Contents(msgspec.Struct, frozen=True):
    """What a table or a file holds. `lowest` and `highest` are its first and last id."""

    rows: int
    digest: str
    lowest: str | None
    highest: str | None
    groups: list[Group]


class Measured(msgspec.Struct, frozen=True):
    """The contents of a table, and how many bytes its values have as text."""

    contents: Contents
    text_bytes: int


KEYS: Final = {
    "payments": ("currency", "status"),
    "operations": ("currency", "kind", "state"),
    "events": ("currency", "type"),
}
"""By what the rows of each table are grouped."""
SUMS: Final = {
    "payments": ("amount_minor", "authorized_minor", "captured_minor", "refunded_minor"),
    "operations": ("amount_minor",),
    "events": ("amount_minor",),
}
"""Which columns are summed in each group."""

_DIGEST_BYTES: Final = 8


async def columns_of(connection: Any, table: str) -> list[Column]:
    """Return the columns of a table, in their order."""
    rows = await connection.fetch(
        "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute"
        " WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        table,
    )
    return [Column(*row) for row in rows]


async def measure(connection: Any, parent: str, table: str, columns: Sequence[Column]) -> Measured:
    """Read all of a month's table and return what it holds. `parent` is one of PARTITIONED.

    The session must have the settings of `session.prepare`.
    """
    keys, sums = KEYS[parent], SUMS[parent]
    line = ", ".join(map(_as_sql, columns))
    rows = await connection.fetch(
        f"SELECT {', '.join(keys)}, {', '.join(f'sum({each})::text' for each in sums)}, count(*),"
        f" min(id::text), max(id::text), sum(octet_length(line)), sum(('x' || encode(substr("
        f"   sha256(convert_to(line, 'UTF8')), 1, {_DIGEST_BYTES}), 'hex'))::bit(64)::bigint)::text"
        f" FROM (SELECT {', '.join({*keys, *sums, 'id'})}, concat_ws(',', {line}) AS line"
        f"         FROM {table} OFFSET 0) AS lines"
        f" GROUP BY {', '.join(keys)}"
    )
    tally = Tally(parent, columns)
    for row in rows:
        key, rest = tuple(row[: len(keys)]), row[len(keys) :]
        amounts, (count, lowest, highest, _, digest) = rest[: len(sums)], rest[len(sums) :]
        tally.add_group(key, count, [int(each) for each in amounts], int(digest))
        tally.add_bounds(lowest, highest)
    return Measured(tally.contents(), sum(int(row[-2]) for row in rows))


def _as_sql(column: Column) -> str:
    name = f'"{column.name}"'
    length = f"octet_length({name}) || ':' || " if column.type == "text" else ""
    return f"CASE WHEN {name} IS NULL THEN '-' ELSE '=' || {length}{name}::text END"


class Tally:
    """Measures rows one after another."""

    def __init__(self, parent: str, columns: Sequence[Column]) -> None:
        names = [column.name for column in columns]
        self._keys, self._sums = KEYS[parent], SUMS[parent]
        self._key_at = [names.index(name) for name in self._keys]
        self._sum_at = [names.index(name) for name in self._sums]
        self._id_at = names.index("id")
        self._is_text = [column.type == "text" for column in columns]
        self._groups: dict[tuple[str, ...], list[int]] = {}
        self._digest = 0
        self._lowest: str | None = None
        self._highest: str | None = None
        self.rows = 0

    def add(self, row: Row) -> None:
        """Count one row. Raises ValueError if a value that must not be null is null."""
        key = tuple(_must(row[at]) for at in self._key_at)
        amounts = [int(_must(row[at])) for at in self._sum_at]
        self.add_group(key, 1, amounts, self._digest_of(row))
        value = _must(row[self._id_at])
        self.add_bounds(value, value)

    def add_group(
        self, key: tuple[str, ...], rows: int, amounts: Sequence[int], digest: int
    ) -> None:
        """Count rows that are alike in the table's KEYS."""
        totals = self._groups.setdefault(key, [0] * (1 + len(self._sums)))
        for at, each in enumerate((rows, *amounts)):
            totals[at] += each
        self.rows += rows
        self._digest += digest

    def add_bounds(self, lowest: str, highest: str) -> None:
        """Note that ids from `lowest` to `highest` are there."""
        self._lowest = lowest if self._lowest is None else min(self._lowest, lowest)
        self._highest = highest if self._highest is None else max(self._highest, highest)

    def contents(self) -> Contents:
        """Return what was counted so far."""
        return Contents(
            rows=self.rows,
            digest=str(self._digest),
            lowest=self._lowest,
            highest=self._highest,
            groups=[
                Group(
                    dict(zip(self._keys, key, strict=True)),
                    totals[0],
                    dict(zip(self._sums, totals[1:], strict=True)),
                )
                for key, totals in sorted(self._groups.items())
            ],
        )

    def _digest_of(self, row: Row) -> int:
        parts = [
            "-" if value is None else f"={len(value.encode())}:{value}" if is_text else f"={value}"
            for value, is_text in zip(row, self._is_text, strict=True)
        ]
        digest = hashlib.sha256(",".join(parts).encode()).digest()
        return int.from_bytes(digest[:_DIGEST_BYTES], "big", signed=True)


def _must(value: str | None) -> str:
    if value is None:
        raise ValueError("a value that is never null is missing")
    return value
