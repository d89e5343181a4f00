"""What a seed decides: everything that will be done, and when, before anything is done.

Times are driven seconds since the seed began. The happenings of one burst happen at once; between
bursts, time is driven on.
"""

import random
from dataclasses import dataclass, field
from typing import Any, Final

SHOPS: Final = 2
GATEWAYS: Final = 2
LINKS: Final = ("database", "processor", "clients")
FAILOVERS: Final = 0.03
BATCH_EVERY: Final = 8
"""So many seeds have one with a batch."""
VAULTS: Final = 0.3
"""Part of the seeds in which shops store cards."""

_FAULTS: Final = (
    ("drop_reply", 9),
    ("late_reply", 4),
    ("late_charge", 7),
    ("error_after", 3),
    ("error_before", 2),
    ("truncate", 2),
    ("garbage", 2),
    ("reset_before", 2),
    ("busy", 1),
    ("maintenance", 1),
    ("code_after", 2),
    ("slow_body", 1),
    ("wrong_content_type", 1),
    ("html", 1),
)
_WIRE_TYPES: Final = {
    "charge": ("authCaptureTransaction", "authOnlyTransaction"),
    "capture": ("priorAuthCaptureTransaction",),
    "void": ("voidTransaction",),
    "refund": ("refundTransaction",),
}
_VAULT_FAULTS: Final = ("drop_reply", "late_charge", "late_reply", "reset_before", "error_after")
_VAULT_METHODS: Final = (
    "createCustomerProfileRequest",
    "createCustomerPaymentProfileRequest",
    "deleteCustomerPaymentProfileRequest",
)
_LOCKABLE: Final = ("payments", "operations", "idempotency_keys", "sweeps", "unresolved_operations")
ODD_TEXTS: Final = (
    "plain",
    "ümläut ß 中文 עברית",
    "<b>&amp; \"quoted\" 'single'</b>",
    "emoji \U0001f9fe and \u00a0 space",
    "back\\slash %s {} $1 -- ;",
    "1.1.1.1.1.1.1.1",
    "x" * 200,
    "",
    "\u202eright to left",
    " spaces around ",
)


@dataclass
class Happening:
    """One request of a shop, or one fault."""

    kind: str
    args: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind} " + " ".join(f"{name}={value!r}" for name, value in self.args.items())


@dataclass
class Burst:
    at_s: float
    breaks: list[Happening]
    requests: list[Happening]


@dataclass
class Plan:
    """Everything that one seed does."""

    seed: int
    gateway_skews_ms: list[int]
    processor_skew_ms: int
    reporting_lag_ms: int
    bursts: list[Burst]
    step_s: float
    growth: float
    cutoff_s: float
    """When the processor settles first; it then settles daily."""
    has_failover: bool = False
    """A slower kind of seed, with a standby of its own."""
    has_vault: bool = False
    """Shops store cards, forget them and charge them."""

    def breaks_link(self, gate: int, which: str) -> bool:
        """Does anything happen to this line of this gateway? The others need no proxy."""
        if which == "database" and self.has_failover:
            return True
        breaks = [each for burst in self.bursts for each in burst.breaks if each.kind == "link"]
        return any((each.args["gate"], each.args["which"]) == (gate, which) for each in breaks)

    def lines(self) -> list[str]:
        """The plan for people."""
        lines = [
            f"seed {self.seed}: gateways' clocks {self.gateway_skews_ms} ms off, the processor's "
            f"{self.processor_skew_ms} ms, reports lag {self.reporting_lag_ms} ms, "
            f"steps of {self.step_s} s"
        ]
        for burst in self.bursts:
            lines.append(f"  at {burst.at_s:.1f} s")
            lines += [f"    breaks: {each}" for each in burst.breaks]
            lines += [f"    asks:   {each}" for each in burst.requests]
        return lines


def _one_of(rng: random.Random, weighted: tuple[tuple[Any, int], ...]) -> Any:
    return rng.choices([each for each, _ in weighted], [weight for _, weight in weighted])[0]


