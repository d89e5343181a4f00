"""`easypay loadtest`: latency of the gateway, measured from when each request was due."""
