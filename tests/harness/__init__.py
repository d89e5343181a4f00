"""The stack a test drives from outside: PostgreSQL, the simulator, gateway processes, shops.

Everything is real and runs as processes of its own. `audit` asks the database and the simulator's
truth table whether the money rules hold; it is the judge of every test here.
"""

from harness.audit import WIRE_TYPE, audit, one_done_of_two
from harness.processes import (
    ADMIN_KEY,
    ENCRYPTION_KEY,
    QUICK,
    QUICKER,
    Control,
    Gateway,
    Process,
    Simulator,
    free_port,
    simulating,
)
from harness.shop import AMEX, CVC, MASTERCARD, VISA, Shop, card, mint_token, payment_uuid
from harness.stack import Stack, migrated, new_database, own_stack, stack_over, with_database
from harness.waiting import until

__all__ = [
    "ADMIN_KEY",
    "AMEX",
    "CVC",
    "ENCRYPTION_KEY",
    "MASTERCARD",
    "QUICK",
    "QUICKER",
    "VISA",
    "WIRE_TYPE",
    "Control",
    "Gateway",
    "Process",
    "Shop",
    "Simulator",
    "Stack",
    "audit",
    "card",
    "free_port",
    "migrated",
    "mint_token",
    "new_database",
    "one_done_of_two",
    "own_stack",
    "payment_uuid",
    "simulating",
    "stack_over",
    "until",
    "with_database",
]
