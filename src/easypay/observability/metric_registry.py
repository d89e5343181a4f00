"""Counters, gauges and histograms that processes share, and their exposition to Prometheus.

Each process counts in its own array of doubles; a count costs one addition. If the arrays are files
(`directory`), the process that is asked for the metrics adds up all of them, so the answer is
current whichever process gives it, and a `kill -9` loses no count. A process locks its file while
it lives. Files without a lock belong to dead processes: their counters count, their gauges do not.
"""

import fcntl
import json
import mmap
import os
import time
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, Literal

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.samples import Exemplar

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST.encode()
_OPENMETRICS: Final = openmetrics.CONTENT_TYPE_LATEST.encode()
_MOST_CELLS: Final = 1 << 16
_RETIRED: Final = "retired.json"

Kind = Literal["counter", "seen", "sum", "max", "histogram"]
"""`seen`: a counter of somebody else's, such as the system, which every process reads as it is."""
"""How a gauge merges the values of several processes: `sum` or `max`."""
_OUTLIVES_ITS_PROCESS: Final = ("counter", "histogram")
_HIGHEST_COUNTS: Final = ("seen", "max")
Labels = tuple[str, ...]
Bucket = tuple[str, float] | tuple[str, float, Exemplar]
Values = dict[tuple[str, Labels], list[float]]
"""(family, label values) -> its cells."""


class Family:
    """One metric, with a value (or a histogram) for each combination of its labels."""

    __slots__ = (
        *("_at", "_cells", "_sum", "bounds", "exemplars", "kind", "labels", "name", "text"),
    )

    def __init__(
        self,
        cells: "Cells",
        kind: Kind,
        name: str,
        text: str,
        labels: Sequence[str] = (),
        bounds: Sequence[float] = (),
    ) -> None:
        self._cells = cells
        self._at: dict[Labels, int] = {}
        self.kind = kind
        self.name = name
        self.text = text
        self.labels = tuple(labels)
        self.bounds = tuple(bounds)
        """Upper bounds of the buckets; an unbounded bucket follows."""
        self.exemplars: dict[tuple[Labels, int], Exemplar] = {}
        """The latest trace in each bucket, of this process."""
        self._sum = len(self.bounds) + 1  # the cell after the buckets

    def add(self, *labels: str, by: float = 1) -> None:
        """Add `by` to a counter."""
        values = self._cells.values
        values[self._at.get(labels) or self._place(labels)] += by

    def set(self, value: float, *labels: str) -> None:
        """Set a gauge, or a counter that something else counts (`cache hits`)."""
        self._cells.values[self._at.get(labels) or self._place(labels)] = value

    def observe(self, value: float, *labels: str) -> None:
        """Count a value (seconds, a size) in its bucket."""
        at = self._at.get(labels) or self._place(labels)
        values = self._cells.values
        values[at + bisect_left(self.bounds, value)] += 1
        values[at + self._sum] += value

    def exemplify(self, value: float, trace_id: bytes, *labels: str) -> None:
        """Let the bucket of a value that was observed name its trace."""
        bucket = bisect_left(self.bounds, value)
        self.exemplars[labels, bucket] = Exemplar(
            {"trace_id": trace_id.decode()}, value, time.time()
        )

    @property
    def width(self) -> int:
        """The cells of one combination: the buckets and the sum, or the value."""
        return self._sum + 1 if self.kind == "histogram" else 1

    def _place(self, labels: Labels) -> int:
        assert len(labels) == len(self.labels), (self.name, labels)
        at = self._at[labels] = self._cells.allocate(self.name, labels, self.width)
        return at


class Cells:
    """The process's array, and an index of its cells. Cell 0 is never used.

    Without a `directory` no other process sees them. Raises OSError if it cannot be written.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory
        self.values: Any = array("d", bytes(8 * _MOST_CELLS))
        self.places: list[tuple[str, Labels, int, int]] = []
        self._next = 1
        self._index: IO[str] | None = None
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            with _locked(directory, fcntl.LOCK_EX):
                _retire(directory)
                self._open(directory)

    def _open(self, directory: Path) -> None:
        name = f"{os.getpid()}-{os.urandom(4).hex()}"
        with (directory / f"{name}.cells").open("w+b") as file:
            file.truncate(8 * _MOST_CELLS)
            self.values = memoryview(mmap.mmap(file.fileno(), 8 * _MOST_CELLS)).cast("d")
        self._index = (directory / f"{name}.index").open("w", buffering=1)
        fcntl.flock(self._index, fcntl.LOCK_EX)  # held until the process ends

    def allocate(self, family: str, labels: Labels, width: int) -> int:
        """Return the first of `width` new cells. Raises MemoryError if labels are unbounded."""
        at = self._next
        if at + width > _MOST_CELLS:
            raise MemoryError(f"too many combinations of labels, the last of {family}: {labels}")
        self._next = at + width
        self.places.append((family, labels, at, width))
        if self._index is not None:
            self._index.write(json.dumps([family, labels, at, width]) + "\n")
        return at

    def own(self) -> Values:
        """Return this process's values."""
        return _read(self.places, self.values)


