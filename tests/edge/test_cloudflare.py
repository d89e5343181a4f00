"""The Terraform configuration of deploy/cdn: its form, and which paths it lets Cloudflare store.

No provider is downloaded. Terraform itself evaluates the rules, which need none.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from easypay.api.routes import ROUTES

FOLDER = Path(__file__).parents[2] / "deploy" / "cdn" / "cloudflare"
PAGES = ("/docs", "/problems/", "/openapi.json")


def terraform(*arguments: str, on: Path, said: str = "") -> str:
    program = shutil.which("terraform")
    if program is None:
        pytest.skip("terraform is not installed")
    done = subprocess.run(
        [program, f"-chdir={on}", *arguments],
        input=said,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "TF_CLI_CONFIG_FILE": os.devnull, "CHECKPOINT_DISABLE": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return every output of the rules, for the host `pay.example.com`."""
    folder = tmp_path_factory.mktemp("cloudflare")
    shutil.copy(FOLDER / "rules" / "main.tf", folder)
    asked = (
        "jsonencode({cache = local.cache_rules, config = local.config_rules, settings ="
        " local.settings, compression = local.compression_rules, firewall = local.firewall_rules})"
    )
    text = terraform("console", "-var=host=pay.example.com", on=folder, said=asked)
    found: dict[str, Any] = json.loads(json.loads(text))
    return found


def matches(expression: str, path: str, *, method: str = "GET", ssl: bool = True) -> bool:
    """Evaluate a rule of Cloudflare's for a request, as Python."""
    for before, after in (
        (r"starts_with\(http\.request\.uri\.path, (\"[^\"]*\")\)", r"path.startswith(\1)"),
        (r"http\.request\.uri\.path", "path"),
        (r"http\.request\.method", "method"),
        (r"http\.host", "host"),
        (r"\{((?:\"[^\"]*\" ?)+)\}", lambda found: f"({', '.join(found[1].split())},)"),
        (r"\beq\b", "=="),
    ):
        expression = re.sub(before, after, expression)
    names = {"path": path, "method": method, "host": "pay.example.com", "ssl": ssl}
    return bool(eval(expression, {"__builtins__": {}}, names))


def test_the_files_have_terraforms_form() -> None:
    terraform("fmt", "-check", "-diff", "-recursive", on=FOLDER)


def test_nothing_but_the_documentation_may_be_stored(rules: dict[str, Any]) -> None:
    calls = [route.call.split(" ") for route in ROUTES]
    calls += [["GET", "/docsx"], ["GET", "/api/v1/docs/"], ["POST", "/docs"], ["GET", "/"]]
    for method, path in calls:
        stored = None
        for rule in rules["cache"]:  # the last one that matches wins
            if matches(rule["expression"], path, method=method):
                stored = rule["action_parameters"]
        assert stored is not None, "a rule for everything"
        is_page = method == "GET" and re.match(r"/(docs(/|$)|problems/|openapi\.json$)", path)
        assert stored["cache"] == bool(is_page), path
        if is_page:
            assert stored["edge_ttl"] == {"mode": "bypass_by_default"}, "the gateway says how long"
            assert stored["respect_strong_etags"]


def test_administration_and_requests_in_the_clear_are_refused(rules: dict[str, Any]) -> None:
    (rule,) = rules["firewall"]
    assert rule["action"] == "block"
    for path, ssl, refused in (
        ("/api/v1/payments", True, False),
        ("/api/v1/payments", False, True),
        ("/api/v1/admin/merchants", True, True),
        ("/metrics", True, True),
        ("/docs", True, False),
    ):
        assert matches(rule["expression"], path, ssl=ssl) == refused, path


def test_nothing_is_rewritten_and_nothing_can_be_replayed(rules: dict[str, Any]) -> None:
    assert rules["settings"]["early_hints"] == rules["settings"]["0rtt"] == "off"
    assert rules["settings"]["http2"] == rules["settings"]["tls_1_3"] == "on"
    (change_nothing,) = rules["config"]
    assert not change_nothing["action_parameters"]["email_obfuscation"]
    assert not change_nothing["action_parameters"]["rocket_loader"]
    (encodings,) = rules["compression"]
    assert matches(encodings["expression"], "/api/v1/payments")
    assert not matches(encodings["expression"], "/docs")


def test_every_rule_is_used(rules: dict[str, Any]) -> None:
    text = (FOLDER / "main.tf").read_text()
    named = set(re.findall(r"module\.rules\.(\w+)", text))
    outputs = set(
        re.findall(r"^output \"(\w+)\"", (FOLDER / "rules" / "main.tf").read_text(), re.M)
    )
    assert named == outputs
    assert len(rules) == len(outputs)
