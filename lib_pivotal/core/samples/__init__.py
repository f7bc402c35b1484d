"""A small drawn data set that comes with the extension, so that a first run needs no preparation.

Status: free.
"""