class Registry:
    """All families of one process, and the values of all processes as Prometheus reads them."""

    def __init__(self, directory: Path | None = None) -> None:
        self.cells = Cells(directory)
        self.families: dict[str, Family] = {}

    def counter(self, name: str, text: str, *labels: str) -> Family:
        """`name` ends in `_total`."""
        return self._new("counter", name, text, labels)

    def seen(self, name: str, text: str, *labels: str) -> Family:
        """A counter that others keep and every process reads: the highest is the newest."""
        return self._new("seen", name, text, labels)

    def gauge(
        self, name: str, text: str, *labels: str, merge: Literal["sum", "max"] = "sum"
    ) -> Family:
        return self._new(merge, name, text, labels)

    def histogram(self, name: str, text: str, *labels: str, bounds: Sequence[float]) -> Family:
        return self._new("histogram", name, text, labels, bounds)

    def _new(
        self, kind: Kind, name: str, text: str, labels: Labels, bounds: Sequence[float] = ()
    ) -> Family:
        made = self.families[name] = Family(self.cells, kind, name, text, labels, bounds)
        return made

    def collect(self) -> Iterator[Metric]:
        """Yield the values of all processes, summed (a gauge: as its family says)."""
        total: defaultdict[str, dict[Labels, list[float]]] = defaultdict(dict)
        for values, alive in self._everyone():
            for (name, labels), cells in values.items():
                family = self.families.get(name)
                if family is not None and (alive or family.kind in _OUTLIVES_ITS_PROCESS):
                    merge = max if family.kind in _HIGHEST_COUNTS else float.__add__
                    _add(total[name], labels, cells, merge)
        for name, family in self.families.items():
            yield _metric(family, total[name])

    def _everyone(self) -> Iterator[tuple[Values, bool]]:
        directory = self.cells.directory
        if directory is None:
            yield self.cells.own(), True
            return
        with _locked(directory, fcntl.LOCK_SH):
            values, folded = _retired(directory)
            yield values, False
            for index in directory.glob("*.index"):
                if index.stem not in folded:
                    yield _read_file(index), _is_alive(index)

    def text(self) -> bytes:
        """Return the exposition format, version 0.0.4 (content type: CONTENT_TYPE)."""
        return generate_latest(self._collector())

    def exposition(self, accept: bytes) -> tuple[bytes, bytes]:
        """Return the metrics and their content type: as OpenMetrics if there are exemplars, and the
        reader's Accept header names it; else as `text`."""
        exemplars = any(family.exemplars for family in self.families.values())
        if exemplars and b"application/openmetrics-text" in accept:
            text: bytes = openmetrics.generate_latest(self._collector())  # type: ignore[no-untyped-call]
            return text, _OPENMETRICS
        return self.text(), CONTENT_TYPE

    def _collector(self) -> CollectorRegistry:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return registry


def _add(
    total: dict[Labels, list[float]],
    labels: Labels,
    cells: list[float],
    merge: Callable[[float, float], float],
) -> None:
    """Add the cells of one process. Another version may have other buckets: they are left out."""
    so_far = total.get(labels)
    if so_far is None:
        total[labels] = cells
    elif len(so_far) == len(cells):
        total[labels] = [merge(a, b) for a, b in zip(so_far, cells, strict=True)]


def _retire(directory: Path) -> None:
    """Fold the counts of dead processes into one file, so that the number of files stays bounded.

    The file names those it holds: if a process is killed before it deletes them, none counts twice.
    """
    dead = [index for index in directory.glob("*.index") if not _is_alive(index)]
    if not dead:
        return
    total, folded = _retired(directory)
    for index in dead:
        if index.stem in folded:
            continue
        for key, cells in _read_file(index).items():
            so_far = total.get(key)
            if so_far is None or len(so_far) != len(cells):
                total[key] = cells
            else:
                total[key] = [a + b for a, b in zip(so_far, cells, strict=True)]
    fresh = directory / f"{_RETIRED}.new"
    values = [[name, labels, cells] for (name, labels), cells in total.items()]
    fresh.write_text(json.dumps({"folded": [index.stem for index in dead], "values": values}))
    fresh.replace(directory / _RETIRED)
    for index in dead:
        index.unlink()  # first: an index without its cells cannot be read
        index.with_suffix(".cells").unlink(missing_ok=True)


def _retired(directory: Path) -> tuple[Values, frozenset[str]]:
    """Return the counts of dead processes, and the names of the files folded into them."""
    try:
        retired = json.loads((directory / _RETIRED).read_text())
    except FileNotFoundError:
        return {}, frozenset()
    values = {(name, tuple(labels)): cells for name, labels, cells in retired["values"]}
    return values, frozenset(retired["folded"])


def _read_file(index: Path) -> Values:
    places = []
    for line in index.read_text().splitlines(keepends=True):
        if line.endswith("\n"):  # the last one may be incomplete
            name, labels, at, width = json.loads(line)
            places.append((name, tuple(labels), at, width))
    with index.with_suffix(".cells").open("rb") as file:
        values = array("d", file.read(8 * max((at + n for *_, at, n in places), default=0)))
    return _read(places, values)


def _read(places: Sequence[tuple[str, Labels, int, int]], values: Any) -> Values:
    return {(name, labels): list(values[at : at + n]) for name, labels, at, n in places}


def _is_alive(index: Path) -> bool:
    with index.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


@contextmanager
def _locked(directory: Path, how: int) -> Iterator[None]:
    with (directory / "lock").open("a") as file:
        fcntl.flock(file, how)
        yield


def _metric(family: Family, values: dict[Labels, list[float]]) -> Metric:
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(family.name, family.text, labels=family.labels)
        for labels, cells in values.items():
            counted = 0.0
            buckets: list[Bucket] = []
            bounds = (*family.bounds, float("inf"))
            for at, (bound, count) in enumerate(zip(bounds, cells, strict=False)):
                counted += count
                name = "+Inf" if bound == float("inf") else repr(bound)
                exemplar = family.exemplars.get((labels, at))
                buckets.append((name, counted, exemplar) if exemplar else (name, counted))
            histogram.add_metric(labels, buckets, cells[-1])
        return histogram
    kind = CounterMetricFamily if family.kind in ("counter", "seen") else GaugeMetricFamily
    metric = kind(family.name, family.text, labels=family.labels)
    for labels, cells in values.items():
        metric.add_metric(labels, cells[0])
    return metric
