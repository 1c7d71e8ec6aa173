"""Measures of a map or a mask against the truth, and their intervals; plain numpy."""
