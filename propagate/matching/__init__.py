"""Matching: pure functions from what is remembered and a frame's features to its labels."""
