"""The log of what people do by hand. Nobody can change an entry afterwards."""

from typing import Any

import msgspec

from easypay import ids


async def write_down(
    runner: Any, actor: str, action: str, subject: str, detail: dict[str, Any]
) -> None:
    """Write one entry. `subject` is a typed id (op_…); `detail` is any JSON without card data."""
    await runner.execute(
        "INSERT INTO audit_entries (id, actor, action, subject, detail)"
        " VALUES ($1, $2, $3, $4, $5)",
        ids.new_id(),
        actor,
        action,
        subject,
        msgspec.json.encode(detail).decode(),
    )
