"""Webhooks: the REST API that sets them up, and the delivery of notifications."""
