"""Subscriptions (ARB): the requests, and the payments that fall due."""
