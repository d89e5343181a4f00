"""`easypay logs tail`: the logs of a running `easypay up`, together and filtered."""

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from easypay.command_line.console import DATA_DIR, DataDir, Json, fail, new_group

logs = new_group("Read the logs of `easypay up`.")

LEVELS: Final = ("debug", "info", "warning", "error", "critical")
_EVERY_S: Final = 0.2
_FIRST: Final = ("time", "level", "logger", "message")
_POSTGRES: Final = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d\.\d{3}) UTC ")
"""How PostgreSQL's lines begin, when `easypay up` runs it."""
_MOST_BYTES: Final = 32 << 20
"""How much of the end of each log is read at first."""
Line = tuple[str, str, dict[str, Any] | None]
"""The program, the line as it stands in its log, and what is in it if it is one of EasyPay's."""


@logs.command("tail")
def tail(
    program: Annotated[
        str | None, typer.Option(help="Only this one's: gateway-1, worker-1, postgres.")
    ] = None,
    level: Annotated[
        str | None, typer.Option(help="Only lines of at least this level, such as warning.")
    ] = None,
    request_id: Annotated[str | None, typer.Option(help="Only lines about this request.")] = None,
    lines: Annotated[int, typer.Option(min=0, max=100_000, help="The last so many lines.")] = 20,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C with what is written next.")
    ] = False,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Show the newest lines of all logs of `easypay up` in the order of their times.

    With a level or a request id only EasyPay's own lines are shown; with --json each as it was
    written, with the name of its program.

    Example: `easypay logs tail --follow --level warning`
    """
    if level is not None and level not in LEVELS:
        raise typer.BadParameter(f"--level is one of {', '.join(LEVELS)}")
    folder = data_dir / "log"
    logged = Logs(folder, program)
    if not logged.files:
        which = f"of {program} " if program else ""
        fail(f"there is no log {which}in {folder}: give --data-dir as you gave it to `easypay up`")

    def wanted(line: Line) -> bool:
        _, _, fields = line
        if fields is None:
            return level is None and request_id is None and not as_json
        if request_id is not None and fields.get("request_id") != request_id:
            return False
        return level is None or _rank(fields) >= LEVELS.index(level)

    try:
        _show(logged, wanted, lines, follow=follow, as_json=as_json)
    except KeyboardInterrupt:
        sys.exit(130)


class LogFile:
    """A log, read from where the last look ended. It may be cut off or moved aside meanwhile."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = 0
        self._at = 0
        self._rest = b""

    def new_lines(self) -> Iterator[str]:
        """Return the whole lines that were written since the last look."""
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, 2)
                inode = self._path.stat().st_ino
                if inode != self._inode or size < self._at:
                    self._inode, self._rest = inode, b""
                    self._at = max(0, size - _MOST_BYTES)
                file.seek(self._at)
                text = self._rest + file.read()
                self._at = file.tell()
        except FileNotFoundError:
            return
        *whole, self._rest = text.split(b"\n")
        for line in whole:
            yield line.decode("utf-8", "replace")


class Logs:
    """The logs in a folder, of all programs or of one, also of those that are started later."""

    def __init__(self, folder: Path, program: str | None) -> None:
        self._folder = folder
        self._program = program
        self.files: dict[str, LogFile] = {}
        self._look()

    def new_lines(self) -> list[Line]:
        """Return all new lines by their times. A line without one stays with the line before it."""
        self._look()
        timed: list[tuple[str, Line]] = []
        for name, file in self.files.items():
            at = ""
            for text in file.new_lines():
                fields = _fields(text)
                at = _time(text, fields) or at
                timed.append((at, (name, text, fields)))
        timed.sort(key=lambda each: each[0])
        return [line for _, line in timed]

    def _look(self) -> None:
        for path in sorted(self._folder.glob("*.log")):
            if path.stem not in self.files and self._program in (None, path.stem):
                self.files[path.stem] = LogFile(path)


def _show(
    logged: Logs,
    wanted: Callable[[Line], bool],
    lines: int,
    *,
    follow: bool,
    as_json: bool,
) -> None:
    found = [line for line in logged.new_lines() if wanted(line)]
    for line in found[max(0, len(found) - lines) :]:
        _print(line, as_json=as_json)
    while follow:
        time.sleep(_EVERY_S)
        for line in logged.new_lines():
            if wanted(line):
                _print(line, as_json=as_json)


def _time(text: str, fields: dict[str, Any] | None) -> str:
    """Return when a line was written, as EasyPay's lines say it; empty if it does not say so."""
    if fields is not None:
        return str(fields["time"]).removesuffix("Z")
    found = _POSTGRES.match(text)
    return f"{found[1]}T{found[2]}" if found else ""


def _fields(text: str) -> dict[str, Any] | None:
    """Return what is in a line of EasyPay; None for a line of another program."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "time" in found and "level" in found else None


def _rank(fields: dict[str, Any]) -> int:
    level = fields["level"]
    return LEVELS.index(level) if level in LEVELS else len(LEVELS)


def _print(line: Line, *, as_json: bool) -> None:
    name, text, fields = line
    if fields is None:
        print(f"{name}: {text}", flush=True)  # noqa: T201
    elif as_json:
        print(json.dumps({"program": name, **fields}), flush=True)  # noqa: T201
    else:
        more = " ".join(f"{key}={value}" for key, value in fields.items() if key not in _FIRST)
        said = f"{fields['time']} {name} {fields['level']} {fields.get('message', '')} {more}"
        print(said.rstrip(), flush=True)  # noqa: T201
