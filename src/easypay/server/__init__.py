"""One gateway process: what it is made of, its socket, its protocol, its stop."""
