"""A shop that takes payments through EasyPay, in one file: copy what you need.

One rule makes it safe: save the request and its Idempotency-Key before sending it, and whenever
no outcome came back, send the same request with the same key. A double click, a lost reply and
a `kill -9` then all end in one charge.

EasyPay tells of each change by webhook. The shop believes only what is signed with its secret, and
asks for itself if it is told nothing.
"""

import base64
import hmac
import html
import http.client
import json
import os
import secrets
import sqlite3
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import urlsplit


def setting(name: str, demo: str, suffix: str = "") -> str:
    """A setting from the environment, or what `make run` wrote to .easypay/demo.json."""
    if value := os.environ.get(name):
        return value
    try:
        demo_stack: dict[str, str] = json.loads(Path(".easypay/demo.json").read_text())
        return demo_stack[demo] + suffix
    except (OSError, TypeError):
        sys.exit(f"shop: start `make run` and run this in the same directory, or set {name}")


API = setting("EASYPAY_URL", "api_url") + "/api/v1"
API_KEY = setting("EASYPAY_API_KEY", "api_key")
ACCEPT_JS = setting("ACCEPT_JS_URL", "simulator_url", "/v1/Accept.js")
LOGIN_ID = os.environ.get("ACCEPT_LOGIN_ID", "easypay-sim")
CLIENT_KEY = os.environ.get(  # public; this one is the simulator's
    "ACCEPT_CLIENT_KEY", "704df43f3c40c81d73489c5563024f6c5a437dadc537b1b2cb74e41b1ee8929f"
)
DATABASE = os.environ.get("SHOP_DATABASE", "shop.sqlite3")
PORT = int(os.environ.get("SHOP_PORT", "8080"))
WEBHOOK_SECRET = os.environ.get("SHOP_WEBHOOK_SECRET", "")  # whsec_…; empty: no webhooks

TIMEOUT_S = 30
POLL_S = 1
POLL_TOLD_S = 60  # with webhooks: for what EasyPay could not tell
MOST_BYTES = 65_536
TOO_OLD_S = 300
HERE = Path(__file__).parent
PRICE = (2500, "USD")  # minor units: 25.00 USD

PAYABLE = ("open", "declined", "refused", "failed")
"""No payment was made: the customer may pay, or try again."""
UNFINISHED = ("sending", "processing", "in_review")
"""The outcome is not known yet. Never start another payment for such an order."""
REFUSALS = (
    "malformed_body", "validation_failed", "not_executed",
    "processor_rejected", "processor_not_set_up", "processor_not_ready",
)  # fmt: skip
"""Problems that end an attempt: no money moved, and a repeat would get the same answer."""

SCHEMA = """
    CREATE TABLE IF NOT EXISTS orders (
        id TEXT PRIMARY KEY,                -- hard to guess: it is the address of the order's page
        amount INTEGER NOT NULL,            -- minor units
        currency TEXT NOT NULL,
        status TEXT NOT NULL DEFAULT 'open',    -- ours: open, sending, refused; else EasyPay's
        attempt INTEGER NOT NULL DEFAULT 0, -- the Idempotency-Key is the id and this number
        request TEXT,                       -- the attempt's body, to repeat it unchanged
        payment_id TEXT,
        version INTEGER NOT NULL DEFAULT 0  -- of the payment: an older one is ignored
    )"""

Order = dict[str, Any]


def sql(statement: str, *parameters: Any) -> list[Order]:
    """Run one statement in a transaction of its own. It is on disk when this returns."""
    with closing(sqlite3.connect(DATABASE, timeout=10, isolation_level=None)) as connection:
        cursor = connection.execute(statement, parameters)
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor]


def find(order_id: str) -> Order | None:
    return next(iter(sql("SELECT * FROM orders WHERE id = ?", order_id)), None)


def current(order: Order) -> Order:
    return sql("SELECT * FROM orders WHERE id = ?", order["id"])[0]


def new_order() -> str:
    order_id = secrets.token_urlsafe(16)
    sql("INSERT INTO orders (id, amount, currency) VALUES (?, ?, ?)", order_id, *PRICE)
    return order_id


