"""A merchant's account: credentials, permissions and requests about the account itself."""
