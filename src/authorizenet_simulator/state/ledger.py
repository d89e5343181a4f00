"""The ledger: accounts, transactions and their current state, with indexes.

Every change is an event that is added to the journal and applied here; replaying the journal
applies the same events. The packages above check whether a change is allowed.
"""

import random
import secrets
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from authorizenet_simulator.state import (
    batches,
    clock,
    events,
    status_changes,
    statuses,
    subscriptions,
)
from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.books import Books
from authorizenet_simulator.state.clock import Clock
from authorizenet_simulator.state.customer_profiles import Profiles
from authorizenet_simulator.state.device_sessions import Sessions
from authorizenet_simulator.state.hosted_tokens import HostedPages
from authorizenet_simulator.state.journal import Event, Journal
from authorizenet_simulator.state.returned_items import Returns
from authorizenet_simulator.state.settings import Settings
from authorizenet_simulator.state.split_tenders import SplitTenders
from authorizenet_simulator.state.store import Store
from authorizenet_simulator.state.subscriptions import Subscription, Subscriptions
from authorizenet_simulator.state.transactions import Batch, Txn
from authorizenet_simulator.state.webhooks import Webhooks

_NEVER: Final = 1 << 62
DUPLICATE_WINDOW_MAX_MS: Final = 28_800_000
AWAITS_PAYER: Final = 5
"""Response code of a PayPal payment whose payer has not consented yet."""
_TIMED: Final = statuses.AGING | statuses.IN_REVIEW
DEFAULT_LOGIN: Final = "easypay-sim"
DEFAULT_KEY: Final = "sim-secret-key-1"


Collect = Callable[["Ledger", Subscription, int], None]
"""Makes one subscription's payment at its due time."""


