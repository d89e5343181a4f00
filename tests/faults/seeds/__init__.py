"""Faults by seeds: one number decides what shops do and what breaks; the judge checks the result.

    python -m faults.seeds --seeds 1000 --jobs 2        # `make faults SEEDS=1000`
    python -m faults.seeds --replay 4711                # one seed, with its story
    python -m faults.seeds --mutate NAME --seeds 200    # remove a protection: a seed must find it

docs/testing.md says how far a seed replays and what the seeds have found.
"""
