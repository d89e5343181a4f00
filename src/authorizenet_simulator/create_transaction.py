"""Answers createTransactionRequest: a transaction with or without a customer profile."""

from authorizenet_simulator.profiles import profile_charges
from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.transactions import transaction_types
from authorizenet_simulator.transactions.transaction_request import TransactionRequest
from authorizenet_simulator.wire.replies import ApiError, Reply, Tree


def create(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """Answer one createTransactionRequest. Raises ApiError."""
    request = TransactionRequest(ledger, account, body, now)
    profile = request.tree.pop("profile", None)
    if profile is None:
        return transaction_types.run(request)
    if profile.get("createProfile") in ("true", "1"):
        profile_charges.check_creation(request, profile)
        reply = transaction_types.run(request)
        profile_charges.create_afterwards(request, reply)
        return reply
    if "cim" in request.settings.switched_off:
        raise ApiError("E00044")
    profile_charges.use(request, profile)
    reply = transaction_types.run(request)
    profile_charges.show(request, reply)
    return reply
