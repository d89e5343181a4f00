"""The command line: `easypay …`, one module for each group of commands."""
