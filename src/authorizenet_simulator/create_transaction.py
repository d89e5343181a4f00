"""Answers createTransactionRequest: a transaction with or without a customer profile."""

from authorizenet_simulator.profiles import profile_charges
from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.transactions import transaction_types
from authorizenet_simulator.transactions.transaction_request import Ask
from authorizenet_simulator.wire.replies import ApiError, Reply, Tree


def create(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """Answer one createTransactionRequest. Raises ApiError."""
    ask = Ask(ledger, account, body, now)
    profile = ask.tree.pop("profile", None)
    if profile is None:
        return transaction_types.run(ask)
    if profile.get("createProfile") in ("true", "1"):
        profile_charges.check_creation(ask, profile)
        reply = transaction_types.run(ask)
        profile_charges.create_afterwards(ask, reply)
        return reply
    if "cim" in ask.settings.switched_off:
        raise ApiError("E00044")
    profile_charges.use(ask, profile)
    reply = transaction_types.run(ask)
    profile_charges.show(ask, reply)
    return reply
