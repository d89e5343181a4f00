"""A processor that answers with recorded bodies only.

It chooses the body by the request's kind and triggers, by the state of the named transaction, or
because a test scripts it; or it plays a list. It has the interface of `harness.Simulator`, so that
a stack, a shop and `audit` work over either, and it keeps every request.
"""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from json_server import GONE
from recorded import bodies
from recorded.player_state import Play, Request, Row, Rules, Transaction, read
from recorded.scenarios import (
    ACCOUNT_REFUSED,
    ANSWERS,
    APPROVE,
    AUTHORIZATION,
    CAPTURE,
    CHANGED,
    DECLINE,
    DECLINED,
    DETAILS,
    HELD,
    HELD_AUTHORIZED,
    IN_REVIEW,
    LOST,
    MADE,
    REFUND,
    SALE,
    SETTLES,
    TRY_OTHERWISE,
    UNSETTLED,
    VOID,
    VOIDED,
    approved_part,
    brand,
    does,
    reason,
    response_code,
)

Filling = dict[str, str]
FAULTS: Final = {"drop_reply": Play(LOST, done=True), "error_before": Play("html_500", done=False)}
"""The simulator's faults that tests over both processors use."""
PLAYABLE: Final = {**bodies.TEXT, LOST: ""}
"""What a test may script or list: the bodies' texts by their names."""


