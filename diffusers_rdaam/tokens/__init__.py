"""One text: which columns of the attention are which characters."""
