"""Traces: spans of requests and work, sent to a collector. Imported only if that is on."""
