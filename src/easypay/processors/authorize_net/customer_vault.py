"""Authorize.Net's customer vault (CIM): which requests are sent, in which order.

Every request is sent at most once. A creation whose answer was lost may be repeated by the caller:
the processor then names or hides what exists already (E00039), and it is found here and adopted.
Only what is certain is adopted: the id that the processor names, or the one stored method that
looks like the one to be stored.
"""

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from easypay import ids
from easypay.card_numbers import brand_of
from easypay.processors.authorize_net import reporting, vault_codes, vault_messages, vault_replies
from easypay.processors.authorize_net.http_client import HttpClient
from easypay.processors.authorize_net.reporting import Details
from easypay.processors.authorize_net.vault_messages import Message
from easypay.processors.authorize_net.vault_replies import Answer, Created, Duplicate, Method
from easypay.processors.base import (
    AcceptToken,
    Account,
    BankAccount,
    Card,
    Deadline,
)
from easypay.processors.customer_vault import (
    ChangeAnswer,
    FindAnswer,
    FoundProfile,
    MethodIds,
    NoProfile,
    StoreAnswer,
    Stored,
    StoreFromTransactionRequest,
    StoreRequest,
    UpdateRequest,
    VaultDone,
    VaultedMethod,
    VaultNotSent,
    VaultRefused,
    VaultUnknown,
)

_HIDDEN: Final = "it is stored already, but the processor does not show it yet"


