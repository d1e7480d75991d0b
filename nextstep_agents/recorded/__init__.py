"""Baselines and bounds for question routing on recorded answers: whom to ask, in numpy, for all questions at once."""
