"""Tests of the tools that models may call."""
