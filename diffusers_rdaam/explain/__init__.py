"""What runs the model again: other texts, gradients, generation without a word, editing."""
