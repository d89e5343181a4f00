"""The programs of docs/api/webhooks.md, as printed: each accepts what we sign and nothing else."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from easypay.webhooks.signing import headers, new_secret

PAGE = Path(__file__).parents[2] / "docs" / "api" / "webhooks.md"
BODY = '{"type":"payment.captured","data":{"name":"Ünal"}}'
# Each reads a list of cases from its input and prints whether each is genuine.
PYTHON = """
import json, sys
cases = json.load(sys.stdin)
print(json.dumps([verify(c["secret"], c["headers"], c["body"].encode()) for c in cases]))
"""
JAVASCRIPT = """
const cases = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
console.log(JSON.stringify(cases.map((c) => verify(c.secret, c.headers, Buffer.from(c.body)))));
"""
PHP = """
$cases = json_decode(file_get_contents('php://stdin'), true);
echo json_encode(array_map(fn ($c) => verify($c['secret'], $c['headers'], $c['body']), $cases));
"""
PROGRAMS = {
    "python": (PYTHON, [sys.executable, "-c"]),
    "javascript": (JAVASCRIPT, ["node", "-e"]),
    "php": (PHP, ["php", "-r"]),
}


def case(
    secret: str,
    *,
    sign_with: list[str] | None = None,
    off_s: int = 0,
    body: str = BODY,
    **over: str,
) -> dict[str, Any]:
    signed = headers(sign_with or [secret], "evt_1", int(time.time()) - off_s, BODY.encode())
    return {"secret": secret, "headers": dict(signed) | over, "body": body}


@pytest.mark.parametrize("language", PROGRAMS)
def test_the_program_accepts_what_is_genuine_and_nothing_else(language: str) -> None:
    check, command = PROGRAMS[language]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    (program,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    program = program.removeprefix("<?php")
    secret, other = new_secret(), new_secret()
    genuine = [case(secret), case(secret, sign_with=[other, secret]), case(secret, off_s=200)]
    false = [
        case(secret, sign_with=[other]),
        case(secret, body=BODY.replace("captured", "refunded")),
        case(secret, off_s=400),
        case(secret, off_s=-400),
        case(secret, **{"webhook-id": "evt_2"}),
        case(secret, **{"webhook-signature": "v1,AAAA v1a,BBBB"}),
        case(secret, **{"webhook-signature": ""}),
    ]
    done = subprocess.run(
        [*command, program + check],
        input=json.dumps([*genuine, *false]).encode(),
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout) == [True] * len(genuine) + [False] * len(false)
