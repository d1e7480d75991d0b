"""Rollouts: a policy plays many episodes side by side, and what happened is written down. Needs no torch."""
