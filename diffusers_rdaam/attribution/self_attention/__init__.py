"""The image's attention to itself."""
