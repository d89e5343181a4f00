"""The exporter against a collector that is away, slow, overloaded, choosy, or gone."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from easypay.observability.tracing import export, otlp
from easypay.observability.tracing.attributes import Value
from easypay.observability.tracing.export import Exporter
from harness import free_port, until
from tracing.intake import Intake, attributes, partial_success, taking


def span(*attributes: tuple[str, Value]) -> bytes:
    now = time.time_ns()
    return otlp.span(otlp.new_trace(), otlp.described("begin", "internal", *attributes), now, now)


class Sending:
    """An exporter, and what it counted."""

    def __init__(self, url: str, **headers: str) -> None:
        self.counts: Counter[str] = Counter()
        self.exporter = Exporter(
            url, headers=headers, resource={"service.name": "easypay"}, counted=self._count
        )

    def _count(self, result: str, spans: int) -> None:
        self.counts[result] += spans

    def put(self, count: int = 1) -> None:
        for _ in range(count):
            self.exporter.put(span(), 1)

    async def counted(self, **expected: int) -> None:
        async def so() -> bool:
            return +self.counts == Counter(expected)

        await until(so, within_s=30, what=f"{expected}, not {self.counts}")

    async def close(self, within_s: float = 5.0) -> None:
        await asyncio.to_thread(self.exporter.close, within_s)


@asynccontextmanager
async def dripping(piece: bytes, *, once: bool = False) -> AsyncIterator[str]:
    """Yield the address of a server that answers with the same bytes for ever."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.read(1)
            writer.write(piece)
            while not once:
                await writer.drain()
                await asyncio.sleep(0.05)
                writer.write(piece)
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.fixture
async def intake() -> AsyncIterator[Intake]:
    async with taking() as made:
        yield made


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "GATHER_S", 0.02)
    monkeypatch.setattr(export, "_FIRST_PAUSE_S", 0.02)


async def test_spans_arrive_together_with_the_headers_of_the_operator(intake: Intake) -> None:
    sending = Sending(f"{intake.url}/", Authorization="ApiKey abc")
    sending.put(3)
    await sending.close()
    assert sending.counts == {"sent": 3}
    assert len(intake.spans) == 3
    assert {head["authorization"] for head in intake.heads} == {"ApiKey abc"}
    assert intake.resources[0]["service.name"] == "easypay"


async def test_every_form_of_a_value_arrives_as_it_was(intake: Intake) -> None:
    values: dict[str, Value] = {
        "http.route": "/api/v1/" + "a" * 200,
        "http.response.status_code": 201,
        "db.operation.batch.size": 0,
        "easypay.group.wait": 0.000123,
        "easypay.replayed": True,
    }
    sending = Sending(intake.url)
    sending.exporter.put(span(*values.items(), ("easypay.outcome", "Not a word")), 1)
    await sending.close()
    (arrived,) = intake.spans
    assert attributes(arrived) == values


async def test_429_and_503_are_tried_again_when_the_collector_says(intake: Intake) -> None:
    intake.answers = [(429, {"Retry-After": "1"}, b""), (503, {}, b"")]
    sending = Sending(intake.url)
    begun = time.monotonic()
    sending.put()
    await sending.counted(sent=1)
    assert time.monotonic() - begun >= 1.0, "Retry-After was not heeded"
    assert len(intake.spans) == 1
    assert len(intake.heads) == 3
    await sending.close()


