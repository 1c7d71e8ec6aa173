"""The first run on a GPU that nobody has tried: ten steps, one report."""
