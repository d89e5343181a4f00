"""`easypay loadtest`: how the gateway answers, told from when each request was due."""
