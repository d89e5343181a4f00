"""Saved results beside each other: two of them, or all of them over time."""
