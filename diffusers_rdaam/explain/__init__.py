"""Explanations that run the model again: gradients, and generation without a word."""
