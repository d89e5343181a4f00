"""`easypay profile`: where the time or the memory of a running process goes, as an HTML file."""

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from easypay.command_line.console import DATA_DIR, DataDir, Json, fail, show

if TYPE_CHECKING:
    from easypay.observability.profiles.model import Kind, Profile

_MORE_S: Final = 120.0
"""An answer comes so much later than the profile ends, at most."""


def profile(
    pid: Annotated[
        int | None,
        typer.Argument(metavar="PID", help="A gateway or worker on this machine. CPU time only."),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(help="A gateway's address instead. Default: the one of `easypay up`."),
    ] = None,
    seconds: Annotated[int, typer.Option(min=1, max=300, help="How long to look.")] = 10,
    wait: Annotated[bool, typer.Option("--wait", help="Where its tasks wait instead.")] = False,
    memory: Annotated[
        bool, typer.Option("--memory", help="Which lines took memory that they kept, instead.")
    ] = False,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("profile.html"),
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Write a flame graph of a running process into one HTML file, to be opened in a browser.

    By its pid it is looked at from outside, which may need root. By its address a gateway looks
    at itself, which needs EASYPAY_ADMIN_KEY or a running `easypay up`; of several processes behind
    one address one answers, and the graph shows its pid. With --json the stacks are printed, and
    no file is written. Ctrl-C ends a look from outside with what was seen until then.

    Example: `easypay profile --url http://127.0.0.1:8000 --seconds 30`
    """
    from easypay.observability.profiles.page import page

    if wait and memory:
        raise typer.BadParameter("--wait and --memory exclude each other")
    if pid is not None and url is not None:
        raise typer.BadParameter("give a pid or --url, not both")
    kind: Kind = "wait" if wait else "memory" if memory else "cpu"
    if pid is not None and kind != "cpu":
        fail(f"--{kind} is seen only from inside a process: give a gateway's --url")
    if not as_json and not out.absolute().parent.is_dir():
        fail(f"cannot write {out}: there is no such directory")
    found = _of_process(pid, seconds) if pid is not None else _of(url, data_dir, kind, seconds)
    if not as_json:
        try:
            out.write_text(page(found), "utf-8")
        except OSError as error:
            fail(f"cannot write {out}: {error.strerror}")
    total = sum(stack.value for stack in found.stacks)
    show(as_json, found, f"{out}: {total:,} {found.unit} of process {found.pid}.")


def _of_process(pid: int, seconds: int) -> "Profile":
    from easypay.observability.profiles import cpu
    from easypay.observability.profiles.model import CannotProfile

    async def take() -> "Profile":
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for ended_by in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(ended_by, stop.set)
        return await cpu.take(pid, seconds, stop)

    try:
        return asyncio.run(take())
    except CannotProfile as error:
        fail(str(error))


def _of(url: str | None, data_dir: Path, kind: "Kind", seconds: int) -> "Profile":
    import msgspec

    from easypay.command_line import http_calls
    from easypay.command_line.data_dir import DataDirectory
    from easypay.observability.profiles.model import Profile

    try:
        address, key = DataDirectory(data_dir).gateway(url)
        answer = http_calls.call(
            "POST",
            f"{address.rstrip('/')}/api/v1/admin/profiles",
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
            body=msgspec.json.encode({"what": kind, "seconds": seconds}),
            limit_s=seconds + _MORE_S,
        )
    except (LookupError, ValueError) as error:
        fail(str(error))
    except http_calls.NoAnswer as error:
        fail(f"{address} gave no profile: {error}")
    if answer.status != 200:
        fail(f"{address} gave no profile: {answer.status} {_detail(answer.body)}")
    try:
        return msgspec.json.decode(answer.body, type=Profile)
    except msgspec.DecodeError as error:
        fail(f"{address} gave no profile: what answered is not a gateway ({error})")


def _detail(body: bytes) -> str:
    import msgspec

    try:
        problem = msgspec.json.decode(body)
        return str(problem["errors"][0]["detail"] if problem.get("errors") else problem["detail"])
    except (msgspec.DecodeError, KeyError, TypeError, IndexError):
        return ""
