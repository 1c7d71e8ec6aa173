"""Explanations by generating without words."""
