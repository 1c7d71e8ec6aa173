"""The folder of a model: what is wrong with its files, and its loading."""
