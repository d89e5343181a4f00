"""The control API under /simulator: transactions, faults, clock, settlement, settings."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from itertools import chain, islice
from typing import Annotated, Any, Final, Protocol
from urllib.parse import parse_qs

import msgspec

from authorizenet_simulator.control import manual_controls, truth
from authorizenet_simulator.control.faults import Fault, Faults
from authorizenet_simulator.control.recorded_calls import Calls
from authorizenet_simulator.state import clock
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.state.settings import Settings
from authorizenet_simulator.state.webhooks import Notification
from authorizenet_simulator.wire import amounts

Answer = tuple[int, Iterator[bytes]]
"""HTTP status and the body in chunks."""
_MAX_ADVANCE_S: Final = 1000 * 366 * 86_400.0
_encode = msgspec.json.Encoder().encode


_WORD: Final = r"^[!-~]+(?!\n)$"
"""Printable ASCII without spaces: the characters of logins and keys."""


class AccountBody(msgspec.Struct, forbid_unknown_fields=True):
    login: Annotated[str, msgspec.Meta(max_length=25, pattern=_WORD)]
    transaction_key: Annotated[str, msgspec.Meta(max_length=16, pattern=_WORD)]
    currencies: Annotated[
        list[Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{3}(?!\n)$")]],
        msgspec.Meta(min_length=1, max_length=200),
    ] = msgspec.field(default_factory=lambda: ["USD"])
    signature_key: Annotated[
        str, msgspec.Meta(max_length=1024, pattern=r"^([0-9A-Fa-f]{2})*(?!\n)$")
    ] = ""


class ClockBody(msgspec.Struct, forbid_unknown_fields=True):
    now: str | None = None
    advance_s: float | None = None
    real: bool = False
    stopped: bool | None = None
    """With `now` or `advance_s`: whether the clock is stopped from then on."""


class ResetBody(msgspec.Struct, forbid_unknown_fields=True):
    login: str | None = None


class Connection(Protocol):
    """A client's connection, which a fault can cut."""

    def abort(self, *, reset: bool) -> None:
        """Close it at once without sending more; with `reset` the peer sees a reset."""


class Listener(Protocol):
    """The listening socket: whether new connections are accepted."""

    def stop(self, spare: Connection | None) -> None:
        """Refuse new connections and close idle ones, except `spare`."""

    async def resume(self) -> None:
        """Accept connections again, on the same port."""


