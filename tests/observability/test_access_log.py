"""The request log survives the loss of its reader."""

import io
import json
from datetime import UTC, datetime

import pytest

from easypay.card_numbers import contains_card_number
from easypay.ids import new_request_id
from easypay.observability.access_log import AccessLog, Line
from easypay.observability.trace import accept


def line(number: int) -> Line:
    return Line(
        time=datetime.now(UTC), level="info", logger="easypay.request", message="GET /livez 200",
        request_id=f"req_{number}", trace_id="0", method="GET", route="/livez", status=200,
        duration_ms=1.0,
    )  # fmt: skip


class Broken(io.BytesIO):
    """A pipe whose reader goes away and comes back."""

    is_open = False

    def write(self, data: object) -> int:
        if not self.is_open:
            raise BrokenPipeError
        return super().write(data)  # type: ignore[arg-type]


async def test_an_unread_log_does_not_pile_up_and_resumes_when_it_is_read() -> None:
    out = Broken()
    log = AccessLog(out)
    log.write(line(1))
    with pytest.raises(BrokenPipeError):
        log.flush()
    out.is_open = True
    log.write(line(2))
    log.flush()
    [written] = out.getvalue().splitlines()
    assert json.loads(written)["request_id"] == "req_2"


def test_our_own_trace_ids_never_look_like_a_card_number() -> None:
    """It has the form of a UUID. Of random digits, one in ten thousand would look like a card
    number, and a search of the logs for card numbers would find it."""
    for _ in range(50_000):
        assert not contains_card_number(accept(None, new_request_id()).trace_id.decode())
