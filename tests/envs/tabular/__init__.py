"""Tests of the tabular constrained MDPs."""
