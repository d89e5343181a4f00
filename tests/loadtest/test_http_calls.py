"""A server that is no gateway may answer anything: the error says what to correct."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from easypay_bench import http_calls


@contextmanager
def answering(status: int, media_type: str, body: bytes) -> Iterator[str]:
    """Yield the URL of a server that always gives this answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "media_type", "body"),
    [
        (200, "application/json", b"{"),
        (200, "application/json", b"\xff"),
        (500, http_calls.PROBLEM, b"<html>"),
        (500, http_calls.PROBLEM, b"[1]"),
        (404, "text/html", b"{}"),
    ],
)
def test_an_answer_that_no_gateway_gives_is_told_as_such(
    status: int, media_type: str, body: bytes
) -> None:
    with answering(status, media_type, body) as url:
        with pytest.raises(http_calls.StackFailed, match="not as an EasyPay gateway"):
            http_calls.call("GET", f"{url}/api/v1/admin/merchants")


def test_a_body_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_calls, "MOST_BYTES", 10)
    with answering(200, "application/json", b'"' + b"x" * 1000 + b'"') as url:
        with pytest.raises(http_calls.StackFailed, match="not as an EasyPay gateway"):
            http_calls.call("GET", url)
