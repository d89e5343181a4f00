"""Which traces are kept.

A rate decides for ordinary ones, as soon as they begin: by the last digits of our own span id. They
are random, and no client chooses them; those before them count within a millisecond. Errors,
unknown outcomes and what is slower than its target are kept besides, known only at the end, and at
most so many a second: an outage makes no flood. Those that went wrong have a bound of their own, so
that a gateway which is slow does not hide them, and so has each kind of work.
A client's `sampled` flag counts only if the operator trusts those who send it.
"""

from collections import Counter
from typing import Final

import msgspec

from easypay import ids
from easypay.card_numbers import hides_card_number
from easypay.clock import monotonic
from easypay.observability.trace import NO_SPAN, accept
from easypay.observability.tracing.marks import Recorded

MOST_KEPT_A_SECOND: Final = 50
"""Traces of one kind that are kept because they went wrong, per process, and as many because they
were slow. Those that the rate keeps are beside them."""
_RANDOM_BITS: Final = 32
_NONE: Final = b"g"
"""Above all digits."""


class Sampler:
    """Decides for one process. `rate` is a share from 0 to 1; times are seconds."""

    def __init__(
        self, rate: float, *, trust_parent: bool, slow_s: float, slow_own_s: float
    ) -> None:
        least = round((1 - rate) * (1 << _RANDOM_BITS))
        self._least = b"%08x" % least if least < 1 << _RANDOM_BITS else _NONE
        self._trust_parent = trust_parent
        self._slow_s = slow_s
        self._slow_own_s = slow_own_s
        self._second = -1
        self._kept: Counter[tuple[str, bool]] = Counter()
        self.refused = 0
        """Traces that were worth keeping and too many."""

    def accept(self, traceparent: bytes | None, request_id: str) -> Recorded:
        """Return the trace of a request, with the flags that those whom we call shall see."""
        begun = accept(traceparent, request_id)
        parent = begun.parent
        if begun.given and hides_card_number(parent.decode()):
            parent = NO_SPAN  # it would leave in our span
        if self._trust_parent and begun.given:
            head = int(begun.flags, 16) & 1 == 1
        else:
            head = begun.span_id[8:] >= self._least
        flags = b"01" if head else b"00"
        # By position, which is faster than by name: every request comes here.
        return Recorded(begun.trace_id, begun.span_id, flags, begun.given, parent, head)

    def begin(self, trace_id: bytes | None = None) -> Recorded:
        """Return a trace of work that no request waits for: a new one, or a span more in that of
        these digits."""
        begun = self.accept(None, ids.new_request_id())
        return begun if trace_id is None else msgspec.structs.replace(begun, trace_id=trace_id)

    def keeps(
        self, begun: Recorded, *, bad: bool, took_s: float, own_s: float, kind: str = ""
    ) -> bool:
        """Whether a trace is kept that has ended. `bad`: with an error or an unknown outcome.
        `own_s`: how long it took without the processor. `kind`: shares no bound with others."""
        if begun.head:
            return True
        if not bad and took_s <= self._slow_s and own_s <= self._slow_own_s:
            return False
        second = int(monotonic())
        if second != self._second:
            self._second = second
            self._kept.clear()
        if self._kept[kind, bad] >= MOST_KEPT_A_SECOND:
            self.refused += 1
            return False
        self._kept[kind, bad] += 1
        return True
