"""Core tags: what never changes about a concept, found in captions and left out of them.

Status: free.
"""
