"""Realistic data for tests and trials: `easypay db seed`. Nothing here runs in a gateway."""
