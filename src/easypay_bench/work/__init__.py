"""What work that is left costs and how soon it is done: `make bench-work`."""
