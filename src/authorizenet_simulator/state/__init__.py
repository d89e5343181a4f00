"""The simulator's state, and the journal that makes it durable."""
