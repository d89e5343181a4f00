"""Old months: exported to files, taken out of the database, and brought back."""
