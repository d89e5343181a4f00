"""`easypay db doctor`: what is wrong with the database, why it matters, and how to repair it.

Everything here only reads. Each module holds checks of one kind; `examine` runs them all.
"""
