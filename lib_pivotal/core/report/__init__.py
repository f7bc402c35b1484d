"""Numbers made visible.

Status: free.
"""
