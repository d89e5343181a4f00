"""Caches of what clients read: in this process, and in Valkey behind it. Never of what decides."""
