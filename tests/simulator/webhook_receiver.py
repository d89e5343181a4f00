"""An HTTP server that receives and keeps webhook notifications."""

import hmac
import queue
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import msgspec

from simulator.merchant_client import Merchant

SIGNATURE_KEY = "0123456789ABCDEF" * 8
EVERYTHING = [
    "net.authorize.customer.created",
    "net.authorize.customer.updated",
    "net.authorize.customer.deleted",
    "net.authorize.customer.paymentProfile.created",
    "net.authorize.customer.paymentProfile.updated",
    "net.authorize.customer.paymentProfile.deleted",
    "net.authorize.customer.subscription.created",
    "net.authorize.customer.subscription.updated",
    "net.authorize.customer.subscription.suspended",
    "net.authorize.customer.subscription.terminated",
    "net.authorize.customer.subscription.cancelled",
    "net.authorize.customer.subscription.expiring",
    "net.authorize.customer.subscription.expired",
    "net.authorize.customer.subscription.failed",
    "net.authorize.payment.authorization.created",
    "net.authorize.payment.authcapture.created",
    "net.authorize.payment.capture.created",
    "net.authorize.payment.priorAuthCapture.created",
    "net.authorize.payment.refund.created",
    "net.authorize.payment.void.created",
    "net.authorize.payment.fraud.held",
    "net.authorize.payment.fraud.approved",
    "net.authorize.payment.fraud.declined",
]


def eventually(found: Callable[[], Any]) -> Any:
    """Wait until `found` returns a true value and return it."""
    deadline = time.monotonic() + 45
    while not (value := found()):
        assert time.monotonic() < deadline, "timed out waiting for the condition"
    return value


class Told:
    """A received delivery."""

    def __init__(self, path: str, headers: Any, body: bytes) -> None:
        self.path = path
        self.headers = headers
        self.body = body
        self.envelope = msgspec.json.decode(body, type=dict[str, Any])
        self.event = self.envelope["eventType"].removeprefix("net.authorize.")
        self.payload: dict[str, Any] = self.envelope["payload"]

    @property
    def is_signed(self) -> bool:
        digest = hmac.digest(SIGNATURE_KEY.encode(), self.body, "sha512").hex().upper()
        return bool(self.headers["X-ANET-Signature"] == f"sha512={digest}")


class Receiver:
    """Answers 200, or the next status of `answers`; while `hanging` is set it does not answer."""

    def __init__(self, certificate: Path | None = None) -> None:
        self.told: queue.Queue[Told] = queue.Queue()
        self.answers: list[int] = []
        self.hanging = threading.Event()
        self._release = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.told.put(Told(self.path, self.headers, body))
                if receiver.hanging.is_set():
                    receiver._release.wait(20)
                self.send_response(receiver.answers.pop(0) if receiver.answers else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *said: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        scheme = "http"
        if certificate is not None:
            scheme = "https"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}/notifications?from=anet"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def next(self, timeout_s: float = 5) -> Told:
        return self.told.get(timeout=timeout_s)

    def close(self) -> None:
        self._release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Rest:
    """A merchant's requests under /rest/v1."""

    def __init__(self, shop: Merchant) -> None:
        self.client = shop.process.client
        self.auth = (shop.login, "key-of-the-shop")

    def ask(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        reply = self.raw(method, path, body)
        assert reply.status_code == status, reply.text
        return reply.json() if reply.content else None

    def raw(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return self.client.request(method, f"/rest/v1/{path}", json=body, auth=self.auth)

    def listen(self, url: str, *event_types: str, **fields: Any) -> str:
        """Create a webhook, by default for every event type; return its id."""
        body = {"url": url, "eventTypes": list(event_types or EVERYTHING), **fields}
        found: str = self.ask("POST", "webhooks", body)["webhookId"]
        return found

    def status(self, webhook_id: str) -> str:
        found: str = self.ask("GET", f"webhooks/{webhook_id}")["status"]
        return found

    def notifications(self, query: str = "") -> list[dict[str, Any]]:
        """Return the notifications, newest first."""
        found: list[dict[str, Any]] = self.ask("GET", f"notifications{query}")["notifications"]
        return found
