"""The stack a test drives from outside: PostgreSQL, the simulator, gateway processes, shops.

Everything is real and runs as processes of its own. `audit` asks the database and the simulator's
truth table whether the money rules hold; it is the judge of every test here.
"""

# ruff: noqa: F401 - what the tests import from here

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
