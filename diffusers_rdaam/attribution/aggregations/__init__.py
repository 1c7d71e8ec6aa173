"""Aggregations: named recipes by which sites, heads and calls become one map of a word."""
