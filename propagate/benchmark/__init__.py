"""Benchmarks: run configurations over a data set and score them side by side."""
