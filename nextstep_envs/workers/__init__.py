"""Workers: who does the work of a step."""