class Player:
    """One processor for many logins. With a list of bodies, by name or as JSON, it plays only them,
    each about the last invoice number and amount that it got. Ids stay as recorded."""

    def __init__(self, *listed: str | dict[str, Any]) -> None:
        assert all(isinstance(body, dict) or body in PLAYABLE for body in listed), listed
        self.wire = ""
        """The address where `answer` is served."""
        self.requests: list[Request] = []
        self._rules: dict[str, Rules] = {}
        self._transactions: dict[str, Transaction] = {}
        self._rows: list[Row] = []
        self._nonces: dict[str, str] = {}
        """The card number of each nonce that is not used yet."""
        self._scripted: dict[str, list[Play]] = {}
        self._ids = itertools.count(60_200_000_000)
        self.listed = listed
        self.invoice, self.amount = "", "0.00"

    # for tests ------------------------------------------------------------------------------------

    def script(self, about: str, body: str, *, done: bool = False, kind: str | None = None) -> None:
        """Answer the next request (of this kind) about this with `body`. `about`: a purchase order
        number, the id of the named transaction, or `login method` in reporting."""
        assert body in PLAYABLE, body
        self._scripted.setdefault(about, []).append(Play(body, done, kind))

    async def post(self, path: str, **body: Any) -> Any:
        """Follow the orders to the simulator's control API that a player supports."""
        match path:
            case "/accounts":
                self._rules[body["login"]] = Rules(body["currencies"])
            case "/settings":
                rules = self._rules[body["login"]]
                rules.held_above = Decimal(body["held_above"])
                rules.held_as = "held_252" if body["held_action"] == "hold" else "held"
            case "/faults" if body["kind"] in FAULTS:
                fault = (body.get("method"), FAULTS[body["kind"]])
                self._rules[body["login"]].faults.append(fault)
            case "/settle":
                self._settle()
            case _:
                raise AssertionError(f"a player does not support {path} {body}")

    async def slow(self, login: str, *, ms: int) -> None:
        """Delay every answer to this account by `ms` milliseconds."""
        self._rules[login].delay_s = ms / 1000

    async def clear_faults(self) -> None:
        for rules in self._rules.values():
            rules.delay_s, rules.faults = 0.0, []

    async def truth(self, *, login: str, invoice_number: str | None = None) -> list[dict[str, Any]]:
        """Return this account's transactions, oldest first, in the form that `audit` reads."""
        return [
            {
                "trans_id": row.of.trans_id,
                "type": row.kind,
                "amount": row.amount,
                "response_code": "2" if row.of.status == DECLINED else row.code,
                "invoice_number": row.invoice,
                "status": row.of.status,
            }
            for row in self._rows
            if row.of.login == login and invoice_number in (None, row.invoice)
        ]

    @property
    def left(self) -> tuple[str | dict[str, Any], ...]:
        """The bodies of the list that were not played yet."""
        return self.listed[len(self.requests) :]

    @property
    def asked(self) -> list[str]:
        """Each request's kind, or its method in reporting."""
        return [asked.kind or asked.method for asked in self.requests]

    def moves(self, login: str) -> list[Request]:
        """Return the gateway's requests that can move money for a login, in order. They name the
        operation twice; requests made at the processor's own site do not."""
        mine = [asked for asked in self.requests if asked.login == login and asked.kind]
        return [asked for asked in mine if asked.ref_id == asked.invoice]

    def broken_rules(self, login: str) -> list[str]:
        """Describe each second request that could have moved money for one operation, and each
        second capture or void. A second request may follow a refusal that leaves another way, and a
        void may follow a partial approval."""
        done = Counter((row.of.trans_id, row.kind) for row in self._rows if row.of.login == login)
        wrong = [
            f"{count} times {kind} of {trans_id}"
            for (trans_id, kind), count in done.items()
            if count > 1
        ]
        last: dict[str, Request] = {}
        for asked in self.moves(login):
            before = last.get(asked.invoice)
            last[asked.invoice] = asked
            if before is None or before.body in ACCOUNT_REFUSED:
                continue
            if reason(before.body) in TRY_OTHERWISE:
                continue
            if not (approved_part(before.body) and asked.kind == VOID):
                wrong.append(f"{asked.invoice}: {asked.kind} after {before.kind}: {before.body}")
        return wrong

    def _settle(self) -> None:
        """The batch closes."""
        for each in self._transactions.values():
            if each.status in SETTLES:
                each.status = SETTLES[each.status]
                self._rules[each.login].settled = True

    # answers --------------------------------------------------------------------------------------

    async def answer(self, request: dict[str, Any]) -> object:
        """Return the HTTP status and the body, or GONE, after the delay that a test asked for."""
        ((method, fields),) = request.items()
        asked = read(method, fields)
        login = asked.login
        if self.listed:
            body, text, marks = self._next_of_list(asked)
        elif reporting := _REPORTING.get(method):
            body, text, marks = reporting(self, login, fields)
            if scripted := self._next(f"{login} {method}", login, method, ""):
                body, text = scripted.body, PLAYABLE[scripted.body]
        else:
            body, text, marks = self._money(asked)
        self.requests.append(asked._replace(body=body))
        await asyncio.sleep(self._rules[login].delay_s if login in self._rules else 0.0)
        if body == LOST:
            return GONE
        return bodies.STATUS.get(body, 200), bodies.filled(text, {"$refId": asked.ref_id, **marks})

    def _next_of_list(self, asked: Request) -> tuple[str, str, Filling]:
        self.invoice = asked.request.get("order", {}).get("invoiceNumber", self.invoice)
        self.amount = asked.request.get("amount", self.amount)
        body = self.left[0] if self.left else LOST
        amounts = dict.fromkeys(('"$number"', '"$settled"', "$amount"), self.amount)
        name, text = ("", json.dumps(body)) if isinstance(body, dict) else (body, PLAYABLE[body])
        return name, text, {"$invoice": self.invoice, **amounts}

    def _money(self, asked: Request) -> tuple[str, str, Filling]:
        """Execute a money request, unless a test scripts otherwise; return the body."""
        request = asked.request
        body = usual = self._usual(asked, request)
        done = does(usual)
        about = asked.about or request.get("poNumber", "")
        if scripted := self._next(about, asked.login, asked.method, asked.kind):
            body, done = scripted.body, scripted.done
            usual = body if response_code(body) in ("1", "4") else usual
        of = self._execute(asked, request, usual) if done else self._transactions.get(asked.about)
        marks = {bodies.PAYMENT_ID: str(next(self._ids))} if of is None else of.marks()
        if "amount" in request:
            marks["$amount"] = request["amount"]
        return body, PLAYABLE[body], marks

    def _usual(self, asked: Request, request: dict[str, Any]) -> str:
        """Choose the body by the state of the named transaction, else by the rules of
        Authorize.Net's sandbox, its filters and its records."""
        if asked.kind not in (SALE, AUTHORIZATION):
            parent = self._transactions.get(asked.about)
            if parent is None or parent.login != asked.login:
                return "refused_16"
            body = ANSWERS.get((asked.kind, parent.status), "refused_16")
            early = body == "refused_54_2026"
            return "refused_16_bank" if early and parent.brand == "eCheck" else body
        rules, amount = self._rules[asked.login], Decimal(request["amount"])
        nonce = request["payment"].get("opaqueData", {}).get("dataValue")
        if request["currencyCode"] not in rules.currencies:
            return "refused_39"
        if nonce is not None and nonce not in self._nonces:
            return "refused_nonce"
        if request.get("billTo", {}).get("zip") == "46282":
            return "declined"
        if amount > rules.held_above:
            return rules.held_as
        if "bankAccount" in request["payment"]:
            return "debited" if amount <= 100 else "declined_bank"
        return "approved"

    def _execute(self, asked: Request, request: dict[str, Any], body: str) -> Transaction:
        """Execute the request as this body says, and record it."""
        code = response_code(body)
        if asked.kind in MADE:
            of = self._create(asked, request, body)
            amount = of.amount
        else:
            of = self._transactions[asked.about]
            amount = request.get("amount", of.settles)
            of.status = CHANGED.get(asked.kind) or MADE[of.kind]
            if asked.kind == CAPTURE:
                of.settles = amount
            elif asked.kind in (VOID, DECLINE):
                of.settles = "0.00"
        if asked.kind not in (APPROVE, DECLINE):
            self._rows.append(Row(of, asked.kind, amount, asked.invoice, code))
        return of

    def _create(self, asked: Request, request: dict[str, Any], body: str) -> Transaction:
        amount = approved_part(body) or request["amount"]
        code, status = response_code(body), MADE[asked.kind]
        held = code == "4" and asked.kind != REFUND
        if held:
            status = HELD if body == "held_252" else HELD_AUTHORIZED
        account, name = self._account(request["payment"])
        of = Transaction(
            trans_id=str(next(self._ids)),
            login=asked.login,
            kind=asked.kind,
            amount=amount,
            settles=amount,
            invoice=asked.invoice,
            status=DECLINED if code == "2" else status,
            parent=asked.about,
            account=account,
            brand=name,
            held=held,
        )
        self._transactions[of.trans_id] = of
        return of

    def _account(self, payment: dict[str, Any]) -> tuple[str, str]:
        """Return the masked card or bank account number, and its brand."""
        if "bankAccount" in payment:
            return f"XXXX{payment['bankAccount']['accountNumber'][-4:]}", "eCheck"
        if "opaqueData" in payment:
            number = self._nonces.pop(payment["opaqueData"]["dataValue"])
        else:
            number = payment["creditCard"]["cardNumber"]
        return f"XXXX{number[-4:]}", brand(number) if len(number) > 4 else "Visa"

    def _next(self, about: str, login: str, method: str, kind: str) -> Play | None:
        """Take the answer that a test scripted for this request, else the login's next fault."""
        waiting = self._scripted.get(about, [])
        if waiting and waiting[0].kind in (None, kind):
            return waiting.pop(0)
        faults = self._rules[login].faults if login in self._rules else []
        found = next((fault for fault in faults if fault[0] in (None, method)), None)
        if found is None:
            return None
        faults.remove(found)
        return found[1]

    # reporting ------------------------------------------------------------------------------------

    def _details(self, login: str, fields: dict[str, Any]) -> tuple[str, str, Filling]:
        of = self._transactions.get(fields["transId"])
        if of is None or of.login != login:
            return "unknown_id", bodies.TEXT["unknown_id"], {}
        body = "details_ended" if of.held and of.status == VOIDED else DETAILS[of.status]
        return body, bodies.TEXT[body], of.marks()

    def _unsettled(self, login: str, fields: dict[str, Any]) -> tuple[str, str, Filling]:
        if fields.get("status") == "pendingApproval":
            return self._list(login, IN_REVIEW)
        return self._list(login, UNSETTLED | {VOIDED})

    def _batches(self, login: str, _: dict[str, Any]) -> tuple[str, str, Filling]:
        body = "batches" if self._rules[login].settled else "no_batches"
        return body, bodies.TEXT[body], {}

    def _batch(self, login: str, _: dict[str, Any]) -> tuple[str, str, Filling]:
        return self._list(login, frozenset(SETTLES.values()))

    def _list(self, login: str, statuses: frozenset[str]) -> tuple[str, str, Filling]:
        """Return the recorded list, with its line repeated for each transaction."""
        found = [t for t in self._transactions.values() if t.login == login]
        found = [t for t in found if t.status in statuses]
        if not found:
            return "nothing", bodies.TEXT["nothing"], {}
        line = _compact(bodies.JSON["unsettled"]["transactions"][0])
        lines = ",".join(_fill(line, of.marks() | {bodies.PAYMENT_ID: of.trans_id}) for of in found)
        page = {**bodies.JSON["unsettled"], "transactions": "$lines"}
        text = _compact({**page, "totalNumInResultSet": len(found)})
        return "unsettled", text.replace('"$lines"', f"[{lines}]"), {}

    def _mint(self, login: str, fields: dict[str, Any]) -> tuple[str, str, Filling]:
        nonce = f"nonce-{next(self._ids)}"
        self._nonces[nonce] = fields["data"]["token"]["cardNumber"]
        return "minted", bodies.TEXT["minted"], {"$nonce": nonce}


def _authenticate(player: Player, login: str, fields: dict[str, Any]) -> tuple[str, str, Filling]:
    """Check the key, which is the same for every login of the harness."""
    right = fields["merchantAuthentication"]["transactionKey"] == "simulated-key-1"
    body = "bare_ok" if right and login in player._rules else "refused_login"
    return body, bodies.TEXT[body], {}


_REPORTING: Final[dict[str, Callable[..., tuple[str, str, Filling]]]] = {
    "getTransactionDetailsRequest": Player._details,
    "getUnsettledTransactionListRequest": Player._unsettled,
    "getSettledBatchListRequest": Player._batches,
    "getTransactionListRequest": Player._batch,
    "securePaymentContainerRequest": Player._mint,
    "authenticateTestRequest": _authenticate,
}


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _fill(text: str, marks: Filling) -> str:
    return bodies.filled(text, marks).decode("utf-8-sig")
