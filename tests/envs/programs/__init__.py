"""Tests of the workflow programs."""
