"""Tests of worlds of questions."""
