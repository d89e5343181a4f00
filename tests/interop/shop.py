"""Shared by the shops of all clients: the client's process, the account, reading replies."""

import json
import re
import subprocess
from typing import Any

from simulator.merchant_client import Merchant


class ClientProcess:
    """A client in its own interpreter: one call per line, one line back."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        pipe = subprocess.PIPE
        self._child = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    def call(self, **order: Any) -> Any:
        """Return the reply as the client returned it."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps(order) + "\n")
        self._child.stdin.flush()
        line = self._child.stdout.readline()
        assert line, f"{self.name} ended with status {self._child.wait(10)}"
        result = json.loads(line)
        assert "failed" not in result, f"{self.name}, {order['method']}:\n{result['failed']}"
        return result["reply"]

    def stop(self) -> None:
        self._child.communicate(timeout=10)


class Shop:
    """A merchant that reaches the simulator through one client."""

    def __init__(self, process: ClientProcess, merchant: Merchant) -> None:
        self._process = process
        self.merchant = merchant
        self.key = merchant.credentials["transactionKey"]

    def call(self, method: str, fields: Any) -> Any:
        """Return the reply as the client returned it, with names in lower_case."""
        url = f"{self.merchant.process.url}/xml/v1/request.api"
        login = self.merchant.login
        return _snake(
            self._process.call(url=url, login=login, key=self.key, method=method, fields=fields)
        )


def _snake(tree: Any) -> Any:
    if isinstance(tree, list):
        return [_snake(each) for each in tree]
    if not isinstance(tree, dict):
        return tree
    names = {name: re.sub("(?<=[a-z0-9])[A-Z]+", r"_\g<0>", name).lower() for name in tree}
    return {names[name]: _snake(value) for name, value in tree.items()}


def dig(tree: Any, *path: str | int) -> Any:
    """Return the value at a path of keys and indexes, or None. A single item counts as [0]."""
    for step in path:
        if isinstance(step, int):
            items = many(tree)
            tree = items[step] if step < len(items) else None
        else:
            tree = tree.get(step) if isinstance(tree, dict) else None
    return tree


def many(found: Any) -> list[Any]:
    """Return a list of several values, one or none."""
    if found is None or found == "":
        return []
    return found if isinstance(found, list) else [found]


def texts(found: Any) -> list[str]:
    """Return a list of ids as texts: the Node SDK returns numbers."""
    return [str(each) for each in many(found)]


def answer(tree: Any) -> dict[str, Any]:
    """Return the result of the call, and the code that the client raised."""
    message = dig(tree, "messages", 0, "message", 0)
    return {
        "result": dig(tree, "messages", 0, "result_code"),
        "code": dig(message, "code"),
        "text": dig(message, "text"),
        "raised": dig(tree, "raised"),
    }


def outcome(tree: Any) -> dict[str, Any]:
    """Return the transaction response, with its reason code as `reason`."""
    done = dig(tree, "transaction_response") or {}
    error = dig(done, "errors", 0)
    code = dig(error, "error", 0, "error_code") or dig(error, "error_code")
    reason = code or dig(done, "messages", 0, "message", 0, "code")
    return {**done, **answer(tree), "ref_id": dig(tree, "ref_id"), "reason": reason}


def details(tree: Any) -> dict[str, Any]:
    """Return the reported details of one transaction."""
    found = dig(tree, "transaction") or {}
    return {
        **found,
        **answer(tree),
        "invoice": dig(found, "order", "invoice_number"),
        "purchase_order": dig(found, "order", "purchase_order_number"),
        "account": dig(found, "payment", "credit_card", "card_number"),
    }
