"""Recorded workers: what real models answered, question by question, as workers that never wait."""
