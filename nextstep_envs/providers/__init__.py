"""Providers: what answers requests."""
