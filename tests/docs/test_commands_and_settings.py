"""Every command, option and setting that the pages name exists."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from easypay.command_line.main import app
from easypay.merchants.model import SCOPES

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "deploy" / "cdn" / "README.md",
    ROOT / "tests" / "README.md",
]
TYPED = re.compile(r"\beasypay ([a-z-]+)(?: ([a-z-]+))?([^`#|&\n]*)")
SANDBOX = {"EASYPAY_SANDBOX_LOGIN_ID", "EASYPAY_SANDBOX_TRANSACTION_KEY"}


def _commands(group: Any, *words: str) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    """Yield the words and options of every command."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, *words, name)
        yield (*words, name), {option for each in command.params for option in each.opts}


COMMANDS = dict(_commands(typer.main.get_command(app)))
GROUPS = {words[0] for words in COMMANDS if len(words) > 1}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_and_option_exists(page: Path) -> None:
    for first, second, rest in TYPED.findall(page.read_text("utf-8")):
        words = (first, second) if second and first in GROUPS else (first,)
        assert words in COMMANDS
        assert set(re.findall(r"(?<!\S)--[a-z-]+", rest)) <= COMMANDS[words], (words, rest)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_setting_exists(page: Path) -> None:
    known = set(re.findall(r"^\| `(\w+)`", (ROOT / "docs" / "settings.md").read_text(), re.M))
    assert set(re.findall(r"EASYPAY_[A-Z_]*[A-Z]", page.read_text("utf-8"))) <= known | SANDBOX


def test_the_page_for_shops_names_every_scope_the_usual_ones_first() -> None:
    page = (ROOT / "docs" / "api" / "conventions.md").read_text("utf-8")
    named = page.split("without naming scopes")[1].split("\n\n")[0]
    assert re.findall(r"`(\w+:\w+)`", named) == list(SCOPES)
