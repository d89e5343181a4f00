"""The mobile devices of an account, and the sessions they are logged in with."""

from typing import Any, Final, get_args

import msgspec

from authorizenet_simulator.state.store import Store

SESSION_MS: Final = 12 * 3_600_000


class DeviceRegistered(msgspec.Struct, array_like=True, tag="device"):
    login: str
    device: str
    enabled: bool
    """Whether it may log in."""


class SessionOpened(msgspec.Struct, array_like=True, tag="session"):
    token: str
    login: str
    device: str
    """'' where the login named none."""
    at: int


class SessionClosed(msgspec.Struct, array_like=True, tag="session_closed"):
    token: str


Event = DeviceRegistered | SessionOpened | SessionClosed


class Sessions(Store):
    """Who is logged in; a store beside the ledger."""

    events = get_args(Event)

    def __init__(self) -> None:
        self._devices: dict[tuple[str, str], bool] = {}
        self._open: dict[str, SessionOpened] = {}

    def device(self, login: str, device: str) -> bool | None:
        """Whether the account's device may log in; None for one that is not registered."""
        return self._devices.get((login, device))

    def find(self, token: str, now: int) -> SessionOpened | None:
        """The session of a token that still counts at `now`."""
        opened = self._open.get(token)
        return opened if opened is not None and now < opened.at + SESSION_MS else None

    def apply(self, event: Any) -> None:
        match event:
            case DeviceRegistered(login, device, enabled):
                self._devices[login, device] = enabled
            case SessionOpened(token):
                self._drop_stale(event.at)
                self._open[token] = event
            case SessionClosed(token):
                self._open.pop(token, None)  # a replay may have swept it already

    def _drop_stale(self, now: int) -> None:
        """They lie in the order of their opening: each new one sweeps two."""
        for token in [token for token, _ in zip(self._open, range(2), strict=False)]:
            if self.find(token, now) is None:
                del self._open[token]

    def reset(self, login: str) -> None:
        if not login:
            self._devices.clear()
            self._open.clear()
            return
        self._devices = {key: on for key, on in self._devices.items() if key[0] != login}
        self._open = {key: made for key, made in self._open.items() if made.login != login}
