"""The export of payments: any filter, from one snapshot, streamed."""
