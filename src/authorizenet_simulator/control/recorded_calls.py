"""The newest calls of clients, masked as they are recorded, for debugging an integration.

Of each second only the first so many calls are kept: under load the rest costs one look at the
clock, and a list of two hundred would say nothing anyway. Nothing unmasked is ever kept.
"""

import re
import time
from collections import deque
from datetime import UTC, datetime
from typing import Any, Final

from authorizenet_simulator.control.masking import mask
from authorizenet_simulator.state.ledger import Ledger

MOST_KEPT: Final = 200


class Kept:
    """One call, masked. `status` 0: the connection was cut; `fault`: the kind it met, or ''."""

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
    """A ring of the newest calls."""

    def __init__(self, ledger: Ledger) -> None:
        self.passed = 0
        """How many were not kept because their second was full."""
        self._ledger = ledger
        self._ring: deque[Kept] = deque(maxlen=MOST_KEPT)
        self._number = 0
        self._left = 0
        self._second_ends = 0.0

    def begin(self) -> float:
        """When the call began, for `end`; 0.0 where it will not be kept."""
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
        """Keep a call that `begin` let in."""
        self._number += 1
        self._ring.append(
            Kept(
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
        """Newest first, of those that match."""
        found: list[dict[str, Any]] = []
        for kept in reversed(self._ring):
            if len(found) >= limit:
                break
            told = _told(kept)
            if (
                (login is None or told["login"] == login)
                and (method is None or told["method"].lower() == method.lower())
                and (contains is None or contains in kept.request or contains in kept.reply)
            ):
                found.append(told)
        return found


_JSON_METHOD: Final = re.compile(r'\s*\{\s*"([A-Za-z]\w*)"')
_XML_METHOD: Final = re.compile(r"<(?:[\w.-]+:)?([A-Za-z]\w*)[\s>/]")
_LOGIN: Final = re.compile(r'"name"\s*:\s*"([^"]*)"|<(?:[\w.-]+:)?name>\s*([^<]*?)\s*<')
_TYPE: Final = re.compile(r'"transactionType"\s*:\s*"(\w+)"|<(?:[\w.-]+:)?transactionType>\s*(\w+)')
_CODE: Final = re.compile(r'"code"\s*:\s*"([EI]\d{5})"|<code>([EI]\d{5})<')
_RESPONSE_CODE: Final = re.compile(r'"responseCode"\s*:\s*"?(\d)|<responseCode>(\d)<')
_REASON: Final = re.compile(r'"(?:errorCode|code)"\s*:\s*"(\d+)"|<(?:errorCode|code)>(\d+)<')


def _told(kept: Kept) -> dict[str, Any]:
    xml = kept.request.lstrip()[:1] == "<"
    method = _first(_XML_METHOD if xml else _JSON_METHOD, kept.request)
    outcome = _first(_CODE, kept.reply)
    if (response_code := _first(_RESPONSE_CODE, kept.reply)) and _first(_TYPE, kept.request):
        outcome = f"{outcome} {response_code}/{_first(_REASON, kept.reply)}"
    return {
        "number": kept.number,
        "at": datetime.fromtimestamp(kept.at, UTC).isoformat(timespec="milliseconds"),
        "client": kept.client,
        "login": _first(_LOGIN, kept.request),
        "method": method,
        "transaction_type": _first(_TYPE, kept.request),
        "format": "XML" if xml else "JSON",
        "duration_ms": round(kept.duration_ms, 3),
        "http_status": kept.status,
        "content_type": kept.kind,
        "outcome": outcome,
        "fault": kept.fault,
        "request": kept.request,
        "reply": kept.reply,
    }


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return "" if found is None else next((group for group in found.groups() if group), "")
