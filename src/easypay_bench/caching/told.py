"""How soon a change that one gateway records is known to another that has the payment cached.

Each change is a capture at the first gateway, of a payment that the second one has just answered
from its cache. The second is asked again and again, with leave for a minute, until it answers what
is new. Time is counted from the `updated_at` of the change: the first gateway takes it just before
it commits. So what is measured is the truth and a little more: the commit, and the last question.
"""

import http.client
import json
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from easypay_bench.load import LoadFailed
from easypay_bench.payment_request import PATH, body_of

LEAVE: Final = {"Cache-Control": "max-age=60"}
_AT_ONCE: Final = 2
_KEPT_WITHIN_S: Final = 15.0
_KNOWN_WITHIN_S: Final = 5.0
_LONGER_THAN_UNTOLD_S: Final = 1.1
_TIMEOUT_S: Final = 10.0


def late_ms(first: str, second: str, api_key: str, changes: int) -> list[float]:
    """Return after how many milliseconds each change was known, in rising order.

    `first`, `second`: the addresses of two gateways on one database. Raises LoadFailed.
    """

    def some(count: int) -> list[float]:
        with _asking(first, api_key) as here, _asking(second, api_key) as there:
            _hears(here, there)
            return [_one(here, there) for _ in range(count)]

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        share = max(1, changes // _AT_ONCE)
        return sorted(ms for part in threads.map(some, [share] * _AT_ONCE) for ms in part)


class _Asking:
    """One connection to one gateway."""

    def __init__(self, connection: http.client.HTTPConnection, api_key: str) -> None:
        self._connection = connection
        self._api_key = api_key

    def post(self, path: str, body: object) -> Any:
        """Return what was created. Raises LoadFailed."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": secrets.token_hex(16)}
        status, _, answer = self._ask("POST", path, json.dumps(body), headers)
        if status != http.HTTPStatus.CREATED:
            raise LoadFailed(f"POST {path} was answered with {status}: {answer}")
        return answer

    def read(self, payment_id: str) -> tuple[int | None, Any]:
        """Return the age of the answer, None if it was read just now, and the payment."""
        status, headers, answer = self._ask("GET", f"{PATH}/{payment_id}", None, LEAVE)
        if status != http.HTTPStatus.OK:
            raise LoadFailed(f"a payment was answered with {status}: {answer}")
        return (int(headers["age"]) if "age" in headers else None), answer

    def _ask(
        self, method: str, path: str, body: str | None, headers: dict[str, str]
    ) -> tuple[int, Any, Any]:
        key = {"Authorization": f"Bearer {self._api_key}"}
        self._connection.request(method, path, body, headers | key)
        answer = self._connection.getresponse()
        return answer.status, answer.headers, json.loads(answer.read())


@contextmanager
def _asking(url: str, api_key: str) -> Iterator[_Asking]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
    try:
        yield _Asking(connection, api_key)
    except (OSError, http.client.HTTPException) as error:
        raise LoadFailed(f"{url}: {error}") from error
    finally:
        connection.close()


def _authorized(here: _Asking) -> str:
    payment: dict[str, str] = here.post(PATH, body_of(capture="manual"))
    return payment["id"]


def _hears(here: _Asking, there: _Asking) -> None:
    """Wait until both gateways keep an answer for more than a second: they are told of changes."""
    payment_id, ends = _authorized(here), time.monotonic() + _KEPT_WITHIN_S
    for gateway in (here, there):
        while not gateway.read(payment_id)[0]:
            if time.monotonic() > ends:
                raise LoadFailed("a gateway keeps no answer for longer than a second: see its log")
            time.sleep(_LONGER_THAN_UNTOLD_S)


def _one(here: _Asking, there: _Asking) -> float:
    """Return after how many milliseconds one change was known."""
    payment_id = _authorized(here)
    while there.read(payment_id)[0] is None:
        pass  # until it comes from the cache
    here.post(f"{PATH}/{payment_id}/capture", {})
    ends = time.monotonic() + _KNOWN_WITHIN_S
    while True:
        _, payment = there.read(payment_id)
        now = datetime.now(UTC)
        if payment["status"] == "captured":
            return (now - datetime.fromisoformat(payment["updated_at"])).total_seconds() * 1000
        if time.monotonic() > ends:
            raise LoadFailed(f"a change was not known after {_KNOWN_WITHIN_S:.0f} s")