class AuthorizeNetVault:
    """The calls of `CustomerVault`, over the connections of the processor's client."""

    def __init__(self, client: HttpClient) -> None:
        self._client = client

    async def store(self, request: StoreRequest, deadline: Deadline) -> StoreAnswer:
        if request.customer_profile_id is not None:
            return await self._add(request, request.customer_profile_id, deadline)
        answer = await self._call(request.account, vault_messages.new_profile(request), deadline)
        made = vault_replies.created(answer, "store")
        if isinstance(made, Created):
            return await self._stored(request, made, deadline)
        if isinstance(made, Duplicate):
            return await self._in_existing_profile(request, made, deadline)
        return made

    async def store_from_transaction(
        self, request: StoreFromTransactionRequest, deadline: Deadline
    ) -> StoreAnswer:
        profile_id = request.customer_profile_id
        made = await self._from_transaction(request, profile_id, deadline)
        if isinstance(made, Duplicate) and profile_id is None:
            profile = await self._existing_profile(request, made, deadline)
            if not isinstance(profile, FoundProfile):
                return profile
            profile_id = profile.customer_profile_id
            made = await self._from_transaction(request, profile_id, deadline)
        if isinstance(made, Duplicate):
            assert profile_id is not None
            return await self._existing_method(request, profile_id, made, deadline)
        if isinstance(made, Created):
            return await self._stored(request, made, deadline)
        if isinstance(made, VaultRefused) and made.code in vault_codes.NOT_STORABLE:
            return await self._why_not_storable(request, made, deadline)
        return made

    async def find_profile(
        self, account: Account, reference: str, deadline: Deadline
    ) -> FindAnswer:
        question = vault_messages.profile_by_reference(reference)
        return vault_replies.found(
            await self._call(account, question, deadline), reference=reference
        )

    async def show_profile(
        self, account: Account, customer_profile_id: str, deadline: Deadline
    ) -> FindAnswer:
        question = vault_messages.profile_by_id(customer_profile_id)
        return vault_replies.found(
            await self._call(account, question, deadline), customer_profile_id=customer_profile_id
        )

    async def update(self, request: UpdateRequest, deadline: Deadline) -> ChangeAnswer:
        # What an update leaves out may be removed, so it sends back what is stored, masked.
        question = vault_messages.one_method(request.ids)
        answer = await self._call(request.account, question, deadline)
        present = vault_replies.one_method(answer, request.ids)
        match present:
            case Method(_, shown):
                change = vault_messages.changed_method(request, shown)
                answer = await self._call(request.account, change, deadline)
                return vault_replies.changed(answer, "update")
            case NoProfile():
                assert isinstance(answer, Answer)
                refusal = vault_replies.failure(answer, "update")
                assert isinstance(refusal, VaultRefused)
                return refusal
            case VaultNotSent():
                return present
            case VaultUnknown(reason=reason):  # only a read: nothing has begun
                return VaultNotSent(reason=f"the stored method could not be read: {reason}"[:255])

    async def validate(
        self, account: Account, ids: MethodIds, cvc: str | None, deadline: Deadline
    ) -> ChangeAnswer:
        answer = await self._call(account, vault_messages.validation(ids, cvc), deadline)
        return vault_replies.changed(answer, "validate")

    async def delete_method(
        self, account: Account, ids: MethodIds, deadline: Deadline
    ) -> ChangeAnswer:
        answer = await self._call(account, vault_messages.method_deletion(ids), deadline)
        return vault_replies.deleted(answer)

    async def delete_profile(
        self, account: Account, customer_profile_id: str, deadline: Deadline
    ) -> ChangeAnswer:
        request = vault_messages.profile_deletion(customer_profile_id)
        return vault_replies.deleted(await self._call(account, request, deadline))

    async def _call(
        self, account: Account, message: Message, deadline: Deadline
    ) -> Answer | VaultNotSent | VaultUnknown:
        """Send one request, under a `refId` of its own."""
        ref_id = ids.reference(ids.new_id())
        data = vault_messages.encode(message, account, ref_id)
        return vault_replies.read(await self._client.post(account.url, data, deadline), ref_id)

    async def _add(
        self, request: StoreRequest, customer_profile_id: str, deadline: Deadline
    ) -> StoreAnswer:
        """Add a method to a profile that exists."""
        message = vault_messages.new_method(request, customer_profile_id)
        answer = await self._call(request.account, message, deadline)
        made = vault_replies.created(answer, "store", customer_profile_id)
        if isinstance(made, Created):
            return await self._stored(request, made, deadline)
        if isinstance(made, Duplicate):
            return await self._existing_method(request, customer_profile_id, made, deadline)
        return made

    async def _in_existing_profile(
        self, request: StoreRequest, duplicate: Duplicate, deadline: Deadline
    ) -> StoreAnswer:
        """Add the method to the profile that an earlier call made. If that call stored it, too, the
        processor knows the whole number and says so."""
        profile = await self._existing_profile(request, duplicate, deadline)
        if not isinstance(profile, FoundProfile):
            return profile
        answer = await self._add(request, profile.customer_profile_id, deadline)
        if (
            isinstance(request.method, AcceptToken)
            and isinstance(answer, VaultRefused)
            and answer.word == "invalid_payment_token"
            and profile.methods
        ):  # a token works once: the call that made the profile may have used it
            return VaultUnknown(
                reason=f"profile {profile.customer_profile_id} exists already, and the token is "
                "used up or invalid: which method it stored cannot be told"
            )
        return answer

    async def _existing_profile(
        self,
        request: StoreRequest | StoreFromTransactionRequest,
        duplicate: Duplicate,
        deadline: Deadline,
    ) -> FoundProfile | VaultUnknown:
        """Return the profile with the request's reference, which exists."""
        account, profile_id = request.account, duplicate.customer_profile_id
        if profile_id is None:
            question = vault_messages.profile_by_reference(request.reference)
        else:
            question = vault_messages.profile_by_id(profile_id)
        found = vault_replies.found(
            await self._call(account, question, deadline),
            customer_profile_id=profile_id,
            reference=request.reference,
        )
        match found:
            case FoundProfile():
                return found
            case NoProfile():
                return VaultUnknown(reason=f"profile {request.reference}: {_HIDDEN}")
            case VaultNotSent(reason=reason) | VaultUnknown(reason=reason):
                return VaultUnknown(reason=f"the profile exists already, but: {reason}"[:255])

    async def _existing_method(
        self,
        request: StoreRequest | StoreFromTransactionRequest,
        customer_profile_id: str,
        duplicate: Duplicate,
        deadline: Deadline,
    ) -> StoreAnswer:
        """Return the method of this profile that the processor calls a duplicate."""
        found = await self.show_profile(request.account, customer_profile_id, deadline)
        match found:
            case FoundProfile(methods=methods):
                pass
            case NoProfile():
                methods = ()
            case VaultNotSent(reason=reason) | VaultUnknown(reason=reason):
                return VaultUnknown(reason=f"the method is stored already, but: {reason}"[:255])
        wanted = _wanted(request)
        if duplicate.payment_profile_id is not None:
            ids = MethodIds(customer_profile_id, duplicate.payment_profile_id)
            named = [each for each in methods if each.ids == ids]
            if not named:  # not shown yet
                known = wanted or VaultedMethod(ids=ids, type="card")
                return Stored(method=replace(known, ids=ids), existed=True)
            return await self._adopted(request, named[0], wanted, deadline)
        alike = _alike(methods, wanted)
        if len(alike) == 1:
            return Stored(method=alike[0], existed=True)
        if alike or (wanted is not None and _alike(methods, _without_expiry(wanted))):
            return _ambiguous()
        return VaultUnknown(reason=f"a method of profile {customer_profile_id}: {_HIDDEN}")

    async def _adopted(
        self,
        request: StoreRequest | StoreFromTransactionRequest,
        stored: VaultedMethod,
        wanted: VaultedMethod | None,
        deadline: Deadline,
    ) -> StoreAnswer:
        """Return a stored method. A renewed card keeps its number: it gets its new expiry."""
        if (
            wanted is None
            or not isinstance(request, StoreRequest)
            or not isinstance(request.method, Card)
            or stored.exp_year is None
            or _expiry(stored) == _expiry(wanted)
        ):
            return Stored(method=stored, existed=True)
        message = vault_messages.stored_again(request, stored)
        answer = await self._call(request.account, message, deadline)
        changed = vault_replies.changed(answer, "update")
        if not isinstance(changed, VaultDone):
            return changed
        year, month = _expiry(wanted)
        return Stored(method=replace(stored, exp_year=year, exp_month=month), existed=True)

    async def _from_transaction(
        self, request: StoreFromTransactionRequest, profile_id: str | None, deadline: Deadline
    ) -> Created | Duplicate | VaultRefused | VaultNotSent | VaultUnknown:
        message = vault_messages.from_transaction(request, profile_id)
        answer = await self._call(request.account, message, deadline)
        return vault_replies.created(answer, "store_from_transaction", profile_id)

    async def _why_not_storable(
        self, request: StoreFromTransactionRequest, refusal: VaultRefused, deadline: Deadline
    ) -> VaultRefused:
        """Ask about the transaction. If it was voided, the refusal says so."""
        ref_id = ids.reference(ids.new_id())
        question = reporting.transaction_details(request.account, ref_id, request.transaction_id)
        reply = await self._client.post(request.account.url, question, deadline)
        details = reporting.read_details(reply, ref_id, request.transaction_id)
        if isinstance(details, Details) and details.status == "voided":
            return replace(refusal, word="transaction_voided", retry="fix_data")
        return refusal

    async def _stored(
        self,
        request: StoreRequest | StoreFromTransactionRequest,
        made: Created,
        deadline: Deadline,
    ) -> Stored:
        """Describe a new method. What is not known is asked for, once: the answer is not needed,
        and the processor may not show the method yet."""
        if (wanted := _wanted(request)) is not None:
            return Stored(method=replace(wanted, ids=made.ids))
        answer = await self._call(request.account, vault_messages.one_method(made.ids), deadline)
        shown = vault_replies.one_method(answer, made.ids)
        return Stored(method=shown.method if isinstance(shown, Method) else made.shown)


