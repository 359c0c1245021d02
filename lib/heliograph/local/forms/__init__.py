"""Data sets in each form that an agent indexes, split into parts of the same form.

The part is written as its source is: same delimiter, encoding and header, same arrays, same directories. A script's own
line that reads the source reads the part.
"""
