"""The report of `easypay db doctor`: a table of 80 columns for people, JSON for scripts."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from easypay.command_line.console import counted, to_json

if TYPE_CHECKING:
    from easypay.doctor.findings import Finding

_WIDTH: Final = 80
_COLUMNS: Final = (5, 20)
_INDENT: Final = " " * (sum(_COLUMNS) + len(_COLUMNS))
_STYLES: Final = ("green", "yellow", "bold red")


def report(found: "Sequence[Finding]", *, as_json: bool) -> None:
    """Print findings, in the order of the checks."""
    if as_json:
        print(to_json(as_dict(found)))  # noqa: T201
        return
    from rich.console import Console

    console = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
    for finding in found:
        first, *others = lines(finding)
        level = finding.level.word.ljust(_COLUMNS[0])
        console.print(level, style=_STYLES[finding.level], end="")
        console.print(first[len(level) :])
        for line in others:
            console.print(line)
    bad, warned = (sum(each.level == level for each in found) for level in (2, 1))
    console.print(f"{counted(len(found), 'finding')}: {bad} bad, {counted(warned, 'warning')}.")


def as_dict(found: "Sequence[Finding]") -> dict[str, Any]:
    """Return findings as they are shown in JSON."""
    from easypay.doctor.findings import worst

    return {
        "level": worst(found).word,
        "data": [
            {
                "check": each.check,
                "level": each.level.word,
                "figure": each.figure,
                "why": each.why,
                "mend": each.mend,
            }
            for each in found
        ],
    }


def lines(finding: "Finding") -> list[str]:
    """Return the lines of one finding. Only a command to copy may be longer than 80 characters."""
    cells = (finding.level.word, finding.check)
    head = "".join(f"{cell:{width}} " for cell, width in zip(cells, _COLUMNS, strict=True))
    shown = _wrapped(finding.figure)
    made = [head + shown[0], *(_INDENT + line for line in shown[1:])]
    if finding.why:
        made += [_INDENT + line for line in _wrapped(f"Why: {finding.why}.")]
    if finding.mend:
        word = "Mend" if finding.level else "Hint"
        made.append(f"{' ' * (_COLUMNS[0] + 1)}{word}: {finding.mend}")
    return made


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH - len(_INDENT)) or [""]