def plan(seed: int) -> Plan:
    """The same for the same seed, everywhere."""
    rng = random.Random(seed)
    skew = _one_of(rng, ((0, 6), (90_000, 2), (600_000, 2), (10_800_000, 1)))
    skews = [round(rng.uniform(-skew, skew)) for _ in range(GATEWAYS)]
    processor_skew = _one_of(rng, ((0, 8), (2_000, 2), (60_000, 1)))
    lag = _one_of(rng, ((0, 4), (5_000, 1), (90_000, 3), (600_000, 3)))
    made = _PlanMaker(rng)
    bursts: list[Burst] = []
    at_s = 0.0
    for _ in range(rng.randint(4, 7)):
        at_s += rng.choice((0.5, 3, 12, 40, 120, 400, 1000, 4000))
        bursts.append(made.burst(at_s))
    for _ in range(2):  # shops come back when much is known
        at_s += rng.choice((900, 1200, 2000, 30_000))
        bursts.append(Burst(at_s, made.quiet_breaks(), made.looks()))
    made_plan = Plan(
        seed=seed,
        gateway_skews_ms=skews,
        processor_skew_ms=round(rng.uniform(-processor_skew, processor_skew)),
        reporting_lag_ms=lag if rng.random() < 0.5 else round(rng.uniform(0, lag)),
        bursts=bursts,
        step_s=rng.choice((20, 31, 45)),
        growth=rng.choice((0.15, 0.3, 0.5)),
        cutoff_s=rng.uniform(0, 86_400),
    )
    if rng.random() < FAILOVERS:
        made_plan.has_failover = True
        burst = rng.choice(bursts[:-2])
        burst.breaks.append(Happening("failover", {"after_s": rng.choice((0.01, 0.1, 0.5, 0.9))}))
    elif seed % BATCH_EVERY == BATCH_EVERY - 1:
        _plan_batch(random.Random(f"the batch of {seed}"), bursts)
    # A generator of its own: what else the seed does stays as it was.
    by_vault = random.Random(f"vault {seed}")
    has_other = made_plan.has_failover or seed % BATCH_EVERY == BATCH_EVERY - 1
    if by_vault.random() < VAULTS and not has_other:
        made_plan.has_vault = True
        _add_stored_cards(by_vault, bursts[:-2])
    return made_plan


_WORKER_POINTS: Final = (
    *("batch_claimed", "batch_lines_begun", "before_send", "mid_send"),
    *("after_reply", "after_record", "batch_line_sent"),
)


def _plan_batch(rng: random.Random, bursts: list[Burst]) -> None:
    """Let a shop upload a batch, which is paused, resumed and cancelled while its worker is killed.
    All other numbers of the seed stay what they are."""
    first = rng.randrange(len(bursts) - 3)
    for number, burst in enumerate(bursts[first:]):
        gate = rng.randrange(GATEWAYS)
        if number == 0:
            upload = {"shop": rng.randrange(SHOPS), "gate": gate, "lines": rng.randint(4, 12)}
            burst.requests.append(Happening("upload", upload))
        elif rng.random() < 0.7:
            move = _one_of(rng, (("pause", 6), ("resume", 6), ("cancel", 1)))
            burst.requests.append(
                Happening("move", {"move": move, "gate": gate, "after_s": rng.choice((0, 0.05))})
            )
        if rng.random() < 0.8:
            how = _one_of(rng, (("dies", 5), ("kill", 3), ("terminate", 2), ("purge", 2)))
            at: Any = rng.choice((0, 0.02, 0.1, 0.3))
            if how == "dies":
                at = rng.choice(_WORKER_POINTS)
            burst.breaks.append(Happening("worker", {"how": how, "at": at}))


def _add_stored_cards(rng: random.Random, bursts: list[Burst]) -> None:
    """Let shops store cards, charge them and forget them, and let the vault fail."""
    stored = bought = 0
    for burst in bursts:
        for _ in range(rng.choice((1, 1, 2))):
            gate = rng.randrange(GATEWAYS)
            how = rng.random()
            if not stored or how < 0.45:
                asked = Happening("store", {"card": stored, "gate": gate})
                stored += 1
            elif how < 0.65:
                asked = Happening("forget", {"card": rng.randrange(stored), "gate": gate})
            else:
                bought += 1
                number = rng.randrange(stored)
                args = {"intent": 1000 + bought, "shop": number % SHOPS, "gate": gate}
                args |= {"amount": 50_000 + bought, "capture": "automatic", "stored": number}
                args |= {"card": 0, "text": 0, "declined": False, "impatient": False}
                asked = Happening("buy", args)
            burst.requests.append(asked)
        if rng.random() < 0.5:
            fault: dict[str, Any] = {"kind": rng.choice(_VAULT_FAULTS), "count": 1}
            fault["method"] = rng.choice(_VAULT_METHODS)
            if fault["kind"] == "late_charge":
                delay_s = rng.choice((0.3, 20, 100, 800, 8000))
                fault |= {"by_clock": True, "delay_ms": round(1000 * delay_s)}
            elif fault["kind"] == "late_reply":
                fault["delay_ms"] = rng.choice((100, 350, 800))
            burst.breaks.append(Happening("fault", fault))


