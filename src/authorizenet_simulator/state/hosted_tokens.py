"""The tokens of hosted pages: valid for 15 minutes, one account and one payment each."""

from typing import Any, Final, get_args

import msgspec

from authorizenet_simulator.state.store import Store

LIFETIME_MS: Final = 15 * 60_000


class PageMinted(msgspec.Struct, array_like=True, tag="page"):
    """A token was issued for a payment page or a customer profile's page."""

    token: str
    login: str
    expires: int
    request: str
    """JSON of the transactionRequest, without a payment method; '' for a profile page."""
    profile_id: int
    """0 for a payment page."""
    ref_id: str
    settings: dict[str, str]
    """By their names in the API."""


class PageUsed(msgspec.Struct, array_like=True, tag="page_used"):
    token: str


class PageFreed(msgspec.Struct, array_like=True, tag="page_freed"):
    """The payment failed, so it may be tried again."""

    token: str


Event = PageMinted | PageUsed | PageFreed


class HostedPages(Store):
    """The store of issued tokens."""

    events = get_args(Event)

    def __init__(self) -> None:
        self._pages: dict[str, PageMinted] = {}
        self._used: set[str] = set()

    def find(self, token: str) -> PageMinted | None:
        return self._pages.get(token)

    def is_used(self, token: str) -> bool:
        return token in self._used

    def apply(self, event: Any) -> None:
        match event:
            case PageMinted():
                self._drop_stale(event.expires - LIFETIME_MS)
                self._pages[event.token] = event
            case PageUsed(token):
                self._used.add(token)
            case PageFreed(token):
                self._used.discard(token)

    def _drop_stale(self, now: int) -> None:
        """Check the two oldest tokens at each new one; they are ordered by issue time."""
        for token in [token for token, _ in zip(self._pages, range(2), strict=False)]:
            if self._pages[token].expires + LIFETIME_MS < now:
                del self._pages[token]
                self._used.discard(token)

    def reset(self, login: str) -> None:
        gone = [key for key, page in self._pages.items() if login in ("", page.login)]
        for token in gone:
            del self._pages[token]
            self._used.discard(token)
