"""Attributions as files."""
