"""Preallocated sums of probabilities."""
