"""Subscriptions (ARB): the requests, and the payments when they are due."""
