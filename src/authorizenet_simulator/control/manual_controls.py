"""Changes that the API does not offer: set any status, or return an eCheck as a bank does."""

from typing import Annotated, Any, Final

import msgspec

from authorizenet_simulator.state import returned_items, statuses, transactions
from authorizenet_simulator.state.ledger import AWAITS_PAYER, Ledger
from authorizenet_simulator.state.statuses import PLACES
from authorizenet_simulator.state.transactions import Txn

_REASONS: Final = {
    "R01": "Insufficient Funds",
    "R02": "Account Closed",
    "R03": "No Account/Unable to Locate Account",
    "R04": "Invalid Account Number",
    "R08": "Payment Stopped",
    "R10": "Customer Advises Not Authorized",
}


class StatusBody(msgspec.Struct, forbid_unknown_fields=True):
    trans_id: str
    status: str


class ReturnBody(msgspec.Struct, forbid_unknown_fields=True):
    trans_id: str
    code: Annotated[str, msgspec.Meta(pattern=r"^R[0-9]{2}(?!\n)$")] = "R01"
    description: (
        Annotated[str, msgspec.Meta(max_length=255, pattern=r"^[^\x00-\x1f\x7f]*(?!\n)$")] | None
    ) = None
    own_id: bool = False
    """The return is a transaction of its own, in a batch of its own; what it returns stays."""


def set_status(ledger: Ledger, body: bytes) -> dict[str, Any]:
    """Set a transaction's status, with all its consequences. Raises ValueError if it cannot."""
    change = msgspec.json.decode(body, type=StatusBody)
    txn = _find(ledger, change.trans_id)
    wanted = PLACES.get(change.status)
    if wanted is None:
        raise ValueError(f"unknown status {change.status!r}; known are {', '.join(PLACES)}")
    kind = "refund" if _is_refund(txn) else "charge"
    if wanted.of and wanted.of != kind:
        raise ValueError(f"{change.status} is only for a {wanted.of}; this is a {kind}")
    if txn.response_code == AWAITS_PAYER:
        raise ValueError("the PayPal payer has not consented yet, so the status cannot be set")
    if change.status == statuses.RETURNED:
        return _return(ledger, txn, "R01", None)
    ledger.move(txn, change.status, ledger.tick())
    return {"trans_id": str(txn.trans_id), "status": txn.status}


def return_item(ledger: Ledger, body: bytes) -> dict[str, Any]:
    """Return a settled eCheck as the bank would. Raises ValueError if it cannot be returned."""
    change = msgspec.json.decode(body, type=ReturnBody)
    txn = _find(ledger, change.trans_id)
    if txn.status not in (statuses.SETTLED, statuses.REFUND_SETTLED):
        raise ValueError(f"only a settled transaction can be returned; this one is {txn.status}")
    if change.own_id:
        if _is_refund(txn):
            raise ValueError("only the return of a charge has an id of its own")
        _check_bank(txn)
        txn = _made_return(ledger, txn)
    return _return(ledger, txn, change.code, change.description)


def _find(ledger: Ledger, number: str) -> Txn:
    ledger.tick()
    txn = ledger.txns.get(transactions.parse_id(number) or 0)
    if txn is None:
        raise ValueError(f"no transaction {number!r}")
    return txn


def _is_refund(txn: Txn) -> bool:
    return txn.type == "refundTransaction"


def _check_bank(txn: Txn) -> None:
    if txn.brand != "eCheck":
        raise ValueError(f"only an eCheck can be returned, not a payment by {txn.brand}")


def _made_return(ledger: Ledger, txn: Txn) -> Txn:
    """Make the transaction that returns another one, which it names; it settles as it is returned.
    What it returns cannot be refunded any more."""
    made = msgspec.structs.replace(
        txn,
        trans_id=ledger.new_id(),
        ref=txn.trans_id,
        at=ledger.tick(),
        status=statuses.RETURNED,
        refunded=0,
        batch=0,
    )
    ledger.record(made, 0)
    return made


def _return(ledger: Ledger, txn: Txn, code: str, description: str | None) -> dict[str, Any]:
    _check_bank(txn)
    now = ledger.tick()
    before = len(ledger.returns.items.get(txn.trans_id, ()))
    text = description or _REASONS.get(code, "Returned")
    ledger.do(
        returned_items.ItemReturned(
            txn.trans_id, txn.login, txn.trans_id * 10 + before, now, code, text
        )
    )
    ledger.move(txn, statuses.RETURNED, now)
    return {"trans_id": str(txn.trans_id), "status": txn.status, "code": code}
