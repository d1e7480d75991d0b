"""Tests of nextstep_envs."""
