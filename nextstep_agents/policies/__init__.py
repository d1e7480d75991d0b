"""Policies: what decides."""
