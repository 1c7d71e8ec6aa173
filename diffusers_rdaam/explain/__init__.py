"""What needs the model once more: other texts, optimised tokens."""
