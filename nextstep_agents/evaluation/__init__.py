"""Evaluation: how policies are compared."""
