"""Workflow programs: typed graphs of operators that are edited, written down, compiled to steps and evaluated."""
