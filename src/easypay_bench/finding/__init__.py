"""How fast payments are found at scale: `make bench-find`.

`databases.py` makes the databases, `examples.py` what to ask for, `questions.py` the questions,
`timed_reads.py` asks them as a gateway does, `under_load.py` measures a running gateway, and
`bars.py` says what is wanted.
"""
