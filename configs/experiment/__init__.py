"""Frozen settings of published results."""
