"""The interface of a processor's customer vault: requests, answers, and the `CustomerVault`
protocol.

A vault keeps a customer's payment methods, so that a card can be charged again without its number.
It has profiles; a profile has a few methods. No call here moves money.

A `reference` is ours, at most 20 characters, and unique to one profile: whoever lost the answer to
a creation finds the profile by it.

A processor may not know a profile or a method that it has just stored, for up to `NEW_FOR_S`: a
charge, a read or a deletion is then answered as if there were none. Such a charge started nothing.

`vault_of` returns the vault of a processor, which need not have one.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, Protocol, runtime_checkable

import msgspec

from easypay.processors.base import (
    AcceptToken,
    Account,
    AccountRefusal,
    Address,
    BankAccount,
    Card,
    Deadline,
    Processor,
    Retry,
)

NEW_FOR_S: Final = 60.0
"""How long a processor may not know a profile or a method after it has stored it."""

VAULT_WORDS: Final[Mapping[str, str]] = {
    "profile_full": "The customer has as many payment methods as the processor stores.",
    "profile_not_found": "The processor does not know the customer. One that was stored within "
    "the last minute may still come.",
    "method_not_found": "The processor does not know the payment method. One that was stored "
    "within the last minute may still come.",
    "card_declined": "The payment method was declined when it was checked. Nothing was stored.",
    "duplicate_method": "The payment method is stored already, and which stored method it is "
    "cannot be told.",
    "transaction_voided": "The transaction was voided, so its payment method cannot be stored.",
    "transaction_not_storable": "The transaction was not approved, or it was paid in a way that "
    "cannot be stored.",
    "tied_to_subscription": "A subscription at the processor uses it, so it cannot be deleted.",
}
"""The words of `VaultRefused` that only a vault has, with their meaning. Every other word is a
`decline_code` of a payment, such as `invalid_card_number` or `transaction_not_found`."""


class MethodIds(msgspec.Struct, frozen=True, gc=False):
    """The processor's ids of a stored method."""

    customer_profile_id: str
    payment_profile_id: str


class VaultedMethod(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A stored method as the processor shows it: never more than the last four digits."""

    ids: MethodIds
    type: Literal["card", "bank_account"]
    last4: str | None = None
    brand: str | None = None
    """As in ProcessorAnswer.card_brand; None for a bank account."""
    exp_month: int | None = None
    exp_year: int | None = None
    """None if the processor does not tell."""
    is_default: bool = False


class StoreRequest(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Store a card, token or bank account: in `customer_profile_id`, or in a new profile with
    `reference` if that is None.

    Repeat a lost creation with the same fields. With another email or description the processor
    may make a second profile.
    """

    account: Account
    reference: str
    customer_profile_id: str | None
    method: Card | AcceptToken | BankAccount
    email: str | None = None
    description: str | None = None
    billing_address: Address | None = None
    validate: bool = False
    """Let the processor ask the issuer whether the card is good, before it is stored."""


class StoreFromTransactionRequest(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Store the card or bank account that an earlier transaction was paid with."""

    account: Account
    reference: str
    customer_profile_id: str | None
    transaction_id: str
    email: str | None = None
    description: str | None = None


class UpdateRequest(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Change what is stored. None: as it is."""

    account: Account
    ids: MethodIds
    exp_month: int | None = None
    exp_year: int | None = None
    billing_address: Address | None = None
    is_default: bool | None = None


class Stored(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """The method is in the vault. `existed`: it was there before, and was found."""

    method: VaultedMethod
    existed: bool = False


class VaultDone(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """It is done: updated, validated, or deleted (also if it was gone before)."""

    was_gone: bool = False
    """For a deletion: the processor did not know it. If it was stored less than `NEW_FOR_S` ago,
    it may still come: delete it again after that."""


class VaultRefused(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """The processor refused, and nothing changed. `word`: our code, one of `VAULT_WORDS` or a
    `decline_code` of a payment; the code and the message are the processor's own."""

    word: str
    code: str
    message: str
    retry: Retry | None = None
    decline_code: str | None = None
    """For `card_declined`: why, as in a payment, such as `expired_card`."""


class VaultNotSent(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """Proven to have started nothing: it may be sent again. Either it never left, or our account
    was refused before anything else was checked."""

    reason: str
    account_refusal: AccountRefusal | None = None


class VaultUnknown(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """No clear answer came: it may have been done. Ask with `find_profile` or `show_profile`.
    A store may also be repeated with the same fields: what is there already is found (`existed`),
    unless it was stored by a token, which works once."""

    reason: str


StoreAnswer = Stored | VaultRefused | VaultNotSent | VaultUnknown
ChangeAnswer = VaultDone | VaultRefused | VaultNotSent | VaultUnknown


class FoundProfile(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag=True):
    """A profile with all its methods."""

    customer_profile_id: str
    methods: Sequence[VaultedMethod]


class NoProfile(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The vault knows none. A profile that was made within the last minute may still come."""


FindAnswer = FoundProfile | NoProfile | VaultNotSent | VaultUnknown


class CustomerVault(Protocol):
    """The calls to a vault. Whatever the processor or the network does, they return a value of
    the closed set. Only a programming error raises."""

    async def store(self, request: StoreRequest, deadline: Deadline) -> StoreAnswer: ...

    async def store_from_transaction(
        self, request: StoreFromTransactionRequest, deadline: Deadline
    ) -> StoreAnswer: ...

    async def find_profile(
        self, account: Account, reference: str, deadline: Deadline
    ) -> FindAnswer:
        """Find the profile that was made with `reference`."""
        ...

    async def show_profile(
        self, account: Account, customer_profile_id: str, deadline: Deadline
    ) -> FindAnswer: ...

    async def update(self, request: UpdateRequest, deadline: Deadline) -> ChangeAnswer: ...

    async def validate(
        self, account: Account, ids: MethodIds, cvc: str | None, deadline: Deadline
    ) -> ChangeAnswer:
        """Let the processor ask the issuer whether the stored card is good."""
        ...

    async def delete_method(
        self, account: Account, ids: MethodIds, deadline: Deadline
    ) -> ChangeAnswer: ...

    async def delete_profile(
        self, account: Account, customer_profile_id: str, deadline: Deadline
    ) -> ChangeAnswer: ...


@runtime_checkable
class HasVault(Protocol):
    """A processor's client has this attribute if the processor keeps payment methods."""

    @property
    def vault(self) -> CustomerVault: ...


def vault_of(processor: Processor) -> CustomerVault | None:
    """Return the processor's vault; None if it stores no payment methods."""
    return processor.vault if isinstance(processor, HasVault) else None
