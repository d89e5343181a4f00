"""A customer vault whose calls are timed and counted by outcome, as those of payments are."""

import re
from collections.abc import Awaitable
from functools import lru_cache
from typing import Final, TypeVar

from easypay.clock import stopwatch
from easypay.observability.metrics import Instruments
from easypay.processors.base import Account, Deadline
from easypay.processors.customer_vault import (
    ChangeAnswer,
    CustomerVault,
    FindAnswer,
    MethodIds,
    StoreAnswer,
    StoreFromTransactionRequest,
    StoreRequest,
    UpdateRequest,
    VaultNotSent,
)

Answer = TypeVar("Answer", StoreAnswer, ChangeAnswer, FindAnswer)
_CAPITAL: Final = re.compile(r"(?<!^)(?=[A-Z])")


class MeasuredVault:
    """The vault of the processor `name`, measured."""

    def __init__(self, name: str, vault: CustomerVault, instruments: Instruments) -> None:
        self._name = name
        self._vault = vault
        self._calls = instruments.processor_calls
        self._operations = instruments.operations
        self._account_refused = instruments.account_refused

    async def store(self, request: StoreRequest, deadline: Deadline) -> StoreAnswer:
        return await self._measured("vault_store", self._vault.store(request, deadline))

    async def store_from_transaction(
        self, request: StoreFromTransactionRequest, deadline: Deadline
    ) -> StoreAnswer:
        call = self._vault.store_from_transaction(request, deadline)
        return await self._measured("vault_store", call)

    async def find_profile(
        self, account: Account, reference: str, deadline: Deadline
    ) -> FindAnswer:
        call = self._vault.find_profile(account, reference, deadline)
        return await self._measured("vault_find", call)

    async def show_profile(
        self, account: Account, customer_profile_id: str, deadline: Deadline
    ) -> FindAnswer:
        call = self._vault.show_profile(account, customer_profile_id, deadline)
        return await self._measured("vault_find", call)

    async def update(self, request: UpdateRequest, deadline: Deadline) -> ChangeAnswer:
        return await self._measured("vault_update", self._vault.update(request, deadline))

    async def validate(
        self, account: Account, ids: MethodIds, cvc: str | None, deadline: Deadline
    ) -> ChangeAnswer:
        call = self._vault.validate(account, ids, cvc, deadline)
        return await self._measured("vault_validate", call)

    async def delete_method(
        self, account: Account, ids: MethodIds, deadline: Deadline
    ) -> ChangeAnswer:
        call = self._vault.delete_method(account, ids, deadline)
        return await self._measured("vault_delete", call)

    async def delete_profile(
        self, account: Account, customer_profile_id: str, deadline: Deadline
    ) -> ChangeAnswer:
        call = self._vault.delete_profile(account, customer_profile_id, deadline)
        return await self._measured("vault_delete", call)

    async def _measured(self, operation: str, call: Awaitable[Answer]) -> Answer:
        begun = stopwatch()
        outcome = "cancelled"
        try:
            answer = await call
            outcome = word(type(answer))
            if isinstance(answer, VaultNotSent) and answer.account_refusal is not None:
                self._account_refused.add(answer.account_refusal.code)
            return answer
        finally:
            self._calls.observe(stopwatch() - begun, self._name, operation)
            self._operations.add(operation, outcome)


@lru_cache(32)
def word(kind: type) -> str:
    """Return `not_sent` for VaultNotSent, `found_profile` for FoundProfile."""
    return _CAPITAL.sub("_", kind.__name__.removeprefix("Vault")).lower()
