"""Transformers of diffusers: which modules attend to text, and what a call's arguments say."""
