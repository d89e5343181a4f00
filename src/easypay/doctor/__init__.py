"""`easypay db doctor`: what is wrong with the database, why it matters, and what mends it.

Everything here only reads. Each module holds checks of one kind; `examine` runs them all.
"""
