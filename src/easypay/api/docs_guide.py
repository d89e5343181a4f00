"""The introduction of /docs: take a payment, and what may come of it. Every line can be pasted."""

import json
import shlex
from collections.abc import Mapping
from typing import Any, Final

from easypay.api.docs_markup import json_block, prose, shell
from easypay.api.example_replies import reply_examples
from easypay.api.examples import SALE, request_examples
from easypay.payments.requests import CreatePayment
from easypay.problem_table import PROBLEMS

SETUP: Final = """\
demo() { python3 -c "import json; print(json.load(open('.easypay/demo.json'))['$1'])"; }
API=$(demo api_url) KEY=$(demo api_key)
ADMIN_KEY=$(demo admin_key) SIMULATOR=$(demo simulator_url)"""

_NEWEST: Final = """\
PAYMENT=$(curl -sS "$API/api/v1/payments?limit=1" -H "Authorization: Bearer $KEY" |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["data"][0]["id"])')"""

_LOSE: Final = """\
curl -sS "$SIMULATOR/simulator/faults" -H 'Content-Type: application/json' \\
  -d '{"kind": "drop_reply", "count": 1}'"""

_IDEMPOTENCY: Final = '-H "Idempotency-Key: $(date +%s)-$RANDOM"'


def curl(method: str, path: str, key: str, *, money: bool = False, body: Any = None) -> str:
    """A line for a terminal. `path` may hold shell variables; `key` names the one with the key."""
    said = "" if method == ("GET" if body is None else "POST") else f" -X {method}"
    parts = [f'curl -sS{said} "$API{path}"']
    if key:
        parts.append(f'-H "Authorization: Bearer ${key}"')
    if money:
        parts.append(_IDEMPOTENCY)
    if body is not None:
        parts.append("-H 'Content-Type: application/json'")
        parts.append(f"-d {shlex.quote(_lines(body))}")
    return " \\\n  ".join(parts)


def _lines(body: Any) -> str:
    """JSON with a line for each field, nested ones on their field's line."""
    lines = [f"    {json.dumps(name)}: {json.dumps(value)}" for name, value in body.items()]
    return "{\n" + ",\n".join(lines) + "\n  }" if len(lines) > 1 else json.dumps(body)


def _take(body: Mapping[str, Any]) -> str:
    return curl("POST", "/api/v1/payments", "KEY", money=True, body=body)


def _parts(*parts: str) -> str:
    return "\n".join(part if part.startswith("<") else f"<p>{prose(part)}</p>" for part in parts)


def _shown(operation_id: str, status: int, name: str, *fields: str) -> str:
    """Some fields of an example reply."""
    value = reply_examples(operation_id, status)[name].value
    return json_block({field: value[field] for field in fields})


def _kept() -> str:
    return ", ".join(f"`{code}`" for code, row in PROBLEMS.items() if row.kept)


