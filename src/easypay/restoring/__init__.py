"""The time after a restore: what the processor did and the restored database does not know."""
