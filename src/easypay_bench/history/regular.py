"""`easypay-bench regular`: the same load on the last release and on this version, in turn.

Run on a schedule, always on the same machine. Both run at once and are loaded in turn, second by
second, so what else the machine does disturbs both. The result is saved, so that `history` shows
every week.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console

from easypay_bench import machine
from easypay_bench.history import report
from easypay_bench.history.compare import Change, change_in_pairs
from easypay_bench.history.results import RESULTS, Figure
from easypay_bench.load import LoadFailed
from easypay_bench.performance_bars import finite
from easypay_bench.work import ordinary

CANNOT: Final = 2


class Regular(msgspec.Struct, frozen=True, kw_only=True):
    """One run: this version beside a release."""

    regular: bool = True
    machine: dict[str, Any]
    base: str
    pairs: list[ordinary.Pair]


def main(arguments: Sequence[str]) -> None:
    """Measure both, say what changed, save it. Exit status 1: this version is worse; 2: nothing
    could be measured."""
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 120)
    facts = machine.facts()
    try:
        base = options.base or last_release()
        with tempfile.TemporaryDirectory(prefix="easypay-regular-") as name:
            path = ordinary.sources(base, Path(name))
            found = Regular(
                machine=facts,
                base=base,
                pairs=ordinary.pairs(
                    path, options.pairs, options.seconds, Path(name),
                    lambda line: console.print(line, style="dim", highlight=False),
                ),
            )  # fmt: skip
    except LoadFailed as error:
        sys.stderr.write(f"easypay-bench: {error}\n")
        sys.exit(CANNOT)
    changes = beside(found.pairs)
    worse = [each.name for each in changes if each.verdict == "worse"]
    console.print(f"worse than {base}: {', '.join(worse)}" if worse else f"no worse than {base}")
    console.print(report.table(f"{base} -> this version, {len(found.pairs)} pairs", changes))
    if not options.no_save:
        console.print(f"written: {_save(found, options.to)}", highlight=False)
    sys.exit(int(bool(worse)))


def beside(pairs: Sequence[ordinary.Pair]) -> list[Change]:
    """Return what changed, figure by figure. Wants one pair or more."""
    return [
        change_in_pairs(
            Figure(name, tuple(getattr(pair.before, name) for pair in pairs)),
            Figure(name, tuple(getattr(pair.now, name) for pair in pairs)),
        )
        for name in ordinary.Cost.__struct_fields__
    ]


def last_release() -> str:
    """Return the newest tag before this commit. Raises LoadFailed if there is none."""
    done = subprocess.run(  # noqa: S603  (our own command line)
        ["git", "-C", str(ordinary.ROOT), "describe", "--tags", "--abbrev=0"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LoadFailed("no release is tagged here: name a commit with --base")
    return done.stdout.strip()


def _save(found: Regular, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    moment = datetime.fromisoformat(found.machine["at"]).strftime("%Y%m%dT%H%M%SZ")
    path = folder / f"{moment}-{found.machine['commit'] or 'unknown'}-regular.json"
    path.write_text(json.dumps(finite(msgspec.to_builtins(found)), indent=1) + "\n")
    return path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="easypay-bench regular",
        description="The same load on the last release and on this version, in turn. Exit status "
        "1: this version is worse.",
    )
    option = parser.add_argument
    option("--base", metavar="COMMIT", help="instead of the last tagged release")
    option("--pairs", type=int, default=7, help="how often to run both (default: 7)")
    option("--seconds", type=float, default=10, help="of each load (default: 10)")
    option("--to", type=Path, default=RESULTS, metavar="DIR", help=f"default: {RESULTS}")
    option("--no-save", action="store_true", help="only print it")
    return parser