def begin(order: Order, attempt: int, token: dict[str, str], postal_code: str) -> None:
    """Save the request, and its key with it, before anything is sent.

    If a page is submitted twice, the first submission wins. The second changes nothing, and its
    token is never used.
    """
    request: dict[str, Any] = {
        "amount": order["amount"],
        "currency": order["currency"],
        "payment_method": {"type": "accept_token", "accept_token": token},
        "order_reference": order["id"],
    }
    if postal_code:
        request["billing_address"] = {"postal_code": postal_code}
    sql(
        "UPDATE orders SET status = 'sending', attempt = attempt + 1, request = ?,"
        " payment_id = NULL, version = 0"
        f" WHERE id = ? AND attempt = ? AND status IN {PAYABLE}",
        json.dumps(request),
        order["id"],
        attempt,
    )


def settle(order: Order) -> None:
    """Ask EasyPay for the outcome and save it. It is safe to call this at any time, repeatedly."""
    if order["status"] == "sending":
        key = f"{order['id']}.{order['attempt']}"
        status, said = call("POST", "/payments", order["request"], key)
    elif order["status"] in UNFINISHED:
        status, said = call("GET", f"/payments/{order['payment_id']}")
    else:
        return
    if status in (200, 201, 202):
        record(order, said)
    elif status and said.get("code") in REFUSALS:
        sql(
            "UPDATE orders SET status = 'refused'"
            " WHERE id = ? AND attempt = ? AND status = 'sending'",
            order["id"],
            order["attempt"],
        )
    elif said.get("code") != "request_in_progress":  # this proves nothing: `follow` asks again
        print(f"order {order['id']}: {status} {said.get('code')}", file=sys.stderr)


def record(order: Order, payment: dict[str, Any]) -> None:
    """Save a payment as EasyPay shows it, in a reply or in a webhook."""
    sql(
        "UPDATE orders SET status = ?, payment_id = ?, version = ?"
        " WHERE id = ? AND attempt = ? AND version < ?",
        payment["status"],
        payment["id"],
        payment["version"],
        order["id"],
        order["attempt"],
        payment["version"],
    )


def verify(headers: Any, body: bytes) -> bool:
    """Whether a message is from EasyPay: signed with our secret, within the last minutes."""
    key = base64.b64decode(WEBHOOK_SECRET.removeprefix("whsec_"))
    sent_at = headers.get("webhook-timestamp", "")
    if not key or not sent_at.isdecimal() or abs(time.time() - int(sent_at)) > TOO_OLD_S:
        return False
    signed = f"{headers.get('webhook-id', '')}.{sent_at}.".encode() + body
    wanted = "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    given = headers.get("webhook-signature", "").encode().split(b" ")
    return any(hmac.compare_digest(wanted.encode(), each) for each in given)


NEWS: set[str] = set()
"""Orders that `follow` is to ask about now."""


def told(event: dict[str, Any]) -> None:
    """Save what an event says of a payment. A message that comes twice, or late, changes nothing:
    `record` ignores a version that is not newer."""
    payment = event.get("data") or {}  # none: the message would be too long
    order = find(str(payment.get("order_reference")))
    if order and order["payment_id"] == payment["id"]:
        record(order, payment)
    elif order and order["status"] in UNFINISHED:  # the reply with this payment has not come yet
        NEWS.add(order["id"])


