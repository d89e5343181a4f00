"""A merchant's own account: credentials, permissions, settings by request."""
