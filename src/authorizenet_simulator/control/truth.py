"""What is true, as the control API shows it: transactions and customer profiles, one row each."""

from collections.abc import Iterator
from itertools import islice
from typing import Final

import msgspec

from authorizenet_simulator.state import clock
from authorizenet_simulator.state.customer_profiles import Profile
from authorizenet_simulator.state.transactions import Action, Txn
from authorizenet_simulator.wire import amounts

_CHUNK_ROWS: Final = 1000
_encode = msgspec.json.Encoder().encode


def transaction(row: Txn | Action) -> bytes:
    """Encode one transaction; a capture or void has the id of the original."""
    if isinstance(row, Txn):
        txn, ref = row, row.ref
        response_code = row.response_code
    else:
        txn, ref = row.txn, row.txn.trans_id
        response_code = 1
    return _encode(
        {
            "trans_id": str(txn.trans_id),
            "ref_trans_id": str(ref) if ref else None,
            "type": row.type,
            "amount": amounts.text(row.amount),
            "response_code": str(response_code),
            "invoice_number": row.invoice,
            "status": txn.status,
            "login": txn.login,
            "submitted_at": clock.utc_text(row.at),
        }
    )


def profile(login: str, profile: Profile) -> bytes:
    """Encode one customer profile with its payment methods."""
    return _encode(
        {
            "customer_profile_id": str(profile.profile_id),
            "merchant_customer_id": profile.merchant_customer_id,
            "description": profile.description,
            "email": profile.email,
            "login": login,
            "made_at": clock.utc_text(profile.made_at),
            "payment_profiles": [
                {
                    "payment_profile_id": str(each.payment_id),
                    "last4": each.method.last4,
                    "brand": each.method.brand,
                    "expiry": each.method.expiry,
                    "default": each.payment_id == profile.default_payment,
                    "made_at": clock.utc_text(each.made_at),
                }
                for each in profile.payments
            ],
        }
    )


def array(rows: Iterator[bytes]) -> Iterator[bytes]:
    """Yield a JSON array in chunks of many rows."""
    yield b"["
    chunk = b",\n".join(islice(rows, _CHUNK_ROWS))
    while chunk:
        yield chunk
        chunk = b",\n".join(islice(rows, _CHUNK_ROWS))
        if chunk:
            yield b",\n"
    yield b"]"
