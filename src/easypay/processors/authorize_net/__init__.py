"""Authorize.Net over its JSON API."""
