"""The records of one run: the text, self-attention, other texts, queries."""
