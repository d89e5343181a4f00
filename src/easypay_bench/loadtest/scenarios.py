"""What a simulated shop does. A new scenario is a coroutine over `Shop` and a line in SCENARIOS."""

import itertools
import random
import secrets
import string
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Protocol

import msgspec

from easypay_bench.loadtest.connections import Answer

PATH: Final = "/api/v1/payments"
LOWEST_MINOR: Final = 1000
AMOUNTS: Final = 9000
_KNOWN: Final = 10_000
CARD: Final = {
    "type": "card",
    "card": {"number": "4111111111111111", "exp_month": 12, "exp_year": 2030, "cvc": "900"},
}
ADDRESS: Final = {
    "first_name": "Ada", "last_name": "Lovelace", "line1": "1 Main St", "city": "Springfield",
    "state": "IL", "postal_code": "62701", "country": "US",
}  # fmt: skip
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Unexpected(Exception):
    """An answer that a scenario cannot continue from; it has been counted."""


class Sender(Protocol):
    """Sends one request and measures it. `creates`: the request is for a payment.

    Raises Unexpected for any status not in `good`.
    """

    async def __call__(
        self, name: str, request: bytes, good: Sequence[int], *, creates: bool
    ) -> Answer: ...


class Memory:
    """Shared by the shops of one generator: the merchant, the numbers, the payments taken."""

    def __init__(self, host: str, api_key: str, *, seed: int) -> None:
        self.head = f"Host: {host}\r\nAuthorization: Bearer {api_key}\r\n"
        # Letters only: digits next to digits could look like a card number, and be refused.
        self.run = "".join(secrets.choice(string.ascii_lowercase) for _ in range(12))
        self.numbers = itertools.count(1)
        self.random = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self.payments: deque[str] = deque(maxlen=_KNOWN)
        """The ids of the newest payments that succeeded."""


class Shop:
    """One merchant's client, during one run of a scenario."""

    def __init__(self, memory: Memory, send: Sender) -> None:
        self._memory = memory
        self._send = send

    async def pay(self, capture: str = "automatic", **over: Any) -> str:
        """Take a payment and return its id."""
        memory = self._memory
        number = next(memory.numbers)
        body = {
            "amount": LOWEST_MINOR + number % AMOUNTS,
            "currency": "USD",
            "capture": capture,
            "payment_method": CARD,
            "order_reference": f"order-{memory.run}-{number}",
            "billing_address": ADDRESS,
            **over,
        }
        answer = await self.post("create", PATH, body, good=(201, 202))
        payment_id: str = _decode(answer.body)["id"]
        if answer.status == 201:
            memory.payments.append(payment_id)
        return payment_id

    async def post(
        self, name: str, path: str, body: Any, *, good: Sequence[int] = (201, 202)
    ) -> Answer:
        """Send a money POST with an unused Idempotency-Key."""
        content = _encode(body)
        memory = self._memory
        key = f"load-{memory.run}-{next(memory.numbers)}"
        head = (
            f"POST {path} HTTP/1.1\r\n{memory.head}Idempotency-Key: {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        return await self._send(name, head.encode() + content, good, creates=path == PATH)

    async def get(self, name: str, path: str) -> Answer:
        head = f"GET {path} HTTP/1.1\r\n{self._memory.head}\r\n"
        return await self._send(name, head.encode(), (200,), creates=False)

    async def known(self) -> str:
        """Return one of the payments taken so far; take one if there is none."""
        payments = self._memory.payments
        return self._memory.random.choice(payments) if payments else await self.pay()

    def remember(self, payment_id: str) -> None:
        """Add a payment that was not taken by `pay`."""
        self._memory.payments.append(payment_id)


Scenario = Callable[[Shop], Awaitable[None]]


async def create(shop: Shop) -> None:
    """Take a payment."""
    await shop.pay()


async def create_capture(shop: Shop) -> None:
    """Hold the money, then take it."""
    payment_id = await shop.pay(capture="manual")
    await shop.post("capture", f"{PATH}/{payment_id}/capture", {})


async def get(shop: Shop) -> None:
    """Read one payment."""
    await shop.get("get", f"{PATH}/{await shop.known()}")


async def list_(shop: Shop) -> None:
    """Read the newest 20."""
    await shop.get("list", f"{PATH}?limit=20")


async def void(shop: Shop) -> None:
    """Hold the money, then release it."""
    payment_id = await shop.pay(capture="manual")
    await shop.post("void", f"{PATH}/{payment_id}/void", {})


async def refund(shop: Shop) -> None:
    """Take a payment and refund it at once: the processor voids it."""
    payment_id = await shop.pay()
    await shop.post("refund", f"{PATH}/{payment_id}/refunds", {})


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "create": create,
    "create_capture": create_capture,
    "get": get,
    "list": list_,
    "void": void,
    "refund": refund,
}


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """One line of a replay file. `{payment_id}` in the path becomes a payment of this run."""

    path: Annotated[str, msgspec.Meta(pattern=r"^/\S*$")]
    method: Literal["GET", "POST"] = "POST"
    body: Any = None
    name: str | None = None


def replaying(lines: Sequence[Line]) -> Scenario:
    """Return a scenario that sends the lines in turn, each with a new key, again and again."""
    turn = itertools.cycle(lines)

    async def replay(shop: Shop) -> None:
        line = next(turn)
        path = line.path
        if "{payment_id}" in path:
            path = path.replace("{payment_id}", await shop.known())
        name = line.name or f"{line.method} {line.path.partition('?')[0]}"
        if line.method == "GET":
            await shop.get(name, path)
            return
        answer = await shop.post(name, path, line.body or {})
        if path == PATH and answer.status == 201:
            shop.remember(_decode(answer.body)["id"])

    return replay


def mix(weights: Mapping[str, float], choose: random.Random) -> Callable[[], Scenario]:
    """Return a function that draws scenarios by weight. Raises KeyError for an unknown name."""
    scenarios = [SCENARIOS[name] for name in weights]
    shares = list(itertools.accumulate(weights.values()))
    return lambda: choose.choices(scenarios, cum_weights=shares)[0]
