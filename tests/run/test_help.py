"""Every command's help explains each option and has an example to copy."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from easypay.command_line.main import PARTS, app
from easypay.merchants.model import SCOPES


def commands(group: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, each in group.commands.items():
        if hasattr(each, "commands"):
            yield from commands(each, *path, name)
        else:
            yield (*path, name), each


COMMANDS = dict(commands(typer.main.get_command(app)))


def test_a_key_can_be_given_every_scope_that_its_help_names() -> None:
    (scope,) = [each for each in COMMANDS["key", "create"].params if each.name == "scope"]
    assert re.findall(r"\w+:\w+", scope.help) == list(SCOPES)


def test_the_index_of_the_docs_names_every_command_once() -> None:
    page = (Path(__file__).parents[2] / "docs" / "README.md").read_text("utf-8")
    named = re.findall(r"^\| .+? \| (.+?) \|", page.split("## Commands")[1], re.M)
    words = [word for row in named for word in re.findall(r"`easypay ([\w-]+)", row)]
    assert list(dict.fromkeys(words)) == [word for parts in PARTS.values() for word in parts]


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_explains_each_option_and_has_a_valid_example(
    path: tuple[str, ...],
) -> None:
    command = COMMANDS[path]
    for each in command.params:
        assert each.help, each.name
    text = " ".join(command.help.split())
    examples = re.findall(r"Example: `((?:[A-Z_]+=\S+ )*easypay [^`]+)`", text)
    assert examples, text
    for example in examples:
        words = shlex.split(re.sub(r" [<>] \S+", "", example))
        words = words[words.index("easypay") + 1 :]
        assert tuple(words[: len(path)]) == path
        command.make_context(path[-1], words[len(path) :])
