"""`easypay batch`: upload a file of payments, captures, refunds and voids, and follow it."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from hashlib import file_digest
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, NamedTuple
from urllib.parse import urlencode
from uuid import uuid4

import typer

from easypay.command_line.console import (
    DATA_DIR,
    Columns,
    DataDir,
    Json,
    fail,
    new_group,
    progress_bar,
    show,
    show_rows,
)
from easypay.command_line.http_calls import Answer, NoAnswer, call
from easypay.command_line.shop_access import ForMerchant, GatewayUrl, shop_access

SCOPES: Final = ("payments:read", "payments:write", "refunds:write", "batches:write")
_LOOK_EVERY_S: Final = 0.5
_UPLOAD_WITHIN_S: Final = 300.0
_ANSWER_WITHIN_S: Final = 30.0
_KINDS: Final = {".csv": "text/csv", ".jsonl": "application/jsonl", ".ndjson": "application/jsonl"}
_OVER: Final = ("done", "cancelled", "invalid")
_ERRORS_SHOWN: Final = 20

ApiKey = Annotated[
    str | None,
    typer.Option(envvar="EASYPAY_API_KEY", help="A key with the scope batches:write, for --url."),
]
BatchId = Annotated[str, typer.Argument(metavar="BATCH", help="`bat_…`")]

batches = new_group("Run files of payments, captures, refunds and voids (docs/batches.md).")


class OnError(StrEnum):
    """What to do with a file if some of its lines are wrong; the API's words."""

    REFUSE = "refuse"
    SKIP = "skip"


