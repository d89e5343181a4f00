"""What a round does: what the shop asks for, and what breaks meanwhile. Decided by its number.

Times are real seconds since the load began.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from easypay import failpoints
from harness import WIRE_TYPE

MEMBERS: Final = ("gateway-0", "gateway-1", "worker-0", "worker-1")
POINTS: Final = {
    "gateway": ("after_begin", "before_send", "mid_send", "after_reply", "after_record"),
    "worker": (*failpoints.QUEUE_NAMES, *failpoints.WEBHOOK_NAMES, *sorted(failpoints.NAMES)),
}
"""Where a process can be made to die."""
PATHS: Final = ("/all", "/too", "/money")
"""The shop's endpoints. The last one wants only `MONEY`."""
MONEY: Final = ("payment.captured", "payment.voided", "payment.failed", "refund.succeeded")

BREAKS: Final = (
    ("kill", 7),
    ("die_at", 6),
    ("stop", 4),
    ("terminate", 1),
    ("postgres", 3),
    ("leases", 4),
    ("unwell", 3),
    ("fault", 4),
    ("settle", 2),
)
_CALLS: Final = ("sale", "authorize", "capture", "void")
_FAULTS: Final = ("drop_reply", "late_reply", "error_after", "reset_before", "truncate", "busy")


@dataclass(frozen=True)
class Breaking:
    """One thing that breaks, `at_s` seconds after the load began."""

    at_s: float
    kind: str
    args: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        shown = " ".join(f"{name}={value!r}" for name, value in self.args.items())
        return f"{self.at_s:.2f} s {self.kind} {shown}"


@dataclass(frozen=True)
class FollowUp:
    """A capture, void or refund. `part`: of the amount; None for all that is left."""

    kind: str
    queued: bool
    part: float | None


@dataclass(frozen=True)
class Order:
    """A payment that the shop wants once, and what it then does with it.

    `at_once`: it does not wait for the payment's outcome before it asks for what follows.
    """

    number: int
    amount: int
    queued: bool
    capture: str
    declined: bool
    at_once: bool
    follow_ups: tuple[FollowUp, ...]


@dataclass(frozen=True)
class Plan:
    """Everything that one round does."""

    seed: int
    load_s: float
    clients: int
    latency_ms: int
    """Of the processor: at most so long for each call."""
    breaks: tuple[Breaking, ...]

    def lines(self) -> list[str]:
        """Return the plan for people."""
        load = f"{self.clients} clients for {self.load_s:.1f} s, calls take up to "
        return [
            f"round {self.seed}: {load}{self.latency_ms} ms",
            *(f"  {each}" for each in self.breaks),
        ]


def plan(seed: int) -> Plan:
    """The same for the same number, everywhere."""
    rng = random.Random(f"kills {seed}")
    load_s = rng.uniform(1.2, 2.2)
    breaks = [_break(rng, load_s) for _ in range(rng.randint(3, 6))]
    breaks.append(Breaking(rng.uniform(0.2, load_s), "kill", _whom(rng, "worker")))
    return Plan(
        seed=seed,
        load_s=load_s,
        clients=rng.randint(3, 7),
        latency_ms=rng.choice((0, 0, 10, 30, 100)),
        breaks=tuple(sorted(breaks, key=lambda each: each.at_s)),
    )


def orders(seed: int, client: int) -> Iterator[Order]:
    """What one client of a round orders, one after the other."""
    rng = random.Random(f"orders {seed} {client}")
    number = client
    while True:
        capture = "automatic" if rng.random() < 0.55 else "manual"
        yield Order(
            number=number,
            amount=1000 + number,
            queued=rng.random() < 0.6,
            capture=capture,
            declined=rng.random() < 0.05,
            at_once=rng.random() < 0.5,
            follow_ups=tuple(_follow_ups(rng, capture)),
        )
        number += 100


def _follow_ups(rng: random.Random, capture: str) -> Iterator[FollowUp]:
    if rng.random() < 0.3:
        return
    if capture == "manual":
        kind = rng.choice(("capture", "capture", "void"))
        yield FollowUp(kind, rng.random() < 0.5, rng.choice((None, 0.5, 0.9)))
        if kind == "void" or rng.random() < 0.5:
            return
    yield FollowUp(rng.choice(("refund", "refund", "void")), rng.random() < 0.5, None)
    if rng.random() < 0.3:  # it may be refused: never more is given back than was taken
        yield FollowUp("refund", rng.random() < 0.5, rng.choice((None, 0.4)))


def _whom(rng: random.Random, kind: str | None = None) -> dict[str, Any]:
    kind = kind or rng.choice(("worker", "worker", "gateway"))
    return {"member": f"{kind}-{rng.randrange(2)}", "down_s": rng.choice((0.0, 0.1, 0.4))}


def _break(rng: random.Random, load_s: float) -> Breaking:
    (kind,) = rng.choices(*zip(*BREAKS, strict=True))
    args: dict[str, Any] = {}
    match kind:
        case "kill" | "terminate":
            args = _whom(rng)
        case "die_at":
            args = _whom(rng)
            args["point"] = rng.choice(POINTS[args["member"].partition("-")[0]])
        case "stop":
            args = _whom(rng) | {"down_s": rng.choice((0.2, 0.8, 1.5, 2.5))}
            args["leases"] = rng.random() < 0.6
        case "postgres":
            how = rng.choice(("session", "session", "server", "immediate"))
            args = {"how": how, "down_s": rng.choice((0.0, 0.3, 0.8))}
        case "unwell":
            how = rng.choice((500, 503, "closes", "hangs"))
            args = {"path": rng.choice(PATHS), "how": how, "for_s": rng.choice((0.1, 0.4))}
        case "fault":
            args = {"kind": rng.choice(_FAULTS), "count": rng.choice((1, 2, 4))}
            args["transaction_type"] = WIRE_TYPE[rng.choice((*_CALLS, *_CALLS[:1]))]
            if args["kind"] == "late_reply":
                args["delay_ms"] = rng.choice((300, 900))
        case "leases" | "settle":
            pass
        case _:
            raise AssertionError(kind)
    return Breaking(rng.uniform(0.1, load_s), kind, args)
