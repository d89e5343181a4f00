"""How PostgreSQL runs the gateway's statements on ten years of payments, and what they may cost.

`cases.py` is the table of statements, `world.py` the data, `explain.py` looks at the plans, and
`page.py` writes the figures into docs/database.md.
"""
