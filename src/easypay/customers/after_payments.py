"""What a stored payment method learns from payments with it.

Functions take an asyncpg connection or pool. They are called after the payment's outcome was
recorded, so nothing depends on them.
"""

from typing import Any, Final
from uuid import UUID

from easypay.mode import Mode

Runner = Any

_REMEMBER: Final = """
    UPDATE payment_methods SET network_transaction_id = $4
     WHERE merchant_id = $1 AND mode = $2 AND id = $3
       AND state = 'active' AND network_transaction_id IS NULL
"""
# The row of the method says what is to be done: it is active and the processor denies it.
_MEND: Final = """
    INSERT INTO vault_work (merchant_id, mode, kind, id, due_at, reason)
    SELECT merchant_id, mode, 'method', id, db_now(), $4 FROM payment_methods
     WHERE merchant_id = $1 AND mode = $2 AND id = $3 AND state = 'active'
    ON CONFLICT DO NOTHING
"""


async def remember_network_transaction(
    runner: Runner, merchant_id: UUID, mode: Mode, method_id: UUID, network_transaction_id: str
) -> None:
    """Keep the card network's id of a method's first payment; later payments by the merchant name
    it. An id that is kept already stays."""
    await runner.execute(_REMEMBER, merchant_id, mode, method_id, network_transaction_id)


async def needs_mending(
    runner: Runner, merchant_id: UUID, mode: Mode, method_id: UUID, reason: str
) -> None:
    """Put a method on the list of what is left to do at the vault: the processor said in a payment
    that it does not know it."""
    await runner.execute(_MEND, merchant_id, mode, method_id, reason[:500])
