"""What frozen layers keep for the backward pass: as little as possible, the rest is computed again.

Status: free.
"""
