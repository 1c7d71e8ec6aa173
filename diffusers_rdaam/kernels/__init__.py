"""From queries and keys to head-mean attention probabilities, added into preallocated planes."""
