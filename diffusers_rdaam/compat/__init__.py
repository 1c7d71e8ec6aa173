"""The predecessors' own code on this package: change the import, and it runs.

Each module has the names, signatures, results and errors of one predecessor, over the recording and
the attribution of this package. Where a predecessor was right the numbers are its own; where it was
not, ours are right, and ``docs/migrating.md`` says where and why.
"""
