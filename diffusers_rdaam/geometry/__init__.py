"""Regions of an image in pixels, and the way between pixels and grids."""