@pytest.mark.parametrize("status", [400, 401, 413, 500])
async def test_what_a_collector_refuses_for_good_is_sent_once(
    intake: Intake, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    intake.answers = [(status, {}, b"")]
    sending = Sending(intake.url)
    sending.put()
    await sending.counted(failed=1)
    sending.put()
    await sending.counted(failed=1, sent=1)
    assert len(intake.heads) == 2
    assert f"the collector answered {status}" in caplog.text
    await sending.close()


async def test_spans_that_a_collector_refuses_beside_others_are_counted(
    intake: Intake, caplog: pytest.LogCaptureFixture
) -> None:
    intake.answers = [partial_success(1, "too old: 4111111111111111")]
    sending = Sending(intake.url)
    sending.exporter.put(span() + span() + span(), 3)
    await sending.counted(sent=2, refused=1)
    assert "refused 1 spans" in caplog.text
    assert "4111111111111111" not in caplog.text
    assert len(intake.heads) == 1, "what was refused is not sent again"
    await sending.close()


async def test_a_closed_connection_is_replaced(intake: Intake) -> None:
    sending = Sending(intake.url)
    sending.put()
    await sending.counted(sent=1)
    assert sending.exporter._connection is not None
    assert sending.exporter._connection.sock is not None
    sending.exporter._connection.sock.close()
    sending.put()
    await sending.counted(sent=2)
    await sending.close()


async def test_without_a_collector_memory_is_bounded_and_drops_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(export, "MOST_QUEUED_BYTES", 2_000)
    sending = Sending(f"http://127.0.0.1:{free_port()}")
    begun = time.monotonic()
    sending.put(500)
    assert time.monotonic() - begun < 5, "put never waits"
    assert sending.counts["full"] >= 400
    assert sending.exporter._bytes <= 2_000
    await sending.close()
    assert sending.counts["full"] + sending.counts["failed"] == 500
    assert sending.exporter._bytes == 0


async def test_a_stop_sends_what_is_left_and_waits_no_longer_than_it_may(intake: Intake) -> None:
    sending = Sending(intake.url)
    sending.put(5)
    await sending.close()
    assert sending.counts == {"sent": 5}
    intake.answers = [None, None, None]
    hanging = Sending(intake.url)
    hanging.put(5)
    begun = time.monotonic()
    await hanging.close(0.3)
    assert time.monotonic() - begun < 5
    await hanging.counted(failed=5)
    hanging.put()
    assert hanging.counts["full"] == 1, "after the stop nothing is taken"


@pytest.mark.parametrize("status", [301, 307, 308])
async def test_a_redirect_is_not_followed(intake: Intake, status: int) -> None:
    async with taking() as elsewhere:
        intake.answers = [(status, {"Location": f"{elsewhere.url}/v1/traces"}, b"")]
        sending = Sending(intake.url, Authorization="ApiKey abc")
        sending.put()
        await sending.counted(failed=1)
        await sending.close()
        assert elsewhere.heads == []


@pytest.mark.parametrize("piece", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_an_answer_that_never_ends_is_cut_off(
    piece: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One byte now and then is an answer within the limit, each time."""
    monkeypatch.setattr(export, "ANSWER_WITHIN_S", 0.2)
    async with dripping(piece) as url:
        sending = Sending(url)
        sending.put()
        await sending.counted(failed=1)
        await sending.close()


@pytest.mark.parametrize(
    ("head", "counts"),
    [
        (b"HTTP/1.1 429 Wait\r\nRetry-After: \xb2\r\nContent-Length: 0\r\n\r\n", {"failed": 1}),
        (b"nothing of HTTP\r\n\r\n", {"failed": 1}),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n<p>", {"sent": 1}),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * 99_999, {"sent": 1}),
    ],
)
async def test_garbage_is_no_bug_of_ours(
    head: bytes,
    counts: dict[str, int],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(export, "ANSWER_WITHIN_S", 0.3)
    async with dripping(head, once=True) as url:
        sending = Sending(url)
        sending.put()
        await sending.counted(**counts)
        await sending.close()
    assert "spans cannot be sent" not in caplog.text


@pytest.mark.parametrize(("refused", "counts"), [(-5, {"sent": 3}), (10**18, {"refused": 3})])
async def test_no_count_falls_whatever_a_collector_says_that_it_refused(
    intake: Intake, refused: int, counts: dict[str, int]
) -> None:
    intake.answers = [partial_success(refused, "")]
    sending = Sending(intake.url)
    sending.exporter.put(span() + span() + span(), 3)
    await sending.close()
    assert +sending.counts == Counter(counts)


async def test_a_retry_after_of_days_waits_half_a_minute_and_a_stop_not_at_all(
    intake: Intake,
) -> None:
    intake.answers = [(429, {"Retry-After": "999999999"}, b"")]
    sending = Sending(intake.url)
    sending.put()

    async def asked() -> bool:
        return bool(intake.heads)

    await until(asked, within_s=30, what="the first try")
    await sending.close()
    assert sending.counts == {"sent": 1}, "the stop tries once more"


async def test_nothing_else_runs_after_a_stop(intake: Intake) -> None:
    sending = Sending(intake.url)
    await sending.close()
    assert sending.exporter._thread not in threading.enumerate()
