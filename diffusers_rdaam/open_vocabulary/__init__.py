"""Texts that are not in the prompt."""
