"""Transactions: charges, what is done to them afterwards, and the reports about them."""
