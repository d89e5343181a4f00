"""Hosted pages that a payer opens in a browser."""
