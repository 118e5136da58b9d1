"""Benchmarks: configurations run over a data set and scored side by side."""
