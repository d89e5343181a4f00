"""What Authorize.Net's codes mean in the answers of its customer vault (CIM). Data only.

No call to the vault moves money, so more codes are a refusal here than in a payment: the same code
may prove that nothing was stored, while it leaves open whether money moved.
"""

from collections.abc import Mapping
from typing import Final, Literal

from easypay.processors.authorize_net.message_codes import API_REJECTED, Advice

Call = Literal["store", "store_from_transaction", "update", "validate", "delete"]
"""A call that changes or checks something. To store is to add to a profile, or to make one."""

DUPLICATE: Final = "E00039"
NOT_FOUND: Final = "E00040"
UNSUCCESSFUL: Final = "E00027"
"""The check of a payment method failed; the delimited text beside it says why."""
CHECKS: Final = frozenset({"store", "validate"})
"""The calls in which the processor checks the payment method, if asked to."""
NOT_STORABLE: Final = frozenset({"E00099", "E00100", "E00101"})
"""A transaction whose payment method cannot be stored: its status says why."""

REFUSED: Final[Mapping[str, tuple[str, Advice]]] = {
    "E00019": ("generic_error", "corrected"),
    "E00029": ("generic_error", "corrected"),
    "E00041": ("generic_error", "corrected"),
    "E00042": ("profile_full", "corrected"),
    "E00099": ("transaction_not_found", "never"),
    "E00100": ("transaction_not_storable", "other_method"),
    "E00101": ("transaction_not_storable", "other_method"),
    "E00102": ("generic_error", "corrected"),
    "E00103": ("transaction_not_storable", "other_method"),
    "E00105": ("tied_to_subscription", "later"),
    "E00106": ("tied_to_subscription", "later"),
    "E00107": ("tied_to_subscription", "later"),
}
"""Their code -> our word, and what may be done next. Only codes that mean more here than in a
payment; `API_REJECTED` has the others."""

BY_CALL: Final[Mapping[tuple[str, Call], tuple[str, Advice]]] = {
    (NOT_FOUND, "store"): ("profile_not_found", "later"),
    (NOT_FOUND, "store_from_transaction"): ("profile_not_found", "later"),
    (NOT_FOUND, "update"): ("method_not_found", "other_method"),
    (NOT_FOUND, "validate"): ("method_not_found", "other_method"),
    (DUPLICATE, "update"): ("duplicate_method", "never"),
}
"""The codes that refuse something else by each call. A deletion that finds nothing is done, and
a duplicate when storing is looked for and found."""


def meaning(code: str, call: Call) -> tuple[str, Advice] | None:
    """Return our word for a refusal and what may be done next; None if the code proves nothing."""
    if code in (NOT_FOUND, DUPLICATE):
        return BY_CALL.get((code, call))
    return REFUSED.get(code) or API_REJECTED.get(code)
