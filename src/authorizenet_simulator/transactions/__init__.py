"""Transactions: charges, their captures, voids and refunds, and the reports about them."""