def call(method: str, path: str, body: str | None = None, key: str = "") -> tuple[int, Any]:
    """One request to EasyPay: its HTTP status and JSON, or 0 and {} if no answer came."""
    headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}
    if key:
        headers["Idempotency-Key"] = key
    data = body.encode() if body else None
    request = urllib.request.Request(API + path, data, headers, method=method)
    try:
        try:
            reply = urllib.request.urlopen(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            reply = error  # a problem is an answer too
        with reply:
            said = json.load(reply)
            return (reply.status, said) if isinstance(said, dict) else (0, {})
    except (OSError, http.client.HTTPException, ValueError):
        return 0, {}


def follow() -> None:
    """Finish unfinished orders, including those that an earlier process left when it was killed.

    It repeats requests whose replies were lost. Otherwise it is needed only if no webhook comes: it
    asks once a second without webhooks, and once a minute with them.
    """
    asked_all = -float("inf")
    while True:
        try:
            orders = sql(
                f"SELECT * FROM orders WHERE status IN {UNFINISHED} ORDER BY random() LIMIT 100"
            )
            pause_s = POLL_TOLD_S if WEBHOOK_SECRET else POLL_S
            every = time.monotonic() - asked_all >= pause_s
            if every:
                asked_all = time.monotonic()
            for order in orders:
                if every or order["status"] == "sending" or order["id"] in NEWS:
                    if order["status"] != "sending":
                        NEWS.discard(order["id"])
                    settle(order)
        except (sqlite3.Error, KeyError) as error:  # also a reply that is no payment
            print(f"asked again later: {error!r}", file=sys.stderr)
        time.sleep(POLL_S)


ORIGINS = f"{'://'.join(urlsplit(ACCEPT_JS)[:2])} https://*.authorize.net"
POLICY = f"default-src 'none'; script-src 'self' {ORIGINS}; connect-src 'self' {ORIGINS}"
"""Customers type card numbers into the page, so it may load and call nothing else."""
PAGE = Template((HERE / "page.html").read_text()).substitute(
    accept_js=html.escape(ACCEPT_JS),
    login_id=html.escape(LOGIN_ID),
    client_key=html.escape(CLIENT_KEY),
)
SCRIPT = (HERE / "page.js").read_text()
START = (
    '<!DOCTYPE html><title>Shop</title><form method="post" action="/orders"><button>Buy</button>'
)


class Shop(BaseHTTPRequestHandler):
    """The shop's pages. An order's page is /orders/<id>."""

    timeout = TIMEOUT_S

    def do_GET(self) -> None:
        match self.path.split("/")[1:]:
            case [""]:
                self.answer(200, "text/html", START)
            case ["page.js"]:
                self.answer(200, "text/javascript", SCRIPT)
            case ["orders", order_id] if find(order_id):
                self.answer(200, "text/html", PAGE)
            case ["orders", order_id, "status"] if order := find(order_id):
                self.show(order)
            case _:
                self.answer(404, "text/plain", "There is no such page.")

    def do_POST(self) -> None:
        match self.path.split("/")[1:]:
            case ["easypay"]:
                self.webhook()
            case ["orders"]:
                self.answer(303, "text/plain", "", location=f"/orders/{new_order()}")
            case ["orders", order_id, "pay"] if order := find(order_id):
                try:
                    said = json.loads(self.body())
                    token = {
                        "data_descriptor": str(said["dataDescriptor"]),
                        "data_value": str(said["dataValue"]),
                    }
                    attempt, postal_code = int(said["attempt"]), str(said.get("postalCode", ""))
                except (ValueError, KeyError, TypeError, AttributeError):
                    self.answer(400, "text/plain", "attempt, dataDescriptor or dataValue is wrong")
                    return
                begin(order, attempt, token, postal_code)
                settle(current(order))
                self.show(current(order))
            case _:
                self.answer(404, "text/plain", "There is no such page.")

    def webhook(self) -> None:
        """A message of EasyPay. Any answer but 2xx, and it comes again."""
        body = self.body()
        if not verify(self.headers, body):
            self.answer(400, "text/plain", "The signature is wrong.")
            return
        told(json.loads(body))
        self.answer(200, "text/plain", "Thank you.")

    def show(self, order: Order) -> None:
        told = {"status": order["status"], "attempt": order["attempt"]}
        told["payable"] = order["status"] in PAYABLE
        told["unfinished"] = order["status"] in UNFINISHED
        self.answer(200, "application/json", json.dumps(told))

    def body(self) -> bytes:
        length = int(self.headers.get("Content-Length", "0"))
        return self.rfile.read(max(0, min(length, MOST_BYTES)))

    def answer(self, status: int, kind: str, text: str, location: str = "") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("Cache-Control", "no-store")
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    sql(SCHEMA)
    threading.Thread(target=follow, daemon=True).start()
    with ThreadingHTTPServer(("127.0.0.1", PORT), Shop) as server:
        print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
