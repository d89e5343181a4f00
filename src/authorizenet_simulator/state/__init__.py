"""What the simulator remembers, and the journal that makes it durable."""
