"""The evidence: maps, boxes and words against what is really in the embedded models' images."""
