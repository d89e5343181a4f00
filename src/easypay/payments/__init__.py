"""Payments and their operations: begin, call, record."""
