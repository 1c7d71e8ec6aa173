"""Data sets on disk, read where they lie; one file a format."""
