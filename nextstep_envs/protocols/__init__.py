"""Protocols: what an action means. Rules only, no I/O."""
