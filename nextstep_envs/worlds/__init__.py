"""Worlds: the domains in which workers act."""
