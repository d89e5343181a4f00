"""Reconciliation: the processor's books against our operations, and every difference as a row."""
