"""Webhooks: a merchant's endpoints are told of every event, at least once and in order."""
