"""Explanations by gradients."""