class Gateway(NamedTuple):
    """A gateway, and the key of a shop for it."""

    url: str
    key: str

    def ask(self, method: str, path: str, **more: Any) -> Answer:
        """Send a request; what is refused ends the program with one line."""
        headers = {"Authorization": f"Bearer {self.key}", **more.pop("headers", {})}
        try:
            answer = call(
                method,
                f"{self.url}/api/v1{path}",
                headers=headers,
                limit_s=more.pop("limit_s", _ANSWER_WITHIN_S),
                **more,
            )
        except (NoAnswer, ValueError) as error:
            fail(f"the gateway at {self.url} does not answer: {error}")
        if answer.status >= 400:
            fail(f"refused: {_detail(answer.body)}")
        return answer

    def read(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        """Send a request and return its JSON."""
        import msgspec

        found: dict[str, Any] = msgspec.json.decode(self.ask(method, path, **more).body)
        return found


@contextmanager
def _gateway(
    data_dir: Path, merchant: str | None, url: str | None, api_key: str | None
) -> Iterator[Gateway]:
    if api_key is not None and url is not None:
        yield Gateway(url.rstrip("/"), api_key)
        return
    with shop_access(data_dir, merchant, url, name="easypay batch", scopes=SCOPES) as access:
        yield Gateway(access.url, access.key)


@batches.command("run")
def run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of JSON lines or CSV.")],
    name: Annotated[
        str | None, typer.Option(help="A name for people. Default: the file's.")
    ] = None,
    on_error: Annotated[
        OnError,
        typer.Option(help="If a line is wrong: `refuse` runs nothing, `skip` runs the others."),
    ] = OnError.REFUSE,
    lines_per_second: Annotated[
        int | None, typer.Option(min=1, help="No faster than this.")
    ] = None,
    at_once: Annotated[int | None, typer.Option(min=1, help="Lines under way at a time.")] = None,
    check_only: Annotated[
        bool, typer.Option("--check-only", help="Only check it: `easypay batch start` runs it.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Do not follow it to its end.")] = False,
    merchant: ForMerchant = None,
    url: GatewayUrl = None,
    api_key: ApiKey = None,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Upload a file and run it. Every line is checked first; if one is wrong, nothing runs,
    unless `--on-error skip`.

    The same file is the same batch: if the command was ended, run it again to follow it. Ctrl-C
    pauses the batch.

    Example: `easypay batch run november.jsonl --lines-per-second 50`
    """
    kind = _KINDS.get(file.suffix.lower())
    if kind is None:
        raise typer.BadParameter(f"the file's name ends with {', '.join(_KINDS)}")
    asked = {"lines_per_second": lines_per_second, "at_once": at_once}
    limits = {word: limit for word, limit in asked.items() if limit is not None}
    query = {
        "name": file.name[:100] if name is None else name,
        "start": "false" if check_only or limits else "true",
        "on_error": on_error.value,
        **{word: str(limit) for word, limit in limits.items()},
    }
    for each in (signal.SIGINT, signal.SIGTERM):  # a shell may have SIGINT ignored
        signal.signal(each, signal.default_int_handler)
    with _gateway(data_dir, merchant, url, api_key) as gateway:
        batch = _upload(gateway, file, kind, query)
        if batch["state"] == "invalid":
            _show_errors(gateway, batch, as_json)
            sys.exit(1)
        if limits and not check_only:
            batch = _started(gateway, batch, limits)
        follows = not (check_only or detach)
        if follows:
            batch = _follow(gateway, batch, as_json)
        show(as_json, batch, _summary(batch))
        if follows and batch["state"] != "done":
            sys.exit(1)


def _upload(gateway: Gateway, file: Path, kind: str, query: dict[str, str]) -> dict[str, Any]:
    try:
        with file.open("rb") as content:
            key = file_digest(content, "sha256").hexdigest()
            if query["on_error"] == OnError.SKIP:
                key += "-skip"
            length = content.tell()
            status, batch = _send(gateway, content, length, kind, query, key)
            if status == 200 and batch["state"] == "invalid":
                # It was refused before. Its key or its merchant may have been corrected since.
                _, batch = _send(gateway, content, length, kind, query, f"{key[:32]}-{uuid4().hex}")
            return batch
    except OSError as error:
        fail(f"cannot read {file}: {error.strerror or error}")
    except KeyboardInterrupt:
        print(  # noqa: T201
            "\neasypay: the upload was cut. If the gateway had read the whole file, the batch is "
            "there, and runs: see `easypay batch list`. Otherwise nothing was kept",
            file=sys.stderr,
        )
        sys.exit(130)


def _send(
    gateway: Gateway, content: BinaryIO, length: int, kind: str, query: dict[str, str], key: str
) -> tuple[int, dict[str, Any]]:
    """Upload an open file; return the status and the batch."""
    import msgspec

    content.seek(0)
    answer = gateway.ask(
        "POST",
        f"/batches?{urlencode(query)}",
        body=content,
        headers={"Content-Type": kind, "Content-Length": str(length), "Idempotency-Key": key},
        limit_s=_UPLOAD_WITHIN_S,
    )
    batch: dict[str, Any] = msgspec.json.decode(answer.body)
    return answer.status, batch


def _started(gateway: Gateway, batch: dict[str, Any], limits: dict[str, int]) -> dict[str, Any]:
    """Start a batch that has these limits. The same file may have been uploaded with others before:
    then it must not run faster than was asked for now."""
    if batch["state"] != "ready":
        return batch
    for word, limit in limits.items():
        if batch[word] != limit:
            had = "no limit" if batch[word] is None else f"{batch[word]:g}"
            fail(
                f"this file is {batch['id']} already, with {had} for {word}, and that stays. It "
                f"was not started. `easypay batch start {batch['id']}` runs it so. For other "
                "limits, cancel it, give one of its lines another line_reference and run the file "
                "again"
            )
    return gateway.read("POST", f"/batches/{batch['id']}/start")


def _follow(gateway: Gateway, batch: dict[str, Any], as_json: bool) -> dict[str, Any]:
    """Show how far a batch has come until it ends or somebody pauses it. Ctrl-C pauses it."""
    path = f"/batches/{batch['id']}"
    wanted = not as_json and sys.stderr.isatty()
    texts = ("{task.fields[ended]} lines", "{task.fields[rate]}/s", "{task.fields[sums]}")
    try:
        with progress_bar(
            wanted, batch["name"] or batch["id"], *texts, total=batch["lines"], **_figures(batch)
        ) as renew:
            while batch["state"] not in (*_OVER, "paused"):
                time.sleep(_LOOK_EVERY_S)
                batch = gateway.read("GET", path)
                renew(completed=batch["done"] + batch["failed"], **_figures(batch))
    except KeyboardInterrupt:
        batch = gateway.read("POST", f"{path}/pause")
        print(  # noqa: T201
            f"\neasypay: {batch['id']} is {batch['state']}. "
            f"`easypay batch resume {batch['id']}` goes on; `easypay batch cancel {batch['id']}` "
            "ends it",
            file=sys.stderr,
        )
        sys.exit(130)
    return batch


def _figures(batch: dict[str, Any]) -> dict[str, Any]:
    return {
        "ended": f"{batch['done'] + batch['failed']:,} of {batch['lines']:,}",
        "rate": f"{batch['rate']:,.0f}",
        "sums": ", ".join(_sums(batch)),
    }


def _sums(batch: dict[str, Any]) -> list[str]:
    """Return what moved: `captured USD 12.50`."""
    from easypay.money import EXPONENT

    shown = []
    for each in batch["sums"]:
        if each["amount"] and each["currency"]:
            digits = EXPONENT[each["currency"]]
            amount = f"{each['amount'] / 10**digits:,.{digits}f}"
            shown.append(f"{each['outcome']} {each['currency']} {amount}")
    return shown


def _summary(batch: dict[str, Any]) -> str:
    parts = [f"{batch[word]:,} {word}" for word in ("done", "failed", "waiting", "cancelled")]
    if batch["wrong_lines"]:
        parts.append(f"{batch['wrong_lines']:,} wrong")
    reason = f" {batch['reason']}" if batch["reason"] else ""
    return "\n".join(
        [f"{batch['id']} is {batch['state']}: {', '.join(parts)}.{reason}", *_sums(batch)]
    )


def _show_errors(gateway: Gateway, batch: dict[str, Any], as_json: bool) -> None:
    """Show what is wrong with a file: some of it for people."""
    import msgspec

    if as_json:
        show(True, batch, "")
        return
    answer = gateway.ask(
        "GET", f"/batches/{batch['id']}/errors", headers={"Accept": "application/jsonl"}
    )
    lines = [msgspec.json.decode(line) for line in answer.body.splitlines()[:-1]]
    for each in lines[:_ERRORS_SHOWN]:
        print(f"{batch['name']}:{each['line']}: {each['message']}")  # noqa: T201
    if len(lines) > _ERRORS_SHOWN:
        print(f"... `easypay batch errors {batch['id']}` shows all {len(lines)}.")  # noqa: T201
    print(f"{batch['id']} is invalid. {batch['reason']}", file=sys.stderr)  # noqa: T201


class Listed(NamedTuple):
    """A batch in the table."""

    id: str
    name: str
    state: str
    lines: int
    done: int
    failed: int
    created_at: str


@batches.command("list")
def list_batches(
    merchant: ForMerchant = None,
    url: GatewayUrl = None,
    api_key: ApiKey = None,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """List the newest batches.

    Example: `easypay batch list`
    """
    with _gateway(data_dir, merchant, url, api_key) as gateway:
        found = gateway.read("GET", "/batches?limit=100")["data"]
    names = Listed._fields
    rows = [Listed(*(each[name] for name in names)) for each in found]
    columns = Columns(names, left_out_first=("created_at", "name"))
    show_rows(as_json, found if as_json else rows, columns, "There are no batches.")


@batches.command("show")
def show_batch(
    batch: BatchId,
    merchant: ForMerchant = None,
    url: GatewayUrl = None,
    api_key: ApiKey = None,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Show how far a batch has come.

    Example: `easypay batch show bat_019ab3c5f2e37d2c9f4cf8f6b2f0a1d3`
    """
    with _gateway(data_dir, merchant, url, api_key) as gateway:
        found = gateway.read("GET", f"/batches/{batch}")
    show(as_json, found, _summary(found))


def _changing(what: str, help_text: str) -> Callable[..., None]:
    """Return the command that changes the state of a batch."""

    def change(
        batch: BatchId,
        merchant: ForMerchant = None,
        url: GatewayUrl = None,
        api_key: ApiKey = None,
        data_dir: DataDir = DATA_DIR,
        as_json: Json = False,
    ) -> None:
        with _gateway(data_dir, merchant, url, api_key) as gateway:
            found = gateway.read("POST", f"/batches/{batch}/{what}")
        show(as_json, found, _summary(found))

    change.__doc__ = (
        f"{help_text}\n\nExample: `easypay batch {what} bat_019ab3c5f2e37d2c9f4cf8f6b2f0a1d3`"
    )
    return change


for _what, _help in (
    ("start", "Start a batch that was only checked."),
    ("pause", "Pause a batch: no more lines begin."),
    ("resume", "Let a paused batch go on."),
    ("cancel", "Cancel a batch: no more lines begin, ever. What is done stays done."),
):
    batches.command(_what)(_changing(_what, _help))


def _printing(what: str, help_text: str) -> Callable[..., None]:
    """Return the command that prints something of each line of a batch."""

    def print_lines(
        batch: BatchId,
        as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, not JSON lines.")] = False,
        merchant: ForMerchant = None,
        url: GatewayUrl = None,
        api_key: ApiKey = None,
        data_dir: DataDir = DATA_DIR,
    ) -> None:
        accept = "text/csv" if as_csv else "application/jsonl"
        with _gateway(data_dir, merchant, url, api_key) as gateway:
            gateway.ask(
                "GET",
                f"/batches/{batch}/{what}",
                headers={"Accept": accept},
                into=partial(sys.stdout.buffer.write),
            )
            sys.stdout.buffer.flush()

    print_lines.__doc__ = (
        f"{help_text} The last line says how many there are.\n\n"
        f"Example: `easypay batch {what} bat_019ab3c5f2e37d2c9f4cf8f6b2f0a1d3 --csv`"
    )
    return print_lines


batches.command("results")(_printing("results", "Print every line and what became of it."))
batches.command("errors")(_printing("errors", "Print what is wrong with each wrong line."))


def _detail(body: bytes) -> str:
    """Return what a problem says, for a person."""
    import msgspec

    class Problem(msgspec.Struct):
        detail: str = ""

    try:
        return msgspec.json.decode(body, type=Problem).detail or body.decode("utf-8", "replace")
    except msgspec.MsgspecError:
        return body[:200].decode("utf-8", "replace")
