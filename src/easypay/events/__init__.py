"""The feed: what happened, in an order that every reader can follow."""
