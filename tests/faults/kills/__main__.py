"""Rounds of random kills under load: one number decides what is killed, stopped and asked for.

    python -m faults.kills --rounds 100          # `make kills ROUNDS=100`
    python -m faults.kills --replay 17           # one round, with its story
    python -m faults.kills --stopped             # only: workers that are stopped for a minute

docs/testing.md says what a round does and what must agree afterwards.
"""

from faults.kills.run import main

raise SystemExit(main())