_NO_IDS: Final = MethodIds("", "")


def _wanted(request: StoreRequest | StoreFromTransactionRequest) -> VaultedMethod | None:
    """Describe the method to be stored, without ids; None for a token or a transaction."""
    if isinstance(request, StoreFromTransactionRequest):
        return None
    match request.method:
        case Card(number=number, exp_month=month, exp_year=year):
            return VaultedMethod(
                ids=_NO_IDS,
                type="card",
                last4=number[-4:],
                brand=brand_of(number),
                exp_month=month,
                exp_year=year,
            )
        case BankAccount(account_number=number):
            return VaultedMethod(ids=_NO_IDS, type="bank_account", last4=number[-4:])
        case AcceptToken():
            return None


def _alike(methods: Sequence[VaultedMethod], wanted: VaultedMethod | None) -> list[VaultedMethod]:
    """Return the stored methods that look like the wanted one; all if nothing is known of it."""
    if wanted is None:
        return list(methods)
    return [
        each
        for each in methods
        if (each.type, each.last4) == (wanted.type, wanted.last4)
        and (wanted.brand is None or each.brand in (None, wanted.brand))
        and (wanted.exp_year is None or _expiry(each) == _expiry(wanted))
    ]


def _without_expiry(method: VaultedMethod) -> VaultedMethod:
    return replace(method, exp_year=None, exp_month=None)


def _expiry(method: VaultedMethod) -> tuple[int | None, int | None]:
    return method.exp_year, method.exp_month


def _ambiguous() -> VaultRefused:
    return VaultRefused(
        word="duplicate_method",
        code=vault_codes.DUPLICATE,
        message="A payment method like this one is stored already.",
        retry="never",
    )
