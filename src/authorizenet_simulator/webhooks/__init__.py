"""Webhooks: their REST API, and the delivery of notifications."""