class Control:
    """Answers the control API's requests."""

    def __init__(self, ledger: Ledger, faults: Faults, calls: Calls) -> None:
        self.listener: Listener | None = None
        self._ledger = ledger
        self._active_faults = faults
        self._recorded_calls = calls
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._routes: dict[tuple[str, str], Callable[[_Request], Awaitable[Answer]]] = {
            ("GET", "/livez"): self._livez,
            ("GET", "/transactions"): self._transactions,
            ("GET", "/profiles"): self._profiles,
            ("GET", "/accounts"): self._accounts,
            ("POST", "/accounts"): self._add_account,
            ("GET", "/settings"): self._settings,
            ("POST", "/settings"): self._change_settings,
            ("GET", "/faults"): self._faults,
            ("POST", "/faults"): self._add_fault,
            ("DELETE", "/faults"): self._delete_faults,
            ("GET", "/clock"): self._clock,
            ("POST", "/clock"): self._set_clock,
            ("POST", "/settle"): self._settle,
            ("POST", "/reset"): self._reset,
            ("GET", "/calls"): self._calls,
            ("GET", "/notifications"): self._notifications,
            ("POST", "/status"): self._set_status,
            ("POST", "/returns"): self._return_item,
        }

    async def answer(
        self, method: str, path: str, query: bytes, body: bytes, connection: Connection | None
    ) -> Answer:
        request = _Request(parse_qs(query.decode("latin-1")), body, connection)
        path = path.removeprefix("/simulator").rstrip("/")
        if method == "DELETE" and path.startswith("/faults/"):
            return await self._delete_fault(path.removeprefix("/faults/"))
        handler = self._routes.get((method, path))
        if handler is None:
            known = any(path == other for _, other in self._routes)
            return _error(405, "method not allowed") if known else _error(404, "not found")
        try:
            return await handler(request)
        except (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError) as error:
            return _error(400, str(error))
        finally:
            self._ledger.journal.flush()

    async def _livez(self, request: "_Request") -> Answer:
        return _json({"status": "ok"})

    async def _transactions(self, request: "_Request") -> Answer:
        """List matching transactions, oldest first; with `limit` only the newest ones."""
        self._ledger.tick()
        login, invoice = request.get("login"), request.get("invoice_number")
        rows = self._ledger.rows
        if login is not None or invoice is not None:
            rows = [
                row
                for row in rows
                if (invoice is None or row.invoice == invoice)
                and (login is None or row.login == login)
            ]
        count = _limit(request, len(rows))
        rows = rows[len(rows) - min(count, len(rows)) :]
        return 200, truth.array(map(truth.transaction, rows[:]))

    async def _profiles(self, request: "_Request") -> Answer:
        """List the customer profiles of one account or of all, oldest first, hidden ones too."""
        login = request.get("login")
        shelves = self._ledger.profiles.shelves().items()
        chosen = [each for each in shelves if login is None or each[0] == login]
        rows = [
            truth.profile(name, each) for name, shelf in chosen for each in shelf.profiles.values()
        ]
        return 200, truth.array(iter(rows))

    async def _calls(self, request: "_Request") -> Answer:
        """List the newest calls, masked, newest first."""
        calls = self._recorded_calls
        login, method = request.get("login"), request.get("method")
        listed = calls.listed(login, method, request.get("contains"), _limit(request, 200))
        return _json({"not_kept": calls.passed, "calls": listed})

    async def _notifications(self, request: "_Request") -> Answer:
        """List the notifications of one account or of all, newest first."""
        login, history = request.get("login"), self._ledger.webhooks.history
        chosen = [history.get(login, {})] if login else history.values()
        limit = _limit(request, 100)
        newest = chain.from_iterable(islice(reversed(each.values()), limit) for each in chosen)
        ordered = sorted(newest, key=lambda each: each.event.at, reverse=True)
        return _json([self._shown(each) for each in ordered[:limit]])

    def _shown(self, notification: Notification) -> dict[str, Any]:
        event = notification.event
        webhook = self._ledger.webhooks.webhooks.get(event.webhook_id)
        return {
            "notification_id": event.notification_id,
            "webhook_id": event.webhook_id,
            "url": webhook.set.url if webhook else None,
            "login": notification.login,
            "event_type": event.event_type,
            "at": clock.utc_text(event.at),
            "status": notification.status,
            "http_status": notification.http_status,
            "attempts": len(notification.attempts),
            "problem": notification.attempts[-1].problem if notification.attempts else "",
            "next_attempt": clock.utc_text(notification.due)
            if notification.due and notification.status == "RetryPending"
            else None,
            "payload": msgspec.Raw(event.payload.encode()),
        }

    async def _accounts(self, request: "_Request") -> Answer:
        accounts = self._ledger.accounts.values()
        return _json([{"login": each.login, "currencies": each.currencies} for each in accounts])

    async def _add_account(self, request: "_Request") -> Answer:
        body = msgspec.json.decode(request.body, type=AccountBody)
        self._ledger.add_account(
            body.login, body.transaction_key, body.currencies, body.signature_key
        )
        return _json({"login": body.login, "currencies": body.currencies})

    async def _settings(self, request: "_Request") -> Answer:
        return _json(self._settings_for(request.get("login")))

    def _settings_for(self, login: str | None) -> Settings:
        if not login:
            return self._ledger.settings
        account = self._ledger.accounts.get(login)
        if account is None:
            raise ValueError(f"no account {login!r}")
        return self._ledger.settings_of(account)

    async def _change_settings(self, request: "_Request") -> Answer:
        """Change the settings named in the body; with `login` for that account alone."""
        body = msgspec.json.decode(request.body, type=dict[str, Any])
        login = body.pop("login", None)
        if not isinstance(login, str | None):
            raise ValueError("login must be a string")
        merged = msgspec.structs.asdict(self._settings_for(login)) | body
        settings = msgspec.convert(merged, type=Settings)
        for limit in (settings.held_above, settings.max_amount, settings.echeck_monthly_limit):
            if limit is not None and (not _is_amount(limit)):
                raise ValueError("amounts must be strings above zero such as '900.00'")
        self._ledger.change_settings(login or "", settings)
        return _json(settings)

    async def _faults(self, request: "_Request") -> Answer:
        return _json(list(self._active_faults.active.values()))

    async def _add_fault(self, request: "_Request") -> Answer:
        fault = msgspec.json.decode(request.body, type=Fault)
        if fault.id:
            raise ValueError("id must be omitted: the simulator assigns it")
        if (problem := fault.problem()) is not None:
            raise ValueError(problem)
        number = self._active_faults.add(fault)
        listener = self.listener
        if fault.kind == "refuse" and listener is not None:
            listener.stop(request.connection)
            if fault.duration_ms is not None:
                self._timers[number] = asyncio.get_running_loop().call_later(
                    fault.duration_ms / 1000, self._end_of, number
                )
        return _json({"id": number})

    def _end_of(self, number: str) -> None:
        task = asyncio.get_running_loop().create_task(self._remove([number]))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _delete_faults(self, request: "_Request") -> Answer:
        removed = list(self._active_faults.active)
        await self._remove(removed)
        return _json({"deleted": len(removed)})

    async def _delete_fault(self, number: str) -> Answer:
        if number not in self._active_faults.active:
            return _error(404, "not found")
        await self._remove([number])
        return _json({"deleted": 1})

    async def _remove(self, numbers: list[str]) -> None:
        """Delete faults; accept connections again once no `refuse` fault is left."""
        active = self._active_faults.active
        for number in numbers:
            active.pop(number, None)
            if (timer := self._timers.pop(number, None)) is not None:
                timer.cancel()
        self._ledger.webhooks.wake()  # a fault may have delayed notifications
        listener = self.listener
        if listener is not None and not any(each.kind == "refuse" for each in active.values()):
            await listener.resume()

    async def _clock(self, request: "_Request") -> Answer:
        the_clock = self._ledger.clock
        return _json(
            {
                "now": clock.utc_text(the_clock.now_ms()),
                "real": the_clock.offset_ms == 0 and the_clock.stopped_ms is None,
                "stopped": the_clock.stopped_ms is not None,
            }
        )

    async def _set_clock(self, request: "_Request") -> Answer:
        """Set the clock, which runs on from there unless stopped. It may go back: recorded times
        do not change. Everything is checked before anything changes."""
        body = msgspec.json.decode(request.body, type=ClockBody)
        if (body.now is not None) + (body.advance_s is not None) + body.real != 1:
            raise ValueError("give exactly one of now, advance_s and real")
        the_clock = self._ledger.clock
        current = the_clock.now_ms()
        if body.real:
            if body.stopped is not None:
                raise ValueError("stopped cannot be combined with real: use now or advance_s")
            self._ledger.set_clock(0, None)
            return await self._clock(request)
        if body.now is not None:
            target, stopped = clock.parse_setting(body.now), bool(body.stopped)
        else:
            seconds = body.advance_s or 0.0
            if not abs(seconds) < _MAX_ADVANCE_S:  # rejects infinity and NaN too
                raise ValueError("advance_s must be a number of seconds, at most 1000 years")
            target = clock.settable(current + round(seconds * 1000))
            was = the_clock.stopped_ms is not None
            stopped = was if body.stopped is None else body.stopped
        self._ledger.set_clock(target - current + the_clock.offset_ms, target if stopped else None)
        return await self._clock(request)

    async def _settle(self, request: "_Request") -> Answer:
        made = self._ledger.settle(self._ledger.tick())
        batches = [{"batch_id": str(b.batch_id), "transactions": len(b.txns)} for b in made]
        return _json({"batches": batches})

    async def _set_status(self, request: "_Request") -> Answer:
        return _json(manual_controls.set_status(self._ledger, request.body))

    async def _return_item(self, request: "_Request") -> Answer:
        return _json(manual_controls.return_item(self._ledger, request.body))

    async def _reset(self, request: "_Request") -> Answer:
        """Delete transactions and faults, of one account or of all; accounts, settings and the
        clock stay, and ids are not reused."""
        login = None
        if request.body.strip():
            login = msgspec.json.decode(request.body, type=ResetBody).login
        if login is not None and login not in self._ledger.accounts:
            raise ValueError(f"no account {login!r}")
        faults = self._active_faults.active.values()
        await self._remove([each.id for each in faults if login is None or each.login == login])
        self._ledger.reset(login or "")
        if login is None:
            self._recorded_calls.forget()
        return _json({"reset": login or "all"})


class _Request:
    __slots__ = ("body", "connection", "query")

    def __init__(
        self, query: dict[str, list[str]], body: bytes, connection: Connection | None
    ) -> None:
        self.query = query
        self.body = body
        self.connection = connection

    def get(self, name: str) -> str | None:
        found = self.query.get(name)
        return None if found is None else found[-1]


def _limit(request: _Request, default: int) -> int:
    text = request.get("limit")
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise ValueError("limit must be a whole number from 0 to 999999999")
    return int(text)


def _is_amount(text: str) -> bool:
    try:
        return (amounts.parse(text) or 0) > 0
    except ValueError:
        return False


def _json(value: Any) -> Answer:
    return 200, chain([_encode(value)])


def _error(status: int, text: str) -> Answer:
    return status, chain([_encode({"error": text})])
