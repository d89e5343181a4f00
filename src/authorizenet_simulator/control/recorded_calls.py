"""Records the newest API calls, masked, for debugging an integration.

Only the first calls of each second are kept (`recorded_calls_per_s`), so that under load the
others cost one reading of the clock. Nothing unmasked is ever kept.
"""

import re
import time
from collections import deque
from datetime import UTC, datetime
from typing import Any, Final

from authorizenet_simulator.control.masking import mask
from authorizenet_simulator.state.ledger import Ledger

MOST_KEPT: Final = 200


class RecordedCall:
    """One masked call; `status` 0: connection cut; `fault`: the kind of its fault, or ''."""

    __slots__ = (
        "at",
        "client",
        "duration_ms",
        "fault",
        "kind",
        "number",
        "reply",
        "request",
        "status",
    )

    def __init__(
        self,
        number: int,
        at: float,
        client: str,
        duration_ms: float,
        request: str,
        status: int,
        kind: str,
        reply: str,
        fault: str,
    ) -> None:
        self.number = number
        self.at = at
        self.client = client
        self.duration_ms = duration_ms
        self.request = request
        self.status = status
        self.kind = kind
        self.reply = reply
        self.fault = fault


class Calls:
    """A ring buffer of the newest calls."""

    def __init__(self, ledger: Ledger) -> None:
        self.passed = 0
        """How many calls were not kept because of the limit per second."""
        self._ledger = ledger
        self._ring: deque[RecordedCall] = deque(maxlen=MOST_KEPT)
        self._number = 0
        self._left = 0
        self._second_ends = 0.0

    def begin(self) -> float:
        """Return the start time to pass to `end`; 0.0 if the call will not be kept."""
        now = time.monotonic()
        if now >= self._second_ends:
            self._second_ends = now + 1
            self._left = self._ledger.settings.recorded_calls_per_s
        if self._left <= 0:
            self.passed += 1
            return 0.0
        self._left -= 1
        return now

    def end(
        self,
        begun: float,
        client: tuple[str, int] | None,
        request: bytes,
        status: int,
        kind: bytes,
        reply: bytes,
        fault: str = "",
    ) -> None:
        """Record a call for which `begin` returned a start time."""
        self._number += 1
        self._ring.append(
            RecordedCall(
                self._number,
                time.time(),
                f"{client[0]}:{client[1]}" if client else "",
                (time.monotonic() - begun) * 1000,
                mask(request),
                status,
                kind.decode("latin-1"),
                mask(reply),
                fault,
            )
        )

    def forget(self) -> None:
        self._ring.clear()
        self.passed = 0

    def listed(
        self, login: str | None, method: str | None, contains: str | None, limit: int
    ) -> list[dict[str, Any]]:
        """Return the matching calls, newest first."""
        found: list[dict[str, Any]] = []
        for call in reversed(self._ring):
            if len(found) >= limit:
                break
            shown = _shown(call)
            if (
                (login is None or shown["login"] == login)
                and (method is None or shown["method"].lower() == method.lower())
                and (contains is None or contains in call.request or contains in call.reply)
            ):
                found.append(shown)
        return found


_JSON_METHOD: Final = re.compile(r'\s*\{\s*"([A-Za-z]\w*)"')
_XML_METHOD: Final = re.compile(r"<(?:[\w.-]+:)?([A-Za-z]\w*)[\s>/]")
_LOGIN: Final = re.compile(r'"name"\s*:\s*"([^"]*)"|<(?:[\w.-]+:)?name>\s*([^<]*?)\s*<')
_TYPE: Final = re.compile(r'"transactionType"\s*:\s*"(\w+)"|<(?:[\w.-]+:)?transactionType>\s*(\w+)')
_CODE: Final = re.compile(r'"code"\s*:\s*"([EI]\d{5})"|<code>([EI]\d{5})<')
_RESPONSE_CODE: Final = re.compile(r'"responseCode"\s*:\s*"?(\d)|<responseCode>(\d)<')
_REASON: Final = re.compile(r'"(?:errorCode|code)"\s*:\s*"(\d+)"|<(?:errorCode|code)>(\d+)<')


def _shown(call: RecordedCall) -> dict[str, Any]:
    xml = call.request.lstrip()[:1] == "<"
    method = _first(_XML_METHOD if xml else _JSON_METHOD, call.request)
    outcome = _first(_CODE, call.reply)
    if (response_code := _first(_RESPONSE_CODE, call.reply)) and _first(_TYPE, call.request):
        outcome = f"{outcome} {response_code}/{_first(_REASON, call.reply)}"
    return {
        "number": call.number,
        "at": datetime.fromtimestamp(call.at, UTC).isoformat(timespec="milliseconds"),
        "client": call.client,
        "login": _first(_LOGIN, call.request),
        "method": method,
        "transaction_type": _first(_TYPE, call.request),
        "format": "XML" if xml else "JSON",
        "duration_ms": round(call.duration_ms, 3),
        "http_status": call.status,
        "content_type": call.kind,
        "outcome": outcome,
        "fault": call.fault,
        "request": call.request,
        "reply": call.reply,
    }


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return "" if found is None else next((group for group in found.groups() if group), "")
