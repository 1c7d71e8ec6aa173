"""Pipelines that record: a mixin, concrete classes, and recording a stock pipeline."""
