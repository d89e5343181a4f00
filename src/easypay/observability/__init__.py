"""The gateway's logs, metrics and traces, without card data."""
