"""A simulator process, and a merchant's requests to it."""

import itertools
import re
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec

from harness import TRUSTS_NOBODY, processes
from simulator import reply_schema_check

WIRE = "/xml/v1/request.api"
BOM = b"\xef\xbb\xbf"
VISA = "4111111111111111"


class Process(processes.Process):
    """A running simulator process."""

    def __init__(self, log: Path, *arguments: str) -> None:
        super().__init__(["authorizenet_simulator", "--port", "0", *arguments], {}, log)
        while not (said := re.search(r"listening on (http://127\.0\.0\.1:\d+)\n", self.logs())):
            assert self.running, self.logs()
            time.sleep(0.01)
        self.url = said[1]
        hooks = {"response": [reply_schema_check.look_at]}
        self.client = httpx.Client(
            base_url=self.url, timeout=5, event_hooks=hooks, verify=TRUSTS_NOBODY
        )
        self._logins = itertools.count(1)

    def merchant(self, **account: Any) -> "Merchant":
        """Add an account and return its merchant."""
        login = f"shop-{next(self._logins)}"
        said = {"login": login, "transaction_key": "key-of-the-shop", **account}
        self.client.post("/simulator/accounts", json=said).raise_for_status()
        return Merchant(self, login)

    def control(self, path: str, body: Any = None, method: str = "POST") -> Any:
        reply = self.client.request(method, f"/simulator{path}", json=body)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def kill(self) -> None:
        super().kill()
        self.client.close()

    def terminate(self) -> int:
        status = super().terminate()
        self.client.close()
        return status


class Merchant:
    """An account and its requests."""

    def __init__(self, process: Process, login: str) -> None:
        self.process = process
        self.login = login
        self._invoices = itertools.count(1)

    @property
    def credentials(self) -> dict[str, str]:
        return {"name": self.login, "transactionKey": "key-of-the-shop"}

    def post(self, method: str, /, **body: Any) -> httpx.Response:
        whole = {method: {"merchantAuthentication": self.credentials, **body}}
        return self.process.client.post(WIRE, json=whole)

    def call(self, method: str, /, **body: Any) -> dict[str, Any]:
        """Send a request and return the reply's JSON."""
        reply = self.post(method, **body)
        assert reply.status_code == 200
        assert reply.content.startswith(BOM)
        return msgspec.json.decode(reply.content[3:], type=dict[str, Any])

    def transaction(self, **fields: Any) -> dict[str, Any]:
        """Send a transactionRequest with the fields in this order; return the whole reply."""
        return self.call("createTransactionRequest", transactionRequest=fields)

    def transact(self, **fields: Any) -> dict[str, Any]:
        """Send a transactionRequest; return the transactionResponse."""
        return self.transaction(**fields)["transactionResponse"]

    def charge(
        self,
        amount: str = "10.00",
        *,
        kind: str = "authCaptureTransaction",
        number: str = VISA,
        expiry: str = "2040-12",
        code: str | None = None,
        payment: dict[str, Any] | None = None,
        invoice: str | None = None,
        **after: Any,
    ) -> dict[str, Any]:
        """Charge with a unique invoice number; `after` follows the order."""
        card = {"cardNumber": number, "expirationDate": expiry}
        if code is not None:
            card["cardCode"] = code
        auth_code = {"authCode": after.pop("authCode")} if "authCode" in after else {}
        return self.transact(
            transactionType=kind,
            amount=amount,
            payment=payment or {"creditCard": card},
            **auth_code,
            order={"invoiceNumber": invoice or f"inv-{next(self._invoices)}"},
            **after,
        )

    def authorize(self, amount: str = "10.00", **fields: Any) -> dict[str, Any]:
        return self.charge(amount, kind="authOnlyTransaction", **fields)

    def capture(self, trans_id: str, **fields: Any) -> dict[str, Any]:
        return self.transact(
            transactionType="priorAuthCaptureTransaction", **fields, refTransId=trans_id
        )

    def void(self, trans_id: str) -> dict[str, Any]:
        return self.transact(transactionType="voidTransaction", refTransId=trans_id)

    def refund(self, trans_id: str, amount: str, last4: str = "1111") -> dict[str, Any]:
        return self.transact(
            transactionType="refundTransaction",
            amount=amount,
            payment={"creditCard": {"cardNumber": f"XXXX{last4}", "expirationDate": "XXXX"}},
            refTransId=trans_id,
            order={"invoiceNumber": f"inv-{next(self._invoices)}"},
        )

    def details(self, trans_id: str) -> dict[str, Any]:
        return self.call("getTransactionDetailsRequest", transId=trans_id)["transaction"]

    def status(self, trans_id: str) -> str:
        found: str = self.details(trans_id)["transactionStatus"]
        return found

    def truth(self) -> list[dict[str, Any]]:
        return self.process.control(f"/transactions?login={self.login}", method="GET")

    def fault(self, kind: str, **fields: Any) -> str:
        found: str = self.process.control("/faults", {"kind": kind, "login": self.login, **fields})[
            "id"
        ]
        return found

    def settings(self, **changes: Any) -> None:
        self.process.control("/settings", {"login": self.login, **changes})


def reason(response: dict[str, Any]) -> str:
    """Return the reason code of a decline or error."""
    return response["errors"][0]["errorCode"]


def card(number: str = VISA, expiry: str = "2040-12") -> dict[str, Any]:
    return {"creditCard": {"cardNumber": number, "expirationDate": expiry}}


def card_sale(amount: str = "10.00", **after: Any) -> dict[str, Any]:
    """Return a sale's transactionRequest; `after` follows the payment."""
    fields = {"transactionType": "authCaptureTransaction", "amount": amount}
    return {**fields, "payment": card(), **after}
