"""A stand-in for Authorize.Net: the other side of its wire, on a program's own port."""
