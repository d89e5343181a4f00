"""Read what `make bench`, its sisters and `easypay loadtest --save` have saved, as named figures.

Each kind of result has a form of its own. None is known here: whatever is a number becomes a
figure, named by its way through the file. Entries of a list that differ in a field of `_KEYS` are
figures of their own; other entries are repeats of one figure.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

RESULTS: Final = Path("bench/results")

_KEYS: Final = (
    *(
        "name",
        "rate",
        "asked_rps",
        "asked_per_s",
        "connections",
        "clients",
        "processor_ms",
        "workers",
    ),
    *("route", "lines", "group", "sql", "table", "what", "kind", "coding"),
)
"""Fields that tell the entries of a list apart. A number that is the same in all entries does not
count: a list of runs with 64 connections each is one of repeats."""
_NO_FIGURES: Final = frozenset(
    {"machine", "database", "options", "plan", "cpu_by_second", "percentiles_ms",
     "metrics", "verdicts", "bars", "rows", "accounting", "statuses", "url", "started_at",
     "databases", "counts", "cpu_s", "limit"}
)  # fmt: skip
"""Settings, samples, and rows that repeat a figure in words."""
_COUNTED: Final = ("statements", "wal_bytes", "calls", "rows", "instructions", "pages", "buffers")
"""What a figure's name has in it if it is a count, the same on every machine."""
_BETTER: Final[Sequence[tuple[str, str]]] = (
    ("_per_s", "more"), ("_rps", "more"), ("hot_ratio_under_load", "more"), ("ratio", "more"),
    ("_us", "less"), ("_ms", "less"), ("_ns", "less"), ("_mib", "less"), ("_bytes", "less"),
    *((each, "less") for each in (*_COUNTED, "wrong", "dropped", "repeats", "bytes")),
)  # fmt: skip
_UNITS: Final = {
    "per_s": "/s", "rps": "/s", "us": "µs", "ms": "ms", "ns": "ns", "mib": "MiB", "bytes": "B"
}  # fmt: skip


class Figure(msgspec.Struct, frozen=True):
    """One figure of a result: its repeats, in its unit."""

    name: str
    values: tuple[float, ...]

    @property
    def better(self) -> str:
        """`more`, `less`, or nothing if neither is better."""
        for part in reversed(self.name.replace(": ", ".").split(".")):
            for ending, better in _BETTER:
                if f"_{part}".endswith(ending) or (ending in _COUNTED and ending in part):
                    return better
        return ""

    @property
    def unit(self) -> str:
        for part in reversed(self.name.replace(": ", ".").split(".")):
            for ending, unit in _UNITS.items():
                if f"_{part}".endswith(f"_{ending}"):
                    return unit
        return ""

    @property
    def counted(self) -> bool:
        """Whether it is a count, which no other program on the machine can change."""
        return any(each in self.name.rpartition(".")[2] for each in _COUNTED)


class Result(msgspec.Struct, frozen=True):
    """One saved run."""

    path: Path
    kind: str
    """`bench`, `find`, `cache`, `work`, `regular` or `loadtest`."""
    at: str
    """When it began, in ISO 8601."""
    commit: str
    modified: bool
    """Whether the sources differed from the commit."""
    machine: str
    """Times of two results may be compared only if this is the same."""
    figures: Mapping[str, Figure]

    @property
    def title(self) -> str:
        commit = f"{self.commit or 'unknown'}{' (modified)' if self.modified else ''}"
        return f"{self.kind} {self.at[:16]} {commit}"


def read(path: Path) -> Result:
    """Read one file. Raises OSError if it cannot be read, ValueError if it is no result."""
    try:
        data = json.loads(path.read_text())
    except ValueError:
        raise ValueError(f"{path} is not JSON") from None
    return of(data, path)


def of(data: Any, path: Path) -> Result:
    """Return what was read from JSON as a result. Raises ValueError if it is none."""
    machine = data.get("machine") if isinstance(data, dict) else None
    if not isinstance(machine, dict) or "at" not in machine:
        raise ValueError(f"{path} is no saved result: it does not say on what machine it was made")
    found: dict[str, list[float]] = defaultdict(list)
    for name, value in _numbers("", data):
        found[name].append(value)
    return Result(
        path=path,
        kind=_kind(data),
        at=machine["at"],
        commit=machine.get("commit") or "",
        modified=bool(machine.get("modified")),
        machine=f"{machine.get('cpu')}, {machine.get('cores')} cores, "
        f"Python {machine.get('python')}",
        figures={name: Figure(name, tuple(values)) for name, values in found.items()},
    )


def read_all(paths: Sequence[Path]) -> list[Result]:
    """Read files and all results in folders, oldest first. Raises as `read` does."""
    files = [
        file
        for path in paths
        for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])
    ]
    return sorted((read(file) for file in files), key=lambda each: each.at)


def find(name: str, results: Path = RESULTS) -> Path:
    """Return the file that is meant: a path, or the beginning of a commit with a saved result.

    Raises ValueError if there is none, or more than one.
    """
    if (path := Path(name)).is_file():
        return path
    found = sorted(results.glob(f"*-{name}*.json")) if name else []
    if not found:
        raise ValueError(f"{name}: there is no such file, and no result of it in {results}")
    if len(found) > 1:
        several = ", ".join(each.name for each in found)
        raise ValueError(f"{name} may be any of these, name one as a path: {several}")
    return found[0]


def _kind(data: Mapping[str, Any]) -> str:
    for field, kind in (
        *(("finding", "find"), ("caching", "cache"), ("work", "work")),
        *(("regular", "regular"), ("steps", "loadtest")),
    ):
        if field in data:
            return kind
    return "bench"


def _numbers(name: str, value: Any) -> Iterator[tuple[str, float]]:
    """Yield each number under its name; one that comes several times is repeated."""
    if isinstance(value, bool):
        return
    if isinstance(value, int | float):
        if math.isfinite(value):
            yield name, float(value)
    elif isinstance(value, Mapping):
        for field, each in value.items():
            if field not in _NO_FIGURES:
                yield from _numbers(f"{name}.{field}" if name else field, each)
    elif isinstance(value, list) and value and all(_is_moment(each) for each in value):
        for _, each in value:  # second by second, as repeats
            yield from _numbers(name, each)
    elif isinstance(value, list):
        fields = _telling_apart(value)
        for each in value:
            ending = ", ".join(_said(field, each[field]) for field in fields)
            rest = {k: v for k, v in each.items() if k not in fields} if fields else each
            yield from _numbers(f"{name}: {ending}" if ending else name, rest)


def _is_moment(entry: Any) -> bool:
    """Return whether this is a second of a load test: when it was, and what was measured."""
    return isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], Mapping)


def _telling_apart(entries: Sequence[Any]) -> list[str]:
    """Return the fields by which the entries of a list differ."""
    if not entries or not all(isinstance(each, Mapping) for each in entries):
        return []
    return [
        field
        for field in _KEYS
        if all(isinstance(each.get(field), str | int | float) for each in entries)
        and (len({each[field] for each in entries}) > 1 or isinstance(entries[0][field], str))
    ]


def _said(field: str, value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:g} {field.replace('_', ' ')}"
