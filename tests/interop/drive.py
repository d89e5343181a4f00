"""Runs a client's scenarios in the client's own interpreter, which has that client and no pytest.

    python drive.py python_sdk < orders.json

`orders.json` names the simulator and an account for every scenario. What comes out is one JSON
object: for each scenario the facts it learnt through the client, or how it failed.
"""

import contextlib
import importlib
import json
import sys
import traceback
import urllib.request


class Simulator:
    """The simulator's control surface, for what no client can order: a settled batch, a filter."""

    def __init__(self, url, login):
        self.wire = f"{url}/xml/v1/request.api"
        self.login = login
        self._url = f"{url}/simulator"

    def settle(self):
        self._post("/settle", {})

    def hold_above(self, amount):
        self._post("/settings", {"login": self.login, "held_above": amount})

    def _post(self, path, body):
        request = urllib.request.Request(
            self._url + path, json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as reply:
            reply.read()


def dig(tree, *path):
    """What lies at the path of keys and indexes; None where it ends. A lone item is its own [0]."""
    for step in path:
        if isinstance(step, int):
            items = many(tree)
            tree = items[step] if step < len(items) else None
        else:
            tree = tree.get(step) if isinstance(tree, dict) else None
    return tree


def many(found):
    """A list, whether there were several, one or none."""
    if found is None or found == "":
        return []
    return found if isinstance(found, list) else [found]


def main():
    orders = json.load(sys.stdin)
    facts = {}
    with contextlib.redirect_stdout(sys.stderr):  # a client may print; the facts must not mix
        client = importlib.import_module(f"{sys.argv[1]}.scenarios")
        for scenario, account in orders["accounts"].items():
            simulator = Simulator(orders["url"], account["name"])
            try:
                client.connect(simulator.wire, account["name"], account["transactionKey"])
                facts[scenario] = client.SCENARIOS[scenario](simulator)
            except Exception:
                facts[scenario] = {"failed": traceback.format_exc()}
    json.dump(facts, sys.stdout)


if __name__ == "__main__":
    main()
