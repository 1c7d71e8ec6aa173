"""Many prompts: a file of rows in, a data set of images, maps, words and masks out, on Ray or not.

One row is one image with a generator of its own, and which rows share a file depends on nothing but
their number. So the files are the same, byte for byte, over any number of workers, and after any
number of interrupts.
"""
