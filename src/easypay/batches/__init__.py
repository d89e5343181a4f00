"""Files of payments, captures, refunds and voids: uploaded, checked and run by workers."""
