"""Tests of recorded workers."""
