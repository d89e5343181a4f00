"""The commands in docs/simulator.md work, and its tables are complete."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import httpx

from authorizenet_simulator import dispatch
from authorizenet_simulator.control.faults import Kind
from authorizenet_simulator.state.settings import Settings
from authorizenet_simulator.wire import schema
from simulator.merchant_client import BOM, Merchant, Process, card, card_sale
from simulator.parts import bank

DOCUMENT = Path(__file__).parents[2] / "docs/simulator.md"
TEXT = DOCUMENT.read_text()


def commands() -> Iterator[list[str]]:
    """Yield the words of every curl command, split as a shell does."""
    lines = iter(TEXT.splitlines())
    for line in lines:
        if not line.startswith("    curl "):
            continue
        command = line
        while command.count("'") % 2:
            command += "\n" + next(lines)
        yield shlex.split(command, comments=True)


def run(process: Process, words: list[str]) -> httpx.Response:
    """Send what curl would, for the options in the document; another option is an error."""
    method, headers, body, auth, url = "", {}, None, None, ""
    rest = iter(words[1:])
    for word in rest:
        if word == "-s":
            continue
        if word == "-X":
            method = next(rest)
        elif word == "-H":
            name, _, value = next(rest).partition(":")
            headers[name] = value.strip()
        elif word == "-d":
            body = next(rest)
        elif word == "-u":
            auth = tuple(next(rest).split(":", 1))
        else:
            assert word.startswith("http://127.0.0.1:9000/"), word
            url = word.removeprefix("http://127.0.0.1:9000")
    method = method or ("GET" if body is None else "POST")
    if body is not None:
        headers.setdefault("content-type", "application/x-www-form-urlencoded")
    return process.client.request(method, url, content=body, headers=headers, auth=auth)


def test_every_command_of_the_document_works(process: Process) -> None:
    # The examples' transactions must exist; their notifications go to a closed port.
    examples = {
        "66417696055": lambda: paid(process, card()),
        "66417696056": lambda: paid(process, bank()),
        "127.0.0.1:8000": lambda: "127.0.0.1:9",
    }
    done = 0
    for words in commands():
        for example, really in examples.items():
            if any(example in word for word in words):
                real = really()
                words = [word.replace(example, real) for word in words]
        reply = run(process, words)
        assert reply.status_code in (200, 201), (words, reply.text)
        if reply.content.startswith(BOM):
            assert "I00001" in reply.text or "I00004" in reply.text, (words, reply.text)
        done += 1
    assert done == len(re.findall(r"^ *curl ", TEXT, re.MULTILINE)) > 20


def paid(process: Process, payment: dict[str, Any]) -> str:
    """Return the id of a settled sale."""
    answer = Merchant(process, "easypay-sim").call(
        "createTransactionRequest",
        merchantAuthentication={"name": "easypay-sim", "transactionKey": "sim-secret-key-1"},
        transactionRequest=card_sale("5.00") | {"payment": payment},
    )
    process.control("/settle")
    trans_id: str = answer["transactionResponse"]["transId"]
    return trans_id


def first_cells(after: str) -> set[str]:
    """Return the names in the first column of the table after the text `after`."""
    rows = TEXT[TEXT.index(after) :].split("\n\n")
    table = next(part for part in rows if part.startswith("| "))
    cells = [line.split("|")[1] for line in table.splitlines()[2:]]
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def test_the_tables_list_every_setting_and_fault() -> None:
    assert first_cells("Adding an account again changes it.") == set(Settings.__struct_fields__)
    told = first_cells("**Faults.**") | first_cells("Faults of notifications match")
    assert told == set(get_args(Kind))


def test_every_request_of_the_schema_has_a_method() -> None:
    assert set(schema.load().requests) - {"isAliveRequest"} == dispatch.METHODS.keys()
