"""The control API and page under /simulator, for tests and for debugging."""
