"""What merchants are told of their batches: a webhook for each change of state."""

from typing import Any, Final

import msgspec

from easypay import ids
from easypay.batches.model import Batch

# A batch has a place of its own among an endpoint's deliveries, so its events arrive in order.
_TELL: Final = """
    INSERT INTO webhook_deliveries (merchant_id, endpoint_id, event_id, mode, payment_id, seq,
        type, data, due_at)
    SELECT merchant_id, id, $3, mode, $4, (extract(epoch FROM clock_timestamp()) * 1000)::bigint,
           $5, $6, db_now() FROM webhook_endpoints
     WHERE merchant_id = $1 AND mode = $2 AND state <> 'disabled'
       AND (cardinality(types) = 0 OR $5 = ANY (types))
"""


async def tell(connection: Any, batch: Batch, what: str) -> None:
    """Let the merchant's endpoints be told, in the transaction that changes the batch."""
    data = {
        "batch_id": ids.typed(ids.BATCH, batch.id),
        "name": batch.name,
        "state": batch.state,
        "lines": batch.lines,
        "wrong_lines": batch.wrong,
        "reason": batch.reason,
    }
    await connection.execute(
        _TELL,
        *(batch.merchant_id, batch.mode, ids.new_id(), batch.id),
        *(f"batch.{what}", msgspec.json.encode(data).decode()),
    )
