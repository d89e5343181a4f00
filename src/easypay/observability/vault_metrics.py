"""A customer vault whose calls are timed and counted by outcome, as those of payments are."""

from easypay.observability.measured_calls import MeasuredCalls
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
)


class MeasuredVault(MeasuredCalls):
    """The vault of the processor `name`, measured."""

    def __init__(self, name: str, vault: CustomerVault, instruments: Instruments) -> None:
        super().__init__(name, instruments)
        self._vault = vault

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
