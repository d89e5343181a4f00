"""Card processors. Knows nothing of payments: requests in, outcomes out."""
