"""Measurements against named peers in the same run; raw numbers are kept in benchmarks/results/."""
