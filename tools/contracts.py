"""Check the contracts of the code that need its syntax tree; `make check` runs it.

A function is at most 70 lines long. A `match` branch that catches every value raises or ends in
`assert_never(...)`, so that a new kind of value is not handled silently.

    python tools/contracts.py [directory]
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

LONGEST = 70


def violations(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the reason of every violation in one module."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > LONGEST:
                    yield (
                        node.lineno,
                        f"{node.name} has {lines} lines; at most {LONGEST} are allowed",
                    )
            case ast.match_case(pattern=ast.MatchAs(pattern=None), guard=None):
                if not _refuses(node.body[-1]):
                    yield (
                        node.pattern.lineno,
                        "a catch-all match branch must raise or end in assert_never(...)",
                    )


def _refuses(last: ast.stmt) -> bool:
    if isinstance(last, ast.Raise):
        return True
    call = last.value if isinstance(last, ast.Expr) else None
    return isinstance(call, ast.Call) and ast.unparse(call.func) == "assert_never"


def main(directory: str = "src") -> int:
    found = [
        f"{path}:{line}: {reason}"
        for path in sorted(Path(directory).rglob("*.py"))
        for line, reason in violations(path.read_text())
    ]
    sys.stdout.writelines(f"{line}\n" for line in found)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