class _PlanMaker:
    """Deals out what happens; knows which payments have been ordered before."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._bought: list[tuple[int, str, int]] = []
        self._intents = 0

    def burst(self, at_s: float) -> Burst:
        rng = self._rng
        requests = [self._ask() for _ in range(rng.randint(2, 5))]
        if rng.random() < 0.5:
            requests += self.looks()
        kinds = {"charge": 0, "capture": 0, "void": 0, "refund": 0}
        for each in requests:
            wire = {"buy": "charge"}.get(each.kind, each.kind)
            if wire in kinds:
                kinds[wire] += 1
        wanted = [kind for kind, count in kinds.items() if count]
        breaks = [
            self._fault(rng.choice(wanted)) for _ in range(rng.choice((0, 1, 1, 2))) if wanted
        ]
        if rng.random() < 0.55:
            breaks.append(self._break())
        return Burst(at_s, breaks, requests)

    def looks(self) -> list[Happening]:
        return [Happening("look", {"shop": shop, "gate": self._gate()}) for shop in range(SHOPS)]

    def quiet_breaks(self) -> list[Happening]:
        rng = self._rng
        breaks = [Happening("settle")] if rng.random() < 0.4 else []
        if rng.random() < 0.3:
            breaks.append(self._break())
        return breaks

    def _gate(self) -> int:
        return self._rng.randrange(GATEWAYS)

    def _ask(self) -> Happening:
        rng = self._rng
        if not self._bought or rng.random() < 0.5:
            return self._buy()
        number, capture, amount = rng.choice(self._bought[-6:])
        kind = _one_of(
            rng,
            (("refund", 5), ("void", 2), ("again", 2))
            if capture == "automatic"
            else (("capture", 5), ("void", 3), ("refund", 2), ("again", 1)),
        )
        args: dict[str, Any] = {"buy": number, "gate": self._gate()}
        if kind in ("refund", "capture") and rng.random() < 0.5:
            args["amount"] = max(1, round(amount * rng.choice((0.2, 0.5, 0.6, 0.9))))
        if kind != "again":
            self._intents += 1
            args["intent"] = self._intents
        return Happening(kind, args)

    def _buy(self) -> Happening:
        rng = self._rng
        self._intents += 1
        number = self._intents
        capture = "automatic" if rng.random() < 0.65 else "manual"
        amount = 1000 + number * 137 + rng.randint(0, 99)
        if rng.random() < 0.03:
            amount += 100_000  # above the limit for review
        self._bought.append((number, capture, amount))
        return Happening(
            "buy",
            {
                "intent": number,
                "shop": number % SHOPS,
                "gate": self._gate(),
                "amount": amount,
                "capture": capture,
                "card": rng.randrange(3),
                "text": rng.randrange(len(ODD_TEXTS)) if rng.random() < 0.4 else 0,
                "declined": rng.random() < 0.06,
                "impatient": rng.random() < 0.15,
            },
        )

    def _fault(self, wire: str) -> Happening:
        rng = self._rng
        kind = _one_of(rng, _FAULTS)
        fault: dict[str, Any] = {
            "kind": kind,
            "count": rng.choice((1, 1, 1, 2)),
            "transaction_type": rng.choice(_WIRE_TYPES[wire]),
        }
        if kind == "late_charge":
            # From just beyond the deadline to long after absence may be believed.
            fault |= {
                "by_clock": True,
                "delay_ms": round(
                    1000 * rng.choice((0.3, 20, 45, 100, 300, 800, 1000, 1500, 3000, 8000, 40_000))
                ),
            }
        elif kind == "late_reply":
            fault["delay_ms"] = rng.choice((100, 350, 450, 800))
        elif kind == "slow_body":
            fault |= {"delay_ms": rng.choice((20, 120))}
        elif kind == "code_after":
            fault["code"] = rng.choice(("E00001", "E00049"))
        return Happening("fault", fault)

    def _break(self) -> Happening:
        rng = self._rng
        kind = _one_of(
            rng,
            (
                ("kill", 4),
                ("die_at", 5),
                ("terminate", 2),
                ("suspend", 1),
                ("skew", 3),
                ("processor_skew", 1),
                ("link", 6),
                ("lock", 3),
                ("account", 4),
                ("lag", 2),
                ("settle", 4),
            ),
        )
        match kind:
            case "kill":
                point = rng.choice((0.0, 0.005, 0.015, 0.03, 0.1, 0.3))
                return Happening(kind, {"gate": self._gate(), "after_s": point})
            case "die_at":
                point = rng.choice(("after_begin", "mid_send", "after_reply", "after_record"))
                return Happening(kind, {"gate": self._gate(), "point": point})
            case "terminate":
                return Happening(kind, {"gate": self._gate(), "after_s": rng.choice((0.0, 0.02))})
            case "suspend":
                return Happening(kind, {"gate": self._gate(), "for_s": rng.choice((20, 200, 2000))})
            case "skew":
                most = rng.choice((5_000, 600_000, 7_200_000))
                return Happening(
                    kind, {"gate": self._gate(), "ms": round(rng.uniform(-most, most))}
                )
            case "processor_skew":
                return Happening(kind, {"ms": round(rng.uniform(-30_000, 30_000))})
            case "link":
                return Happening(
                    kind,
                    {
                        "gate": self._gate(),
                        "which": rng.choice(LINKS),
                        "how": rng.choice(("silence", "refuse", "cut", "lose")),
                        "after_s": rng.choice((0.0, 0.01, 0.03)),
                        "for_s": rng.choice((0.05, 0.3, 0.7)),
                    },
                )
            case "lock":
                table = rng.choice(_LOCKABLE)
                return Happening(kind, {"table": table, "for_s": rng.choice((0.1, 0.4, 0.8))})
            case "account":
                return Happening(
                    kind, {"shop": rng.randrange(SHOPS), "after_s": rng.choice((0, 0.1))}
                )
            case "lag":
                return Happening(kind, {"ms": rng.choice((0, 30_000, 90_000, 600_000))})
            case "settle":
                return Happening(kind, {"after_s": rng.choice((0, 0.05))})
        raise AssertionError(kind)