def chapters() -> list[tuple[str, str, str]]:
    """(anchor, title, HTML) of each."""
    declined = request_examples(CreatePayment)["declined"].value
    payment, refund = "payments_create", "payments_refund"
    return [
        (
            "take-a-payment",
            "Take a payment",
            _parts(
                "Start the gateway with `make run`. It makes a demo merchant and writes its "
                "addresses and keys to `.easypay/demo.json`. In the same directory:",
                shell(SETUP),
                "Then take 25.00 dollars. Amounts are integers of the currency's minor units.",
                shell(_take(SALE)),
                "The answer is 201, and its `status` is the outcome:",
                _shown(payment, 201, "captured", "id", "status", "amount", "captured_amount"),
                "With `capture: manual` the money is held (`authorized`) until you capture or "
                "void it. The calls below speak of `$PAYMENT`; this sets it to the newest one:",
                shell(_NEWEST),
                "Card data should reach you as an Accept.js token (`accept_token`). Raw cards "
                "are taken only where a merchant's settings allow it, as the demo's do.",
            ),
        ),
        (
            "declined",
            "Declined",
            _parts(
                "A decline is an outcome, not an error: 201, with `status: declined` and a "
                "`decline_code`. The simulator and the processor's sandbox decline postal code "
                "46282:",
                shell(_take(declined)),
                _shown(payment, 201, "declined", "status", "decline_code", "captured_amount"),
                "To try another card, send a new request with a new Idempotency-Key.",
            ),
        ),
        (
            "unknown",
            "Unknown",
            _parts(
                "Sometimes no answer comes from the processor in time. The money may or may not "
                "have moved, and EasyPay does not guess: it answers 202 with "
                "`status: processing`, a `Location` and `Retry-After`, and goes on asking the "
                "processor until there is proof. Let the simulator take a payment and lose its "
                "reply:",
                shell(f"{_LOSE}\n{_take(SALE)}"),
                _shown(payment, 202, "processing", "id", "status", "captured_amount"),
                "Read the payment again after some seconds, or repeat the request with the "
                "**same** Idempotency-Key. Never send it with a new one: that would be a second "
                "payment.",
                shell(f"{_NEWEST}\n{curl('GET', '/api/v1/payments/$PAYMENT', 'KEY')}"),
            ),
        ),
        (
            "refund",
            "Refund",
            _parts(
                "All of a payment can be given back at any time. The processor settles once a day, "
                "and voids what has not settled: the refund then says `method: void`, and the "
                "payment is `voided`. A part can be given back once it has settled. The simulator "
                "settles when you say so:",
                shell(
                    'curl -sS -X POST "$SIMULATOR/simulator/settle"\n'
                    + curl(
                        "POST",
                        "/api/v1/payments/$PAYMENT/refunds",
                        "KEY",
                        money=True,
                        body={"amount": 1_000},
                    )
                ),
                _shown(refund, 201, "refund", "id", "status", "method", "amount"),
                "Send `{}` to give back all that is left.",
            ),
        ),
        (
            "idempotency",
            "Idempotency",
            _parts(
                "Every POST that moves money needs an `Idempotency-Key`: a value of your own, "
                "fresh for every new request. Store it before you send. When an answer is lost "
                "(a timeout, a crash, a 5xx), repeat the request unchanged with the same key.",
                '<ul class="points">'
                + "".join(
                    f"<li>{prose(point)}</li>"
                    for point in (
                        "The money moves once. The answer is the same, byte for byte, with "
                        "`Idempotency-Replayed: true`.",
                        "While the first request is running: 409 `request_in_progress`, with "
                        "`Retry-After`.",
                        "The same key with another body or path: 422 `idempotency_key_reused`.",
                        "A key belongs to a merchant and a mode, and is kept for 30 days.",
                        f"These refusals are answers too, kept and replayed: {_kept()}. Any "
                        "other refused request leaves its key as it was before.",
                        "`GET /api/v1/idempotency-keys/{key}` says what became of a key.",
                    )
                )
                + "</ul>",
            ),
        ),
        (
            "errors",
            "Errors",
            _parts(
                "An error is a problem (RFC 9457, `application/problem+json`). Programs read "
                "`code`, which is stable; people read `detail`. `type` leads to a page that says "
                "what to do, `errors` points at each bad field, and `request_id` (also in the "
                "`Request-Id` header of every answer) is what to quote when you ask for help.",
                '<p><a href="#problems">All problems</a>, and whether to try again.</p>',
            ),
        ),
        (
            "conventions",
            "Conventions",
            _parts(
                '<ul class="points">'
                + "".join(
                    f"<li>{prose(point)}</li>"
                    for point in (
                        "**Money**: `{amount, currency}`, an integer of minor units and an ISO "
                        "4217 code. `2500` is 25.00 in USD, 2,500 in JPY, 2.500 in KWD.",
                        "**Keys**: `Authorization: Bearer ep_test_…` or `ep_live_…`. What a test "
                        "key makes, a live key cannot see.",
                        "**Lists**: `{data, has_more, next_cursor}`. Pass `next_cursor` as "
                        "`cursor`, or follow the `Link` header.",
                        "**Times** are RFC 3339 in UTC. **Ids** say what they are (`pay_`, `re_`, "
                        "`op_`, `evt_`) and sort by time.",
                        "**Versions**: reading a payment gives an `ETag`. Send it as "
                        "`If-None-Match` to read only what changed, or as `If-Match` to act only "
                        "on the version you saw.",
                        "**Growth**: fields and words may be added to answers; accept those you "
                        "do not know. A field of yours that we do not know is refused.",
                    )
                )
                + "</ul>",
            ),
        ),
    ]
