"""What one run records: text, self-attention, other texts, queries."""
