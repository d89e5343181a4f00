"""The stack that tests drive from outside: PostgreSQL, the simulator, gateway processes, shops.

Everything is real and runs in processes of its own. `audit` checks the money rules in the
database and in the simulator's truth table.
"""

# ruff: noqa: F401 - what the tests import from here

from harness.audit import WIRE_TYPE, assert_nothing_was_done, audit, one_done_of_two
from harness.commands import Output, run_easypay
from harness.http import TRUSTS_NOBODY, http_client
from harness.metrics import counted
from harness.processes import (
    ADMIN_KEY,
    ENCRYPTION_KEY,
    QUICK,
    QUICKER,
    SHARED,
    Control,
    Gateway,
    Process,
    Simulator,
    Worker,
    free_port,
    simulating,
)
from harness.seeded import seeded_template, seeded_with
from harness.sessions import connected, held, until_locked
from harness.shop import (
    AMEX,
    CVC,
    MASTERCARD,
    VISA,
    Shop,
    card,
    mint_token,
    pay_at,
    payment_uuid,
    queued_payment,
    random_name,
)
from harness.stack import (
    Stack,
    all_known,
    migrated,
    new_database,
    own_stack,
    stack_over,
    with_database,
)
from harness.waiting import until
