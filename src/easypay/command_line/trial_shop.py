"""A shop for trials: it pays through a gateway in test mode, at the simulator, and sees to faults.

It pays with tokens, so any merchant will do, and no card number goes through the gateway.
"""

import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec

from easypay.command_line.http_calls import Answer, NoAnswer, call

WIRE: Final = "/xml/v1/request.api"
_LIMIT_S: Final = 45.0
_LOOK_EVERY_S: Final = 0.2
_PRICE: Final = 2500
CARD: Final = "4111111111111111"
BANK: Final = "bank account"
"""In the place of a card: pay by bank account."""
_BANK_ACCOUNT: Final = {
    "accountType": "checking",
    "routingNumber": "121042882",
    "accountNumber": "1234567890",
    "nameOnAccount": "Ada Lovelace",
}
CHOOSING_CARD: Final = "4222222222222"
"""The amount of a payment with it, in whole dollars, is the processor's reason code."""


class TrialFailed(Exception):
    """Something did not go as it had to. The text says what, in one line."""


class TrialShop:
    """A merchant's shop. `simulator` is the address of its control API's program, `login` and
    `transaction_key` are the merchant's account there."""

    def __init__(
        self, *, api: str, key: str, simulator: str, login: str, transaction_key: str
    ) -> None:
        self._api = f"{api}/api/v1"
        self._key = key
        self._simulator = simulator
        self._login = login
        self._transaction_key = transaction_key

    def get(self, path: str) -> Any:
        """Return what a GET shows. Raises TrialFailed for any other answer than 200."""
        answer = self._call("GET", path)
        return self._must(answer, (200,), path)

    def post(self, path: str, body: Any, *, queue: bool = False, refused: bool = False) -> Any:
        """Send a money POST with a new key, and return the answer. `refused`: a refusal by the
        processor (409 or 422) is what is wanted. Raises TrialFailed for what is not wanted."""
        headers = {"Idempotency-Key": f"trigger-{uuid.uuid4()}"}
        if queue:
            headers["Prefer"] = "respond-async"
        answer = self._call("POST", path, msgspec.json.encode(body), headers)
        return self._must(answer, (409, 422) if refused else (200, 201, 202), path)

    def send(self, method: str, path: str, body: Any = None) -> Any:
        """Send a PATCH or DELETE, and return the answer; None if it has no body. Raises TrialFailed
        for what is not wanted."""
        answer = self._call(method, path, None if body is None else msgspec.json.encode(body))
        return None if answer.status == 204 else self._must(answer, (200, 202), path)

    def customer(self) -> Any:
        """Make a customer, and return it."""
        return self.post("/customers", {"email": "ada@example.com"})

    def stored_method(self) -> Any:
        """Make a customer with a stored card, and return the payment method."""
        method = {"type": "accept_token", "accept_token": self._token(CARD)}
        path = f"/customers/{self.customer()['id']}/payment_methods"
        return self.post(path, {"payment_method": method})

    def pay(
        self,
        amount: int = _PRICE,
        *,
        card: str = CARD,
        queue: bool = False,
        refused: bool = False,
        **over: Any,
    ) -> Any:
        """Pay with a new token of a card, and return the payment; or the problem if `refused`."""
        method = {"type": "accept_token", "accept_token": self._token(card)}
        body = {"amount": amount, "currency": "USD", "payment_method": method, **over}
        return self.post("/payments", body, queue=queue, refused=refused)

    def upload(self, lines: Sequence[Any], lines_per_second: int = 1) -> Any:
        """Upload a batch that does not start by itself and runs slowly. Return it."""
        headers = {
            "Idempotency-Key": f"trigger-{uuid.uuid4()}",
            "Content-Type": "application/jsonl",
        }
        path = f"/batches?start=false&name=trigger&lines_per_second={lines_per_second}"
        answer = self._call("POST", path, msgspec.json.Encoder().encode_lines(lines), headers)
        return self._must(answer, (201,), path)

    def control(self, path: str, **body: Any) -> Any:
        """Send a request to the simulator's control API, such as `/faults`."""
        answer = self._send("POST", f"{self._simulator}/simulator{path}", msgspec.json.encode(body))
        return self._must(answer, (200,), path)

    def fault(
        self, kind: str, transaction_type: str = "authCaptureTransaction", **more: Any
    ) -> None:
        """Let this shop's next call of a type meet a fault."""
        fault = {"kind": kind, "count": 1, "transaction_type": transaction_type, **more}
        self.control("/faults", login=self._login, **fault)

    def set_status(self, payment: Any, status: str) -> None:
        """Set the status that the simulator has of a payment's transaction."""
        self.control("/status", trans_id=payment["processor"]["transaction_id"], status=status)

    def types_of(self, payment_id: str) -> list[str]:
        """Return the types of a payment's events, oldest first."""
        return [event["type"] for event in self.get(f"/payments/{payment_id}/events")["data"]]

    def until(self, there: Callable[[], bool], *, within_s: float, what: str) -> None:
        """Wait until something is so. Raises TrialFailed if it is not within so many seconds."""
        ends = time.monotonic() + within_s
        while not there():
            if time.monotonic() > ends:
                raise TrialFailed(f"not within {within_s:g} s: {what}")
            time.sleep(_LOOK_EVERY_S)

    def has(self, payment_id: str, event_type: str, *, within_s: float) -> None:
        """Wait until a payment has an event of a type. Raises TrialFailed."""
        self.until(
            lambda: event_type in self.types_of(payment_id),
            within_s=within_s,
            what=f"{event_type} of {payment_id}",
        )

    def _token(self, card: str) -> dict[str, str]:
        """Return the token that the page of a shop would get for a card, or for BANK."""
        method = {"token": {"cardNumber": card, "expirationDate": "122035", "cardCode": "900"}}
        if card == BANK:
            method = {"bankToken": _BANK_ACCOUNT}
        request = {
            "securePaymentContainerRequest": {
                "merchantAuthentication": {
                    "name": self._login,
                    "transactionKey": self._transaction_key,
                },
                "data": {"type": "TOKEN", "id": str(uuid.uuid4()), **method},
            }
        }
        answer = self._send("POST", self._simulator + WIRE, msgspec.json.encode(request))
        with suppress(msgspec.MsgspecError, KeyError, TypeError):
            opaque = msgspec.json.decode(answer.body.removeprefix(b"\xef\xbb\xbf"))["opaqueData"]
            return {
                "data_descriptor": opaque["dataDescriptor"],
                "data_value": opaque["dataValue"],
            }
        raise TrialFailed("the simulator gives no token: is the merchant's account known there?")

    def _call(
        self, method: str, path: str, body: bytes | None = None, more: dict[str, str] | None = None
    ) -> Answer:
        headers = {"Authorization": f"Bearer {self._key}", **(more or {})}
        return self._send(method, self._api + path, body, headers)

    def _send(
        self, method: str, url: str, body: bytes | None, headers: dict[str, str] | None = None
    ) -> Answer:
        json = {"Content-Type": "application/json"} if body is not None else {}
        try:
            return call(method, url, headers=json | (headers or {}), body=body, limit_s=_LIMIT_S)
        except (NoAnswer, ValueError) as error:
            raise TrialFailed(f"{url} does not answer: {error}") from error

    def _must(self, answer: Answer, wanted: tuple[int, ...], path: str) -> Any:
        if answer.status not in wanted:
            said = answer.body[:300].decode("utf-8", "replace")
            raise TrialFailed(f"{path} was answered with {answer.status}: {said}")
        return msgspec.json.decode(answer.body)


def simulator_at(processor_url: str) -> str | None:
    """Return the simulator's address if this processor's address is one of it, else None."""
    if not processor_url.endswith(WIRE):
        return None
    base = processor_url.removesuffix(WIRE)
    try:
        answer = call("GET", f"{base}/simulator/livez", limit_s=5.0, most_bytes=1024)
    except (NoAnswer, ValueError):
        return None
    return base if answer.status == 200 and b'"status"' in answer.body else None
