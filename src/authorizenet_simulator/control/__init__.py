"""The control surface under /simulator, for tests and for debugging."""
