"""The processor's charges for each of our payments, in minor units."""

from typing import Any, Final

from easypay.money import parse_decimal

SUCCESS: Final = frozenset({"1", "4"})
_DEAD: Final = frozenset({"voided", "expired", "declined", "failedReview", "generalError"})


class Money:
    """One charge at the processor, in minor units."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.trans_id = row["trans_id"]
        self.status = row["status"]
        self.is_sale = row["type"] == "authCaptureTransaction"
        self.amount = parse_decimal(row["amount"], "USD").minor
        self.captured = self.amount if self.is_sale else 0
        self.refunded = 0

    @property
    def is_live(self) -> bool:
        """Return whether money is held or taken."""
        return self.status not in _DEAD

    @property
    def is_held(self) -> bool:
        """Return whether a person at the processor must decide; nothing is taken yet."""
        return self.status.startswith("FDS")

    @property
    def kept(self) -> int:
        """Return what the shop has of it in the end, including what is held."""
        if not self.is_live:
            return 0
        return (self.captured or self.amount) - self.refunded


def money_of(truth: list[dict[str, Any]], operations: list[Any]) -> dict[Any, list[Money]]:
    """Return the charges by payment."""
    payment_of = {each["reference"]: each["payment_id"] for each in operations}
    charges: dict[str, Money] = {}
    found: dict[Any, list[Money]] = {}
    for row in truth:
        if row["response_code"] not in SUCCESS:
            continue
        if row["type"] in ("authCaptureTransaction", "authOnlyTransaction"):
            money = charges[row["trans_id"]] = Money(row)
            found.setdefault(payment_of.get(row["invoice_number"]), []).append(money)
        elif row["type"] == "priorAuthCaptureTransaction":
            charges[row["trans_id"]].captured = parse_decimal(row["amount"], "USD").minor
        elif (
            row["type"] == "refundTransaction"
            and row["status"] not in _DEAD
            and row["ref_trans_id"] in charges
        ):
            charges[row["ref_trans_id"]].refunded += parse_decimal(row["amount"], "USD").minor
    return found
