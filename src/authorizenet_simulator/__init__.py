"""A simulator of Authorize.Net: serves its API from a process of its own."""
