"""One gateway process: composition, socket, protocol, stop."""