class Ledger(Books):
    """The state of all accounts; `seed` determines the first ids."""

    def __init__(self, journal: Journal, the_clock: Clock, seed: int) -> None:
        super().__init__()
        self.journal = journal
        self.clock = the_clock
        self.collect: Collect | None = None
        """Set by `Simulator`, because it needs the rules of charges."""
        begin = random.Random(seed).randrange(40_000_000_000, 80_000_000_000)  # noqa: S311 - ids
        self.subscriptions = Subscriptions(begin % 5_000_000 + 2_000_000)
        self.profiles = Profiles()
        self.profiles.subscriptions_of = self.subscriptions.tied_to
        self.sessions = Sessions()
        self.pages = HostedPages()
        self.splits = SplitTenders()
        self.returns = Returns()
        self.webhooks = Webhooks()
        self._stores: list[Store] = [
            self.profiles,
            self.sessions,
            self.subscriptions,
            self.pages,
            self.splits,
            self.returns,
            self.webhooks,
        ]
        self._store_of: dict[type, Store] = {
            kind: store for store in self._stores for kind in store.events
        }
        self.salt = b""
        """The key of every fingerprint."""
        self._next_id = 0
        self._header(events.Header(secrets.token_hex(16), begin, begin % 9_000_000 + 1_000_000))
        known = False
        for event in journal.replay():
            known = True
            self._apply(event)
        if not known:
            journal.add(self.header)
        if DEFAULT_LOGIN not in self.accounts:
            self.add_account(DEFAULT_LOGIN, DEFAULT_KEY, ["USD"], "")
        # Whatever fell due while the process was down is executed at its due time, and so are the
        # cut-offs since then.
        self._next_cutoff = clock.next_cutoff_ms(min(the_clock.now_ms(), self._next_payment()))
        self._update_due()
        journal.flush()

    @property
    def header(self) -> events.Header:
        return events.Header(self.salt.hex(), self._next_id, self.next_batch)

    def settings_of(self, account: Account) -> Settings:
        return account.settings or self.settings

    def new_id(self) -> int:
        made = self._next_id
        self._next_id = made + 1
        return made

    # Changes: each is added to the journal, then applied.

    def add_account(self, login: str, key: str, currencies: list[str], signature_key: str) -> None:
        self._do(events.AccountAdded(login, key, currencies, signature_key))

    def change_settings(self, login: str, settings: Settings) -> None:
        self._do(events.SettingsChanged(login, settings))

    def set_clock(self, offset_ms: int, stopped_ms: int | None) -> None:
        self._do(events.ClockSet(offset_ms, stopped_ms))
        self.tick()  # if the clock went forward, execute what fell due
        self._next_cutoff = clock.next_cutoff_ms(self.clock.now_ms())
        self._update_due()
        self.webhooks.wake()

    def record(self, txn: Txn, digest: int) -> None:
        event = events.Recorded(txn, digest)
        self.journal.add(event)
        self._recorded(event)
        if txn.status in _TIMED:
            self._update_due()

    def capture(self, txn: Txn, amount: int, invoice: str, at: int) -> None:
        self._do(events.Captured(txn.trans_id, amount, invoice, at))

    def void(self, txn: Txn, invoice: str, at: int) -> None:
        self._do(events.Voided(txn.trans_id, invoice, at))

    def review(self, txn: Txn, *, approved: bool) -> None:
        self._do(events.Reviewed(txn.trans_id, approved))

    def move(self, txn: Txn, status: str, at: int) -> None:
        """Set the transaction's status, with the response code and reason of that status."""
        new = statuses.PLACES[status]
        self._do(events.Moved(txn.trans_id, status, new.response_code, new.reason, at))
        self._update_due()

    def settle(self, at: int) -> list[Batch]:
        """Settle everything captured or refunded; return the new batches."""
        before = self.next_batch
        self._do(events.Settled(at))
        return [self.batches[number] for number in range(before, self.next_batch)]

    def reset(self, login: str) -> None:
        """Delete the transactions, duplicates and nonces of one account, or of all ('')."""
        self._do(events.Reset(login))
        if not login:  # earlier events are obsolete, so rewrite the file
            self.journal.rewrite(self._snapshot())

    def tick(self) -> int:
        """Execute everything due, in order and at its due time; return the current time."""
        now = self.clock.now_ms()
        while self._due <= now:
            at = self._due
            self._execute(at, now)
            self._update_due()
            if self._due <= at:
                break
        return now

    def _execute(self, at: int, now: int) -> None:
        """Execute what is due at `at`: subscription payments, the cut-off, expirations."""
        while (due := self.subscriptions.first_due()) is not None and due.next_at <= at:
            assert self.collect is not None
            self.collect(self, due, due.next_at)
        if self._next_cutoff <= at:
            if not any(account.unsettled for account in self.accounts.values()):
                # Nothing to settle until the next payment: do not stop at every cut-off when the
                # clock is moved by years.
                at = max(at, min(now, self._next_payment()))
            elif self.settings.auto_settle:
                self._do(events.Settled(at))
            self._next_cutoff = clock.next_cutoff_ms(at)
        if self._next_expiry() <= at:
            self._do(events.Expired(at))

    def _next_payment(self) -> int:
        """Return the due time of the next subscription payment."""
        due = self.subscriptions.first_due()
        return _NEVER if due is None else due.next_at

    def _update_due(self) -> None:
        self._due = min(self._next_cutoff, self._next_expiry(), self._next_payment())

    def _next_expiry(self) -> int:
        """Return when the oldest authorization or held transaction expires."""
        end = self.aging[0].at + status_changes.AUTHORIZATION_MS if self.aging else _NEVER
        return min(end, self.reviewing[0].at + status_changes.REVIEW_MS) if self.reviewing else end

    def find_duplicate(self, account: Account, digest: int, now: int, window_s: int) -> Txn | None:
        txn = account.recent.get(digest) or account.older.get(digest)
        if txn is None or now - txn.at >= window_s * 1000:
            return None
        return txn

    def notify(self, login: str, event_type: str, payload: Callable[[], dict[str, Any]]) -> None:
        """Notify the account's webhooks; `payload` is only called if one listens."""
        if login not in self.webhooks.listening:
            return
        notified = self.webhooks.notified(login, event_type, payload, self.clock.now_ms())
        for event in notified:
            self._do(event)
        if notified:
            self.webhooks.wake()

    def do(self, event: Event) -> None:
        """Change a nonce or a store: write to the journal, apply, update the due times."""
        self._do(event)
        self._update_due()

    def _do(self, event: Event) -> None:
        self.journal.add(event)
        self._apply(event)

    def _apply(self, event: Event) -> None:
        store = self._store_of.get(type(event))
        if store is not None:
            store.apply(event)
            return
        match event:
            case events.Recorded():
                self._recorded(event)
            case events.Captured():
                status_changes.capture(self, event)
            case events.Voided():
                status_changes.void(self, event)
            case events.Moved():
                status_changes.move(self, event)
            case events.Reviewed():
                status_changes.review(self, event)
            case events.Settled(at):
                for account in self.accounts.values():
                    batches.settle(self, account, at)
            case events.Expired(at):
                status_changes.expire(self, at)
            case events.NonceMinted():
                self._drop_stale_nonces()
                self.nonces[event.value] = event
            case events.NonceUsed(value):
                self.nonces.pop(value, None)  # it may have been dropped as stale
            case events.AccountAdded():
                self._account_added(event)
            case events.SettingsChanged(login, settings):
                if login:
                    self.accounts[login].settings = settings
                else:
                    self.settings = settings
            case events.ClockSet(offset_ms, stopped_ms):
                self.clock.offset_ms, self.clock.stopped_ms = offset_ms, stopped_ms
            case events.Reset(login):
                self._reset(login)
            case subscriptions.Charged():
                if event.txn is not None:
                    self._recorded(events.Recorded(event.txn, event.digest))
                self.subscriptions.apply(event)
            case events.Header():
                self._header(event)

    def _header(self, header: events.Header) -> None:
        self.salt = bytes.fromhex(header.salt)
        self._next_id = header.next_id
        self.next_batch = header.next_batch

    def _account_added(self, added: events.AccountAdded) -> None:
        account = self.accounts.get(added.login)
        if account is None:
            self.accounts[added.login] = Account(added)
        else:
            account.transaction_key = added.transaction_key
            account.currencies = tuple(added.currencies)
            account.signature_key = added.signature_key

    def _recorded(self, event: events.Recorded) -> None:
        txn = event.txn
        account = self.accounts[txn.login]
        txn.login = account.login  # share one string, also after a replay
        self.txns[txn.trans_id] = txn
        self.rows.append(txn)
        self._next_id = max(self._next_id, txn.trans_id + 1)
        if txn.at < account.latest:
            account.disordered = True
        account.latest = txn.at
        if txn.at - account.recent_since >= DUPLICATE_WINDOW_MAX_MS:
            account.older, account.recent = account.recent, {}
            account.recent_since = txn.at
        account.recent[event.digest] = txn
        status = txn.status
        if status in statuses.PENDING:
            if txn.response_code != AWAITS_PAYER:  # else not to be listed or reviewed yet
                account.unsettled[txn.trans_id] = txn
            if status in statuses.AGING:
                self.aging.append(txn)
            elif status in statuses.IN_REVIEW:
                self.reviewing.append(txn)
                if txn.response_code != AWAITS_PAYER:
                    account.held[txn.trans_id] = txn
        elif status == statuses.DECLINED:
            account.count(txn.brand, statuses.DECLINE)
        if txn.ref and status != statuses.DECLINED:
            self.txns[txn.ref].refunded += txn.amount
        if txn.brand == "eCheck" and not txn.ref and txn.response_code == 1:
            month = clock.local_text(txn.at)[:7]
            account.echecks = (
                month,
                txn.amount + (account.echecks[1] if account.echecks[0] == month else 0),
            )
        if txn.customer is None:
            txn.customer = _customer_of(txn.details)
        if txn.customer:
            account.customers.setdefault(txn.customer, []).append(txn)

    def _drop_stale_nonces(self) -> None:
        """Check the two oldest nonces at each new one; they are ordered by issue time."""
        now = self.clock.now_ms()
        for value in [value for value, _ in zip(self.nonces, range(2), strict=False)]:
            if self.nonces[value].expires < now:
                del self.nonces[value]

    def _reset(self, login: str) -> None:
        for store in self._stores:
            store.reset(login)
        if not login:
            self.forget()
            self.nonces.clear()
            for account in self.accounts.values():
                account.forget()
            return
        account = self.accounts[login]
        account.forget()
        self.txns = {key: txn for key, txn in self.txns.items() if txn.login != login}
        self.rows = [row for row in self.rows if row.login != login]
        self.batches = {key: made for key, made in self.batches.items() if made.login != login}
        self.aging = deque(txn for txn in self.aging if txn.login != login)
        self.reviewing = deque(txn for txn in self.reviewing if txn.login != login)
        self.nonces = {key: made for key, made in self.nonces.items() if made.login != login}

    def _snapshot(self) -> Iterator[Event]:
        """Yield the events that recreate this state without transactions."""
        yield self.header
        for account in self.accounts.values():
            yield events.AccountAdded(
                account.login,
                account.transaction_key,
                list(account.currencies),
                account.signature_key,
            )
            if account.settings is not None:
                yield events.SettingsChanged(account.login, account.settings)
        yield events.SettingsChanged("", self.settings)
        yield events.ClockSet(self.clock.offset_ms, self.clock.stopped_ms)
        for store in self._stores:
            yield from store.snapshot()


def _customer_of(details: str) -> int:
    """Return the charged customer profile, or 0; for state files older than `Txn.customer`."""
    profile = msgspec.json.decode(details).get("profile") or {}
    return int(profile.get("customerProfileId", 0))
