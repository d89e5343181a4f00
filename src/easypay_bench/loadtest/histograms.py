"""What was measured: histograms by call and by second. Tallies can be added up."""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from itertools import accumulate
from typing import Any, Final

import msgspec

_EXACT_BITS: Final = 11
SHARES: Final = {
    "p50": 50.0, "p75": 75.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0,
}  # fmt: skip


class Histogram:
    """Durations in microseconds to three significant digits, as HdrHistogram rounds them.

    Only filled buckets exist, so a percentile costs a walk over a few hundred and not over all
    possible ones: the generator computes them while it sends.
    """

    __slots__ = ("_counts", "count")

    def __init__(self, counts: dict[int, int] | None = None) -> None:
        self._counts = counts or {}
        """The highest duration of a bucket, in microseconds -> its count."""
        self.count = sum(self._counts.values())

    def record(self, seconds: float) -> None:
        us = max(1, round(seconds * 1e6))
        coarse_bits = us.bit_length() - _EXACT_BITS
        if coarse_bits > 0:
            us |= (1 << coarse_bits) - 1
        self._counts[us] = self._counts.get(us, 0) + 1
        self.count += 1

    def ms(self, percentile: float) -> float:
        """Return the value that so many percent do not exceed, in milliseconds; NaN if empty."""
        return self._at([percentile])[0]

    def spread(self) -> dict[str, float]:
        """Return p50 to max, in milliseconds; empty if there are none."""
        return dict(zip(SHARES, self._at(SHARES.values()), strict=True)) if self.count else {}

    def _at(self, percentiles: Iterable[float]) -> list[float]:
        durations = sorted(self._counts)
        if not durations:
            return [math.nan for _ in percentiles]
        up_to = list(accumulate(self._counts[us] for us in durations))
        # Less a little: 99.9 % of 1000 is 999.0000000000001 as a float, and means the 999th.
        ranks = (max(1, math.ceil(self.count * each / 100 - 1e-9)) for each in percentiles)
        return [durations[bisect_left(up_to, rank)] / 1000 for rank in ranks]

    def add(self, other: "Histogram") -> None:
        for us, count in other._counts.items():
            self._counts[us] = self._counts.get(us, 0) + count
        self.count += other.count

    def encode(self) -> dict[int, int]:
        """Return it as the constructor takes it."""
        return self._counts


class Second(msgspec.Struct):
    """One second of a run, by when its requests were due."""

    due: int = 0
    done: int = 0
    wrong: int = 0
    dropped: int = 0
    p50_ms: float | None = None
    p99_ms: float | None = None


class Tally:
    """Everything one generator measured after the warm-up."""

    def __init__(self) -> None:
        self.calls: dict[str, Histogram] = {}
        """Name of the call -> from the moment each was due to its whole answer."""
        self.own = Histogram()
        """The gateway's time without the processor's, from its Server-Timing."""
        self.processor = Histogram()
        self.lateness = Histogram()
        """How late the generator itself started what was due."""
        self.statuses: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self.seconds: dict[int, Second] = {}
        self._by_second: dict[int, Histogram] = {}
        self.due = 0
        """Scenarios that were due."""
        self.dropped = 0
        self.ended = 0
        """Scenarios that had all their answers before the measured time was over."""
        self.in_time = 0
        """Calls answered before it was over; the others are in `calls` as well."""
        self.cpu_s = 0.0
        self.payments: Counter[str] = Counter()
        """Requests for a payment, in the warm-up too. 'create': answered with success.
        'unanswered': without an answer, or with a 5xx, so there may be a payment."""

    @property
    def total(self) -> Histogram:
        """All calls together."""
        whole = Histogram()
        for each in self.calls.values():
            whole.add(each)
        return whole

    def second(self, at_s: float) -> Second:
        return self.seconds.setdefault(int(at_s), Second())

    def answered(self, name: str, took_s: float, at_s: float) -> None:
        """Count a call with a good answer. `at_s`: when it was due."""
        histogram = self.calls.get(name)
        if histogram is None:
            histogram = self.calls[name] = Histogram()
        histogram.record(took_s)
        number = int(at_s)
        by_second = self._by_second.get(number)
        if by_second is None:
            by_second = self._by_second[number] = Histogram()
        by_second.record(took_s)
        self.second(at_s).done += 1

    def failed(self, what: str, at_s: float) -> None:
        self.wrong[what] += 1
        self.second(at_s).wrong += 1

    def add(self, other: "Tally") -> None:
        for name, histogram in other.calls.items():
            self.calls.setdefault(name, Histogram()).add(histogram)
        for mine, theirs in (
            (self.own, other.own),
            (self.processor, other.processor),
            (self.lateness, other.lateness),
        ):
            mine.add(theirs)
        self.statuses += other.statuses
        self.wrong += other.wrong
        self.payments += other.payments
        self.due += other.due
        self.dropped += other.dropped
        self.ended += other.ended
        self.in_time += other.in_time
        self.cpu_s += other.cpu_s
        for number, second in other.seconds.items():
            into = self.seconds.setdefault(number, Second())
            into.due += second.due
            into.done += second.done
            into.wrong += second.wrong
            into.dropped += second.dropped
        for number, histogram in other._by_second.items():
            self._by_second.setdefault(number, Histogram()).add(histogram)

    def recent(self) -> dict[str, float]:
        """Return the spread over the last three seconds that have an answer."""
        last = Histogram()
        for number in sorted(self._by_second)[-3:]:
            last.add(self._by_second[number])
        return last.spread()

    def by_second(self) -> list[tuple[int, Second]]:
        """Return every second in order, with its percentiles filled in."""
        for number, histogram in self._by_second.items():
            self.seconds[number].p50_ms = histogram.ms(50)
            self.seconds[number].p99_ms = histogram.ms(99)
        return sorted(self.seconds.items())

    def encode(self) -> dict[str, Any]:
        """Return it as plain data, for another process."""
        return {
            "calls": {name: each.encode() for name, each in self.calls.items()},
            "own": self.own.encode(),
            "processor": self.processor.encode(),
            "lateness": self.lateness.encode(),
            "statuses": self.statuses,
            "wrong": self.wrong,
            "payments": self.payments,
            "due": self.due,
            "dropped": self.dropped,
            "ended": self.ended,
            "in_time": self.in_time,
            "cpu_s": self.cpu_s,
            "seconds": list(self.seconds.items()),
            "by_second": [(number, each.encode()) for number, each in self._by_second.items()],
        }


def decode(data: dict[str, Any]) -> Tally:
    """Return the tally of `Tally.encode`, after its transfer as MessagePack."""
    tally = Tally()
    tally.calls = {name: Histogram(each) for name, each in data["calls"].items()}
    tally.own = Histogram(data["own"])
    tally.processor = Histogram(data["processor"])
    tally.lateness = Histogram(data["lateness"])
    for name in ("statuses", "wrong", "payments"):
        setattr(tally, name, Counter(data[name]))
    for name in ("due", "dropped", "ended", "in_time", "cpu_s"):
        setattr(tally, name, data[name])
    tally.seconds = {number: msgspec.convert(each, Second) for number, each in data["seconds"]}
    tally._by_second = {number: Histogram(each) for number, each in data["by_second"]}
    return tally
