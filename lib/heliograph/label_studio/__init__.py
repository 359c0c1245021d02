"""The bridge to Label Studio: tasks of a queue become its tasks, its annotations become labels. Plain HTTP.

Geometry is in shares of the image, 0 to 1, everywhere else; only ``convert`` knows Label Studio's percents.
"""
