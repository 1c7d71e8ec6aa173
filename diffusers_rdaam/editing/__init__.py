"""Saved attention, and attention that is put in the place of computed attention."""
