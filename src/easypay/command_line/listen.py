"""`easypay listen`: events of a merchant in test mode, forwarded to a program on this machine.

It follows `GET /events`, so no endpoint is made, and the program needs no public address. Each
event is signed as a worker signs it, and has the same body.
"""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple
from urllib.parse import quote

import typer

from easypay.command_line.console import DATA_DIR, DataDir, Json, fail, to_json
from easypay.command_line.http_calls import NoAnswer, call
from easypay.command_line.shop_access import (
    ForMerchant,
    GatewayUrl,
    ShopAccess,
    must_be_test_key,
    shop_access,
)

if TYPE_CHECKING:
    from easypay.webhooks.messages import ShownEvent

LIMIT_S: Final = 15.0
"""How long the program has to answer: as long as an endpoint."""
_WAIT_S: Final = 30
_PAGE_WITHIN_S: Final = 45.0
_AGAIN_S: Final = 1.0
_MOST_ANSWER: Final = 64 * 1024


class Forwarded(NamedTuple):
    """What became of an event. `status` is None if no answer came; `reason` says why."""

    status: int | None
    took_ms: int
    reason: str | None


def listen(
    forward_to: Annotated[
        str | None, typer.Option("--forward-to", help="Where events are sent by POST.")
    ] = None,
    types: Annotated[
        str | None, typer.Option(help="Only these, with commas between: payment.captured.")
    ] = None,
    show_bodies: Annotated[
        bool, typer.Option("--print", help="Print each event's body, too.")
    ] = False,
    secret: Annotated[
        str | None, typer.Option(help="Sign with this `whsec_…`. Default: a new secret.")
    ] = None,
    merchant: ForMerchant = None,
    url: GatewayUrl = None,
    api_key: Annotated[
        str | None, typer.Option(help="A test key with the scope events:read, for --url.")
    ] = None,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Forward events to a program on this machine, signed as webhooks, until Ctrl-C.

    It needs no endpoint and no public address. The program is told of what happens from now on, of
    one event after another, each once: what it does not answer with 2xx is shown, and not repeated.
    Only in test mode.

    Example: `easypay listen --forward-to http://127.0.0.1:3000/easypay --types payment.captured`
    """
    from easypay.webhooks.signing import is_secret, new_secret

    if forward_to is None and not show_bodies:
        raise typer.BadParameter("give --forward-to, or --print")
    if forward_to is not None and not forward_to.startswith(("http://", "https://")):
        raise typer.BadParameter("--forward-to begins with http:// or https://")
    if secret is not None and not is_secret(secret):
        raise typer.BadParameter("--secret is `whsec_` and 24 to 64 bytes in base64")
    signed_with = secret or new_secret()
    try:
        if api_key is not None:
            if url is None:
                raise typer.BadParameter("--api-key needs --url")
            must_be_test_key(api_key)
            _listen(url.rstrip("/"), api_key, types, forward_to, signed_with, show_bodies, as_json)
            return
        with shop_access(
            data_dir, merchant, url, name="easypay listen", scopes=["events:read"]
        ) as access:
            _listen_as(access, types, forward_to, signed_with, show_bodies, as_json)
    except KeyboardInterrupt:
        sys.exit(130)


def _listen_as(access: ShopAccess, *how: Any) -> None:
    _listen(access.url, access.key, *how)


def _listen(
    url: str,
    key: str,
    types: str | None,
    forward_to: str | None,
    secret: str,
    show_bodies: bool,
    as_json: bool,
) -> None:
    from easypay.webhooks.messages import payment_body

    for each in (signal.SIGINT, signal.SIGTERM):  # a shell may have SIGINT ignored
        signal.signal(each, signal.default_int_handler)
    began = partial(
        _say,
        as_json,
        {"forward_to": forward_to, "secret": secret},
        f"Listening at {url}. Ctrl-C ends it. The secret for checking signatures:\n{secret}",
    )
    for event in _events(url, key, types, began):
        body = payment_body(event)
        done = None if forward_to is None else forward(forward_to, secret, event.id, body)
        line = {"event_id": event.id, "type": event.type, "payment_id": event.payment_id}
        if done is not None:
            line |= done._asdict()
        if as_json:
            import msgspec

            more = {"body": msgspec.Raw(body)} if show_bodies else {}
            print(to_json(line | more), flush=True)  # noqa: T201
            continue
        print(_line(event, done), flush=True)  # noqa: T201
        if show_bodies:
            print(body.decode(), flush=True)  # noqa: T201


def _line(event: "ShownEvent", done: Forwarded | None) -> str:
    told = ""
    if done is not None:
        said = str(done.status) if done.status is not None else f"no answer: {done.reason}"
        told = f"  {done.took_ms:>5} ms  {said}"
    return f"{event.created_at[11:19]}  {event.type:<20}  {event.id}{told}"


def _say(as_json: bool, value: Any, text: str) -> None:
    print(to_json(value) if as_json else text, flush=True)  # noqa: T201


def forward(url: str, secret: str, event_id: str, body: bytes) -> Forwarded:
    """Send an event's message, signed now, and return what was answered."""
    from easypay import clock
    from easypay.webhooks.signing import headers

    sent_at = int(clock.now().timestamp())
    started = time.monotonic()
    signed = {"Content-Type": "application/json", "User-Agent": "easypay-webhooks"}
    signed |= dict(headers([secret], event_id, sent_at, body))
    status, reason = None, None
    try:
        answer = call(
            "POST", url, headers=signed, body=body, limit_s=LIMIT_S, most_bytes=_MOST_ANSWER
        )
        status = answer.status
    except NoAnswer as error:
        reason = str(error)
    return Forwarded(status, int((time.monotonic() - started) * 1000), reason)


def _events(
    url: str, key: str, types: str | None, began: Callable[[], None]
) -> "Iterator[ShownEvent]":
    """Yield what happens once `began` was called. Tries again while the gateway does not answer."""
    import msgspec

    from easypay.webhooks.messages import ShownEvent

    class Page(msgspec.Struct, frozen=True):
        data: list[ShownEvent]
        next_cursor: str

    decoder = msgspec.json.Decoder(Page)
    wanted = f"&types={quote(types, safe=',')}" if types else ""
    headers = {"Authorization": f"Bearer {key}"}
    after, reached = "latest", True
    while True:
        address = f"{url}/api/v1/events?after={quote(after)}{wanted}"
        waiting = headers if after == "latest" else {**headers, "Prefer": f"wait={_WAIT_S}"}
        try:
            answer = call("GET", address, headers=waiting, limit_s=_PAGE_WITHIN_S)
        except (NoAnswer, ValueError) as error:
            if after == "latest":
                fail(f"the gateway at {url} does not answer: {error}")
            if reached:
                print(f"easypay: the gateway does not answer: {error}", file=sys.stderr)  # noqa: T201
            reached = False
            time.sleep(_AGAIN_S)
            continue
        if answer.status >= 500 or answer.status == 429:
            time.sleep(_AGAIN_S)
            continue
        if answer.status != 200:
            fail(f"the gateway refuses: {_detail(answer.body)}")
        reached = True
        page = decoder.decode(answer.body)
        if after == "latest":
            began()  # only now: whoever reads it may pay at once, and is told of that
        yield from page.data
        after = page.next_cursor


def _detail(body: bytes) -> str:
    """Return what a problem says, for a person."""
    import msgspec

    class Problem(msgspec.Struct):
        detail: str = ""

    try:
        return msgspec.json.decode(body, type=Problem).detail or body.decode("utf-8", "replace")
    except msgspec.MsgspecError:
        return body[:200].decode("utf-8", "replace")
