"""docs/runbook.md has one entry for each alert and each critical or error line of the source."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from easypay.alerts.table import RULES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "runbook.md").read_text("utf-8")
LEVELS = {"critical": "Critical", "error": "Error", "exception": "Error"}


def _lines_of(module: Path) -> Iterator[tuple[str, str]]:
    """Yield each log message above warning in one module, `…` for values, and its level."""
    tree = ast.parse(module.read_text("utf-8"))
    loggers = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and "logging.getLogger" in ast.unparse(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=name), attr=level), args=[text, *_]
            ) if name in loggers and level in LEVELS:
                line = re.sub(r"%(\.\d)?[a-z]", "…", ast.literal_eval(text))
                yield line, LEVELS[level]


def test_every_critical_and_error_message_has_an_entry_with_its_level() -> None:
    modules = (ROOT / "src" / "easypay").rglob("*.py")
    written = {line for module in modules for line in _lines_of(module)}
    assert len(written) > 20
    entries = re.findall(r"^### `+(.+[^`])`+\n\n(Critical|Error)[.,] ", PAGE, re.MULTILINE)
    assert sorted(entries) == sorted(written)


def test_every_alert_has_an_entry() -> None:
    assert RULES
    alerts = {rule.name for rule in RULES}
    assert sorted(re.findall(r"^### (\w+)$", PAGE, re.MULTILINE)) == sorted(alerts)
