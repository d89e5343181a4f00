"""What the caches save: `make bench-cache`."""
