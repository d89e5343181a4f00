"""Merchants, their API keys and their processor accounts."""
