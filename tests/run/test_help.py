"""Every command's help explains each option and has an example to copy."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from easypay.command_line.main import app


def commands(group: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, each in group.commands.items():
        if hasattr(each, "commands"):
            yield from commands(each, *path, name)
        else:
            yield (*path, name), each


COMMANDS = dict(commands(typer.main.get_command(app)))


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
