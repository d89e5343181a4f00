"""Customers and their stored payment methods: the processor's vault, mirrored here."""
