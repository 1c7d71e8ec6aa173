"""Evaluation of attention maps against masks: data sets on disk, published protocols, metrics."""
