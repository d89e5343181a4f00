"""The events of accounts and transactions, as stored in the state file."""

import msgspec

from authorizenet_simulator.state.payment_methods import PaymentMethod
from authorizenet_simulator.state.settings import Settings
from authorizenet_simulator.state.transactions import Txn


class Header(msgspec.Struct, array_like=True, tag="header"):
    """The first line: the key of the fingerprints and the next ids."""

    salt: str
    next_id: int
    next_batch: int


class AccountAdded(msgspec.Struct, array_like=True, tag="account"):
    login: str
    transaction_key: str
    currencies: list[str]
    signature_key: str


class SettingsChanged(msgspec.Struct, array_like=True, tag="settings"):
    login: str
    """'' for the settings of every account."""
    settings: Settings


class ClockSet(msgspec.Struct, array_like=True, tag="clock"):
    offset_ms: int
    stopped_ms: int | None


class Recorded(msgspec.Struct, array_like=True, tag="transaction"):
    txn: Txn
    digest: int
    """Digest of the fields that duplicate detection compares."""


class Captured(msgspec.Struct, array_like=True, tag="capture"):
    trans_id: int
    amount: int
    invoice: str
    at: int


class Voided(msgspec.Struct, array_like=True, tag="void"):
    trans_id: int
    invoice: str
    at: int


class Moved(msgspec.Struct, array_like=True, tag="move"):
    """The status was changed, with all its consequences."""

    trans_id: int
    status: str
    response_code: int
    reason: int
    at: int


class Reviewed(msgspec.Struct, array_like=True, tag="review"):
    trans_id: int
    approved: bool


class Settled(msgspec.Struct, array_like=True, tag="settle"):
    at: int


class Expired(msgspec.Struct, array_like=True, tag="expire"):
    at: int


class NonceMinted(msgspec.Struct, array_like=True, tag="nonce"):
    value: str
    login: str
    expires: int
    method: PaymentMethod


class NonceUsed(msgspec.Struct, array_like=True, tag="nonce_used"):
    value: str


class Reset(msgspec.Struct, array_like=True, tag="reset"):
    login: str


Event = (
    Header
    | AccountAdded
    | SettingsChanged
    | ClockSet
    | Recorded
    | Captured
    | Voided
    | Moved
    | Reviewed
    | Settled
    | Expired
    | NonceMinted
    | NonceUsed
    | Reset
)
