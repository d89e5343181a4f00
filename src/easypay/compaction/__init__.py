"""Months that are over: their operations are rewritten with full pages and no stored replies.

    due → compact → copy → swap

`chore` does it in a gateway, once a day; `easypay db compact` at once.
"""
