"""The mobile devices of an account, and their login sessions."""

from typing import Any, Final, get_args

import msgspec

from authorizenet_simulator.state.store import Store

SESSION_MS: Final = 12 * 3_600_000


class DeviceRegistered(msgspec.Struct, array_like=True, tag="device"):
    login: str
    device: str
    enabled: bool
    """Whether the device may log in."""


class SessionOpened(msgspec.Struct, array_like=True, tag="session"):
    token: str
    login: str
    device: str
    """'' if the login named none."""
    at: int


class SessionClosed(msgspec.Struct, array_like=True, tag="session_closed"):
    token: str


Event = DeviceRegistered | SessionOpened | SessionClosed


class Sessions(Store):
    """The store of devices and open sessions."""

    events = get_args(Event)

    def __init__(self) -> None:
        self._devices: dict[tuple[str, str], bool] = {}
        self._open: dict[str, SessionOpened] = {}

    def device(self, login: str, device: str) -> bool | None:
        """Return whether the account's device may log in; None if it is not registered."""
        return self._devices.get((login, device))

    def find(self, token: str, now: int) -> SessionOpened | None:
        """Return the token's session if it is still valid at `now`."""
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
                self._open.pop(token, None)  # it may have been dropped as stale

    def _drop_stale(self, now: int) -> None:
        """Check the two oldest sessions at each login; they are ordered by opening time."""
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
