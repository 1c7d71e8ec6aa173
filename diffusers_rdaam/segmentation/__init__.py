"""Masks as data sets: label maps of words, their refinement, filters, and COCO and VOC files."""
